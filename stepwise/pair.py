"""A pair (or a larger pool) of models that share a chain of thought, and how to run it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from stepwise.backends import BACKENDS, checkpoint, open_backend
from stepwise.backends.base import Backend
from stepwise.cost import CostModel, Dollars, Flops, Price, Tokens
from stepwise.engine import Engine
from stepwise.errors import ConfigError
from stepwise.judge import Judge
from stepwise.stepping import StepRule
from stepwise.store import Store
from stepwise.stored import StoredBackend

COSTS = ("flops", "tokens", "dollars")


@dataclass(frozen=True, slots=True)
class Model:
    """One model of a pool: its name in traces, where its checkpoint lies, what it costs."""

    name: str
    path: str
    price: Price | None = None


@dataclass(frozen=True)
class Pair:
    """Models ordered by price, with the prompt and the step rule that they share.

    Attributes:
        name: shown in reports and stored in policy artifacts.
        models: at least one, cheapest first; the first writes drafts.
        prompt: template with ``{question}``.
        separator: text that ends a step.
        judge: a model that grades drafts, for routers that ask for a verdict; None for none.
        judge_suffix: text that asks it; empty for a reward model trained to answer right away.
    """

    name: str
    models: tuple[Model, ...]
    prompt: str
    separator: str = "\n"
    max_step_tokens: int = 128
    max_steps: int = 32
    judge: Model | None = None
    judge_suffix: str = ""

    def __post_init__(self) -> None:
        names = [model.name for model in self.everyone]
        if not self.models or len(set(names)) != len(names):
            raise ConfigError(f"pair {self.name!r}: models need distinct names, got {names}.")
        if "{question}" not in self.prompt:
            raise ConfigError(f"prompt must contain {{question}}, which {self.prompt!r} does not.")
        object.__setattr__(self, "models", tuple(self.models))
        _ = self.rule  # refuses a separator or limits that cannot work

    @property
    def everyone(self) -> tuple[Model, ...]:
        """The models that write, and the judge."""
        return (*self.models, self.judge) if self.judge else self.models

    @property
    def rule(self) -> StepRule:
        return StepRule(self.separator, self.max_step_tokens, self.max_steps)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies weights, tokenizers, prompt and step rule: what a policy was trained on.

        Raises:
            ConfigError: if a checkpoint is missing or damaged.
        """
        parts = [f"{model.name}={checkpoint.revision(model.path)}" for model in self.models]
        text = "|".join([*parts, self.prompt, repr(self.rule)])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def cost_model(self, unit: str) -> CostModel:
        """How usage is priced: "flops", "tokens" or "dollars"."""
        if unit not in COSTS:
            raise ConfigError(f"cost must be one of {', '.join(COSTS)}, not {unit!r}.")
        if unit == "tokens":
            return Tokens()
        if unit == "flops":
            return Flops({model.name: checkpoint.parameters(model.path) for model in self.everyone})
        unpriced = [model.name for model in self.everyone if model.price is None]
        if unpriced:
            raise ConfigError(f"model {unpriced[0]!r} has no price; add one to the pair or use cost=flops.")
        return Dollars({model.name: model.price for model in self.everyone if model.price})

    def engine(
        self,
        *,
        backend: str = "transformers",
        models: Sequence[str] | None = None,
        cost: str = "flops",
        store: Store | None = None,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Engine:
        """Load the models and return an engine.

        Args:
            backend: "transformers" (in this process) or "vllm".
            models: names of the models to load, cheapest first; by default the smallest and the
                largest of the pool.
            cost: "flops", "tokens" or "dollars".
            store: completions seen before.

        Raises:
            ConfigError: if a name is unknown, or a checkpoint is missing or damaged; all of them
                are checked before any model loads.
        """
        chosen = self.select(models)
        if backend not in BACKENDS:
            raise ConfigError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}.")
        loaded = (*chosen, self.judge) if self.judge else chosen
        for model in loaded:
            checkpoint.resolve(model.path)
        price = self.cost_model(cost)
        backends: dict[str, Backend] = {}
        for model in loaded:
            opened = open_backend(backend, model.path, share=len(loaded))
            backends[model.name] = opened if store is None else StoredBackend(opened, store)
        judge = None
        if self.judge:
            judge = Judge(backends.pop(self.judge.name), self.judge_suffix, self.judge.name)
        return Engine(
            backends, prompt=self.prompt, rule=self.rule, cost=price, temperature=temperature, seed=seed,
            judge=judge,
        )  # fmt: skip

    def select(self, names: Sequence[str] | None = None) -> tuple[Model, ...]:
        """Models by name in the pool's order; the cheapest and the dearest by default."""
        if names is None:
            return self.models[:1] + self.models[-1:] if len(self.models) > 1 else self.models
        known = [model.name for model in self.models]
        for name in names:
            if name not in known:
                raise ConfigError(f"model must be one of {', '.join(known)}, not {name!r}.")
        return tuple(model for model in self.models if model.name in names)


def _nano() -> Pair:
    folder = Path(str(files("stepwise") / "assets" / "nano"))
    names = ("small", "middle", "large")
    return Pair("nano", tuple(Model(name, str(folder / name)) for name in names), prompt="{question}\n")


PAIRS = {"nano": _nano}


def load_pair(name: str, judge: str | None = None) -> Pair:
    """A pair that ships with stepwise.

    Args:
        name: "nano".
        judge: checkpoint of a process reward model for it (see `scripts.train_prm`).

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in PAIRS:
        raise ConfigError(
            f"pair must be one of {', '.join(PAIRS)}, not {name!r}; "
            "for models of your own build a stepwise.Pair (see configs/pair)."
        )
    return replace(PAIRS[name](), judge=Model("judge", judge) if judge else None)
