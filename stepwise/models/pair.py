"""A pair (or a larger pool) of models that share a chain of thought, and how to run it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stepwise.backends import BACKENDS, checkpoint, open_backend
from stepwise.backends.http.resilient import Patience, resilient
from stepwise.engine.backend import Backend, StreamingBackend
from stepwise.engine.cost import CostModel, Dollars, Flops, Price, Tokens
from stepwise.engine.engine import Engine
from stepwise.engine.judge import Judge
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import ConfigError
from stepwise.store.backend import StoredBackend
from stepwise.store.sqlite import Store

COSTS = ("flops", "tokens", "dollars")
APIS = ("completions", "chat")


@dataclass(frozen=True, slots=True)
class Model:
    """One model of a pool: where it is, how it is asked, what it costs.

    A model with a ``base_url`` is reached over HTTP; others run in this process.

    Attributes:
        name: in traces.
        path: folder of a checkpoint, or the id of a hub model. Behind HTTP it may be left out if
            ``tokenizer``, ``parameters`` and ``context`` say what else would be read from it.
        price: for cost in dollars.
        prompt: template with ``{question}``, where the pair's does not suit it.
        think_end: text that ends its thinking, such as ``</think>``.
        stop: a step that contains one of these strings ends its answer.
        base_url: of an OpenAI-compatible server, up to and including ``/v1``.
        api: "completions" (vLLM: token ids in both directions) or "chat" (any server).
        served_name: its name on the server; by default the path.
        api_key_env: name of the environment variable with the server's key.
        tokenizer: folder or hub id of its tokenizer; by default the path.
        parameters: number of parameters, where no checkpoint tells.
        context: tokens of prompt and answer together (characters for "chat").
        concurrency: calls in flight at most.
        continues: a chat server that can continue the assistant's message (vLLM, SGLang).
        logprobs: a chat server that returns log-probabilities.
        revision: identifies the weights, where no checkpoint tells.
    """

    name: str
    path: str = ""
    price: Price | None = None
    prompt: str = ""
    think_end: str = ""
    stop: tuple[str, ...] = ()
    base_url: str = ""
    api: str = "completions"
    served_name: str = ""
    api_key_env: str = ""
    tokenizer: str = ""
    parameters: int | None = None
    context: int | None = None
    concurrency: int = 256
    continues: bool = False
    logprobs: bool = False
    revision: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", tuple(self.stop))
        for wrong, sentence in (
            (self.api not in APIS, f"api must be one of {', '.join(APIS)}, not {self.api!r}."),
            (not self.path and not self.base_url, "it needs a path or a base_url."),
            (not self.name, "name must not be empty."),
            ("" in self.stop, "stop must not contain an empty string."),
            (
                self.context is not None and self.context < 2,
                f"context must be at least 2, not {self.context}.",
            ),
            (
                self.parameters is not None and self.parameters < 1,
                f"parameters must be at least 1, not {self.parameters}.",
            ),
            (self.concurrency < 1, f"concurrency must be at least 1, not {self.concurrency}."),
            (
                bool(self.prompt) and "{question}" not in self.prompt,
                f"prompt must contain {{question}}, which {self.prompt!r} does not.",
            ),
        ):
            if wrong:
                raise ConfigError(f"model {self.name!r}: {sentence}")

    @property
    def identity(self) -> str:
        """Of the weights: a hash of the checkpoint where there is one, else what the pair says."""
        if self.path and (not self.base_url or Path(self.path).is_dir()):
            return checkpoint.revision(self.path)
        return f"{self.served_name or self.path} {self.revision}".strip()

    @property
    def size(self) -> int:
        """Number of parameters.

        Raises:
            ConfigError: if neither the pair nor a checkpoint tells.
        """
        if self.parameters is not None:
            return self.parameters
        if self.path and (not self.base_url or Path(self.path).is_dir()):
            return checkpoint.parameters(self.path)
        raise ConfigError(f"model {self.name!r}: cost=flops needs parameters; add them to the pair.")


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
        estimator: a model that estimates the others before a chain begins (`engine.prior`), for its tokens to
            be priced; None for none.
    """

    name: str
    models: tuple[Model, ...]
    prompt: str
    separator: str = "\n"
    max_step_tokens: int = 128
    max_steps: int = 32
    judge: Model | None = None
    judge_suffix: str = ""
    estimator: Model | None = None

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
        """The models that write, the judge and the estimator."""
        return (*self.models, *(model for model in (self.judge, self.estimator) if model))

    @property
    def rule(self) -> StepRule:
        return StepRule(self.separator, self.max_step_tokens, self.max_steps)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies weights, tokenizers, prompt and step rule: what a policy was trained on.

        Raises:
            ConfigError: if a checkpoint is missing or damaged.
        """
        parts = [f"{model.name}={model.identity}" for model in self.models]
        own = [f"{m.name}: {m.prompt} {m.think_end} {m.stop}" for m in self.models if m.prompt or m.stop]
        text = "|".join([*parts, self.prompt, *own, repr(self.rule)])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def cost_model(self, unit: str) -> CostModel:
        """How usage is priced: "flops", "tokens" or "dollars"."""
        if unit not in COSTS:
            raise ConfigError(f"cost must be one of {', '.join(COSTS)}, not {unit!r}.")
        if unit == "tokens":
            return Tokens()
        if unit == "flops":
            return Flops({model.name: model.size for model in self.everyone})
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
        top_p: float = 1.0,
        seed: int = 0,
        lookahead: bool | None = None,
        failover: bool = False,
        patience: Patience | None = None,
    ) -> Engine:
        """Load the models, or connect to them, and return an engine.

        Args:
            backend: "transformers" (in this process) or "vllm"; for models without a ``base_url``.
            models: names of the models to load, cheapest first; by default the smallest and the
                largest of the pool.
            cost: "flops", "tokens" or "dollars".
            store: completions seen before.
            temperature: 0 is greedy.
            top_p: nucleus mass, in (0, 1].
            seed: of sampling.
            lookahead: let models write on past the end of a step, where their backend can be read while it
                writes. By default vLLM in process does, where nothing is stored.
            failover: when a model cannot be run, let another one write the step.
            patience: with models behind HTTP.

        Raises:
            ConfigError: if a name is unknown, or a checkpoint is missing or damaged; all of them
                are checked before any model loads.
        """
        chosen = self.select(models)
        if backend not in BACKENDS:
            raise ConfigError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}.")
        loaded = (*chosen, self.judge) if self.judge else chosen
        here = [model for model in loaded if not model.base_url]
        for model in here:
            checkpoint.resolve(model.path)
        price = self.cost_model(cost)
        backends: dict[str, Backend] = {}
        for model in loaded:
            opened = (
                connect(model, patience)
                if model.base_url
                else open_backend(backend, model.path, share=len(here))
            )
            backends[model.name] = opened if store is None else StoredBackend(opened, store)
        judge = None
        if self.judge:
            judge = Judge(backends.pop(self.judge.name), self.judge_suffix, self.judge.name)
        readable = [name for name, opened in backends.items() if isinstance(opened, StreamingBackend)]
        fast = [m.name for m in here if backend == "vllm" and m.name in readable]
        return Engine(
            backends,
            prompt=self.prompt,
            prompts={m.name: m.prompt for m in loaded if m.prompt},
            think_ends={m.name: m.think_end for m in loaded if m.think_end},
            stops={m.name: m.stop for m in loaded if m.stop},
            rule=self.rule,
            cost=price,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            judge=judge,
            lookahead=fast if lookahead is None else readable if lookahead else (),
            failover=failover,
        )

    def select(self, names: Sequence[str] | None = None) -> tuple[Model, ...]:
        """Models by name in the pool's order; the cheapest and the dearest by default."""
        if names is None:
            return self.models[:1] + self.models[-1:] if len(self.models) > 1 else self.models
        known = [model.name for model in self.models]
        for name in names:
            if name not in known:
                raise ConfigError(f"model must be one of {', '.join(known)}, not {name!r}.")
        return tuple(model for model in self.models if model.name in names)


