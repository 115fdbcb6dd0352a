"""A pair (or a larger pool) of models that share a chain of thought, and how to run it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property

import msgspec

from stepwise.backends import checkpoint
from stepwise.engine.backend import Backend, StreamingBackend
from stepwise.engine.cost import CostModel, Dollars, Flops, Seconds, Tokens
from stepwise.engine.engine import Engine
from stepwise.engine.judge import Judge
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import ConfigError
from stepwise.models.model import Choice, Model, options_of
from stepwise.models.speeds import load_speeds
from stepwise.store.backend import StoredBackend
from stepwise.store.steps import Store

COSTS = ("flops", "tokens", "dollars", "seconds")
DEFAULT_BACKEND = "transformers"


class Pair(msgspec.Struct, frozen=True, dict=True, forbid_unknown_fields=True):
    """Models ordered by price, with the prompt and the step rule that they share.

    Attributes:
        name: shown in reports and stored in policy artifacts.
        models: at least one, cheapest first; the first writes drafts.
        prompt: template with ``{question}``.
        separator: text that ends a step (`stepwise.engine.boundaries`).
        max_step_tokens: a step that grows longer ends there, and the chain goes on.
        max_steps: a chain with this many steps ends.
        max_tokens: so does one with this many tokens; by default ``max_steps * max_step_tokens``.
        sentences_after: characters from which on a step also ends with a line or a sentence, for models that
            do not write the separator; by default none.
        judge: a model that grades drafts, for routers that ask for a verdict; None for none.
        judge_suffix: text that asks it; empty for a reward model trained to answer right away.
        estimator: a model that estimates the others before a chain begins (`engine.prior`), for its tokens to
            be priced; None for none.
        conversation: whether the models take system messages and earlier turns, by their own chat templates.
        system: what the system message of a conversation begins with, in which ``prompt`` is not used.
        seconds: a file of measured speeds, for cost in seconds (`stepwise.models.speeds`).
        preamble: charge every chain for reading what all prompts begin with; if not, what the server's prefix
            cache holds of it is not charged.
        purpose: what its models can be asked, in a sentence; shown to who is about to ask them.
    """

    name: str
    models: tuple[Model, ...]
    prompt: str
    separator: str = "\n"
    max_step_tokens: int = 128
    max_steps: int = 32
    max_tokens: int | None = None
    sentences_after: int | None = None
    judge: Model | None = None
    judge_suffix: str = ""
    estimator: Model | None = None
    conversation: bool = True
    system: str = ""
    seconds: str = ""
    preamble: bool = True
    purpose: str = ""

    def __post_init__(self) -> None:
        names = [model.name for model in self.everyone]
        if not self.models or len(set(names)) != len(names):
            raise ConfigError(f"pair {self.name!r}: models need distinct names, got {names}.")
        if "{question}" not in self.prompt:
            raise ConfigError(f"prompt must contain {{question}}, which {self.prompt!r} does not.")
        msgspec.structs.force_setattr(self, "models", tuple(self.models))
        _ = self.rule  # refuses a separator or limits that cannot work

    @property
    def everyone(self) -> tuple[Model, ...]:
        """The models that write, the judge and the estimator."""
        return (*self.models, *(model for model in (self.judge, self.estimator) if model))

    @property
    def rule(self) -> StepRule:
        """Where steps and chains end."""
        return StepRule(
            self.separator, self.max_step_tokens, self.max_steps,
            max_tokens=self.max_tokens, sentences_after=self.sentences_after,
        )  # fmt: skip

    @cached_property
    def identity(self) -> str:
        """Identifies weights, tokenizers, prompt and step rule: what a policy was trained on.

        Raises:
            ConfigError: if a checkpoint is missing or damaged.
        """
        parts = [f"{model.name}={model.identity}" for model in self.models]
        own = [f"{m.name}: {m.prompt} {m.think_end} {m.stop}" for m in self.models if m.prompt or m.stop]
        limits = [(name, getattr(self, name)) for name in ("max_tokens", "sentences_after")]
        own += [f"{name}={value}" for name, value in limits if value is not None]
        text = "|".join([*parts, self.prompt, *own, repr(self.rule)])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def cost_model(self, unit: str) -> CostModel:
        """How usage is priced: "flops", "tokens", "dollars" or "seconds".

        Raises:
            ConfigError: if there is no such unit, or the pair lacks what it takes.
        """
        if unit not in COSTS:
            raise ConfigError(f"cost must be one of {', '.join(COSTS)}, not {unit!r}.")
        if unit == "tokens":
            return Tokens()
        if unit == "flops":
            return Flops({model.name: model.size for model in self.everyone})
        if unit == "seconds":
            return self._seconds()
        unpriced = [model.name for model in self.everyone if model.price is None]
        if unpriced:
            raise ConfigError(f"model {unpriced[0]!r} has no price; add one to the pair or use cost=flops.")
        return Dollars({model.name: model.price for model in self.everyone if model.price})

    def _seconds(self) -> Seconds:
        if not self.seconds:
            raise ConfigError(
                f"cost: pair {self.name!r} names no file of measured seconds; add seconds: FILE to the pair "
                "(python -m scripts.bench seconds writes one) or use cost=flops."
            )
        cost = load_speeds(self.seconds)
        if unmeasured := [model.name for model in self.everyone if model.name not in cost.speeds]:
            raise ConfigError(f"seconds: {self.seconds} has no speed of model {unmeasured[0]!r}.")
        return cost

    def engine(
        self,
        *,
        backend: Choice = DEFAULT_BACKEND,
        models: Sequence[str] | None = None,
        cost: str = "flops",
        store: Store | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        lookahead: bool | None = None,
        failover: bool = False,
    ) -> Engine:
        """Load the models, or connect to them, and return an engine.

        Args:
            backend: of models that name none: "transformers", "vllm", or a mapping with its options,
                ``{"name": "vllm", "dtype": "bfloat16"}``.
            models: names of the models to load, cheapest first; by default the smallest and the
                largest of the pool.
            cost: "flops", "tokens", "dollars" or "seconds".
            store: completions seen before.
            temperature: 0 is greedy.
            top_p: nucleus mass, in (0, 1].
            seed: of sampling.
            lookahead: let models write on past the end of a step, where their backend can be read while it
                writes. By default vLLM in process does, where nothing is stored.
            failover: when a model cannot be run, let another one write the step.

        Raises:
            ConfigError: if a name is unknown, or a checkpoint is missing or damaged; all of them
                are checked before any model loads.
        """
        cost_model, default = self.cost_model(cost), options_of(backend)
        backends = self.open(backend=backend, models=models)
        if store is not None:
            backends = {name: StoredBackend(opened, store) for name, opened in backends.items()}
        readable = [m for m in self.models if isinstance(backends.get(m.name), StreamingBackend)]
        ahead = [m.name for m in readable if lookahead or (m.options or default).looks_ahead]
        return self.over(
            backends, cost=cost_model, temperature=temperature, top_p=top_p, seed=seed,
            lookahead=() if lookahead is False else ahead, failover=failover,
        )  # fmt: skip

    def open(
        self, *, backend: Choice = DEFAULT_BACKEND, models: Sequence[str] | None = None
    ) -> dict[str, Backend]:
        """The models by name, and the judge among them; arguments and errors as of `engine`."""
        chosen, default = self.select(models), options_of(backend)
        loaded = (*chosen, self.judge) if self.judge else chosen
        here = [model for model in loaded if not model.remote]
        for model in here:
            checkpoint.resolve(model.path)
        return {model.name: model.open(default, share=len(here)) for model in loaded}

    def over(
        self,
        backends: Mapping[str, Backend],
        *,
        cost: CostModel,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        lookahead: Collection[str] = (),
        failover: bool = False,
    ) -> Engine:
        """An engine over backends of these models, and of the judge, that are open already.

        Args:
            lookahead: names of models that write on past the end of a step.
            cost: what usage costs.
            temperature: as of `engine`, and so are ``top_p``, ``seed`` and ``failover``.
        """
        running = [model for model in (*self.models, self.judge) if model and model.name in backends]
        judge = self.judge if self.judge in running else None
        return Engine(
            {model.name: backends[model.name] for model in running if model is not judge},
            prompt=self.prompt,
            prompts={m.name: m.prompt for m in running if m.prompt},
            think_ends={m.name: m.think_end for m in running if m.think_end},
            stops={m.name: m.stop for m in running if m.stop},
            rule=self.rule,
            cost=cost,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            judge=Judge(backends[judge.name], self.judge_suffix, judge.name) if judge else None,
            lookahead=lookahead,
            failover=failover,
            system=self.system if self.conversation else None,
            preamble=self.preamble,
        )

    def select(self, names: Sequence[str] | None = None) -> tuple[Model, ...]:
        """Models by name in the pool's order; the cheapest and the most expensive by default."""
        if names is None:
            return self.models[:1] + self.models[-1:] if len(self.models) > 1 else self.models
        known = [model.name for model in self.models]
        for name in names:
            if name not in known:
                raise ConfigError(f"model must be one of {', '.join(known)}, not {name!r}.")
        return tuple(model for model in self.models if model.name in names)
