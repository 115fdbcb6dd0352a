"""Options that several commands share."""

from __future__ import annotations

import argparse
from typing import TypeAlias

from stepwise.backends.options import known_backends
from stepwise.models.pair import COSTS, DEFAULT_BACKEND
from stepwise.routers.named import RULES

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What a command registers itself with."""


def add_routing(command: argparse.ArgumentParser) -> None:
    """Which models run, and which router chooses among them."""
    add_router(command)
    add = command.add_argument
    backends = ", ".join(known_backends())
    add(
        "--backend",
        help=f"for models that name none: {backends} (default: {DEFAULT_BACKEND})",
    )  # fmt: skip
    add(
        "--backend-option", action="append", default=[], metavar="[MODEL.]OPTION=VALUE",
        help="of that backend, or of a model's own: dtype=bfloat16, large.patience={deadline_s: 10}",
    )  # fmt: skip
    add("--cost", choices=COSTS, default="flops", help="unit of cost (default: flops)")


def add_router(command: argparse.ArgumentParser, default: str | None = "nano-ppo") -> None:
    """A router, and the pair that it is for."""
    add = command.add_argument
    add("--pair", default="nano", help="'nano', or a YAML file of models (default: nano)")
    rules = ", ".join(RULES)
    add(
        "--router", default=default,
        help=f"'nano-ppo', a policy's folder, a rule ({rules}; needs --threshold), a model's name, an "
        "installed router, or module:Class",
    )  # fmt: skip
    knob = command.add_mutually_exclusive_group()
    knob.add_argument(
        "--budget",
        type=float,
        help="most cost, on average, as a fraction of large-only cost, not dollars (default: 0.4)",
    )
    knob.add_argument(
        "--threshold",
        type=float,
        help="the router's threshold, instead of a budget (of policies and rules: higher = cheaper)",
    )
    add(
        "--max-accuracy-loss", type=float,
        help="largest share of problems that the large model gets right and routing gets wrong",
    )  # fmt: skip


def positive(text: str) -> int:
    """An integer of at least 1, as argparse reads it."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return value