def connect(model: Model, patience: Patience | None = None) -> Backend:
    """A model behind HTTP, with retries and a breaker.

    Raises:
        ConfigError: if something is missing that the connection needs, or the server, which need not
            be up yet, does not know the model.
    """
    from stepwise.backends.http.chat import ChatBackend
    from stepwise.backends.http.completions import CompletionsBackend
    from stepwise.backends.http.endpoint import Endpoint
    from stepwise.backends.http.probe import served_models

    endpoint = Endpoint(model.base_url, api_key_env=model.api_key_env)
    served, identity = model.served_name or model.path or model.name, model.identity
    known = served_models(model.base_url, model.api_key_env)
    if known is not None and served not in known:
        raise ConfigError(
            f"model {model.name!r}: served_name must be one of {', '.join(known)}, which {model.base_url} "
            f"serves, not {served!r}."
        )
    limit = (known or {}).get(served)
    opened: Backend
    if model.api == "chat":
        opened = ChatBackend(
            endpoint, served, continues=model.continues, logprobs=model.logprobs,
            context=model.context or 400_000, parameters=model.parameters or 0, revision=identity,
        )  # fmt: skip
    else:
        tokenizer = model.tokenizer or model.path
        if not tokenizer:
            raise ConfigError(
                f"model {model.name!r}: api=completions needs a tokenizer (a folder or a hub id)."
            )
        context = model.context or limit or checkpoint.context(tokenizer)
        opened = CompletionsBackend(
            endpoint, served, tokenizer=tokenizer, context=context, parameters=model.parameters or 0,
            revision=identity,
        )  # fmt: skip
    return resilient(opened, model.name, patience=patience, concurrency=model.concurrency)
