"""What the command line says of routers that choose by SCOPE's estimates (`stepwise.gateway.scoped`)."""

from __future__ import annotations

import argparse

from stepwise.errors import ConfigError

SCOPED = ("scope", "seeded")
"""One model for the whole chain; a policy whose first step is written by the model that SCOPE chooses."""
ALPHA = 0.5


def add_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--anchors", help="SCOPE's anchors.json, for --router scope or seeded and for the page's estimates")
    add("--fingerprints", help="SCOPE's fingerprints.db on those anchors")
    add(
        "--alpha",
        type=float,
        help=f"how scope and seeded weigh: 0 looks at cost alone, 1 at correctness (default: {ALPHA})",
    )
    add("--policy", default="nano-ppo", help="what continues a seeded chain (default: %(default)s)")


def check(options: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        ConfigError: the sentence names them.
    """
    if (options.anchors is None) != (options.fingerprints is None):
        raise ConfigError("anchors and fingerprints: pass both, or neither.")
    if options.router not in SCOPED:
        if options.alpha is not None:
            raise ConfigError(f"alpha: the router {options.router!r} has none; use {' or '.join(SCOPED)}.")
        return
    if options.anchors is None:
        raise ConfigError(
            f"router {options.router!r} needs --anchors and --fingerprints, "
            "which `stepwise scope import` or `stepwise fingerprint run` makes."
        )
    if options.alpha is not None and not 0 <= options.alpha <= 1:
        raise ConfigError(f"alpha must lie in [0, 1], not {options.alpha:g}.")
    targets = ("budget", "threshold", "max_accuracy_loss")
    wrong = [name for name in targets if getattr(options, name) is not None]
    if options.router == "scope" and wrong:
        raise ConfigError(f"{wrong[0]}: the router 'scope' takes an alpha; requests may set a budget.")
