"""Models that write into a recording: those of this process, or with ``cluster=ray`` of a cluster's workers.

Workers keep no records. A call takes along what is recorded of its problem and brings home what is new, and
the driver alone writes: a recording is one folder wherever its chains are grown.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import msgspec
from omegaconf import DictConfig

from scripts.cluster import resolved, service_of
from scripts.settings import backend_of
from stepwise.cluster.pool import Pool
from stepwise.engine.backend import Backend
from stepwise.engine.chain import Chain as Growing
from stepwise.errors import BackendError
from stepwise.evaluation.run import Contender
from stepwise.models.pair import Pair
from stepwise.recording.folder import Recording
from stepwise.recording.recorder import Prompts, Recorder, Records
from stepwise.recording.records import Chain, Node, Outcome, Question, Read, Record, question_hash
from stepwise.recording.tree import Tree
from stepwise.types import Problem, Trace
from stepwise.verify import correct

RULE = ("separator", "max_step_tokens", "max_steps", "max_tokens", "sentences_after")
"""What a pair says of where steps and chains end."""


class Writer(Protocol):
    """Grows chains into a recording."""

    async def solve(self, problem: Problem, contender: Contender) -> str | None:
        """One chain; why it failed, if it did."""
        ...

    async def grow(self, problem: Problem, depth: int) -> None:
        """Every chain of at most ``depth`` steps."""
        ...


class Here:
    """Grows chains with models of this process.

    Args:
        cfg: settings of `scripts.record.Record`.
        problems: whose chains may be grown.
        records: where they go.
    """

    def __init__(
        self,
        cfg: DictConfig,
        pair: Pair,
        models: Mapping[str, Backend],
        problems: Iterable[Problem],
        records: Records,
    ) -> None:
        prompts, self._records = Prompts(), records
        backends = {
            name: Recorder(backend, name, prompts, records, pair.max_step_tokens)
            for name, backend in models.items()
        }
        for problem in problems:
            records.add(question(problem, cfg.split, pair, backends, prompts))
        self._engine = pair.over(backends, cost=pair.cost_model(cfg.cost))

    async def solve(self, problem: Problem, contender: Contender) -> str | None:
        trace = await self._engine.attempt(problem, contender.router)
        if trace.error is None:
            await self._keep(trace, contender)
        return trace.error

    async def grow(self, problem: Problem, depth: int) -> None:
        await self._grow(self._engine.start(problem), depth)

    async def _grow(self, chain: Growing, depth: int) -> None:
        trace = chain.trace
        if trace.stop is not None:
            await self._judge(trace)
        elif len(trace.steps) < depth:
            grown = (self._grow_by(chain.fork(), model, depth) for model in self._engine.models)
            await asyncio.gather(*grown)

    async def _grow_by(self, chain: Growing, model: str, depth: int) -> None:
        await self._engine.advance(chain, model)
        await self._grow(chain, depth)

    async def _keep(self, trace: Trace, contender: Contender) -> None:
        """A whole chain's outcome."""
        (name, knob), right = contender.key, await self._judge(trace)
        tokens = {model: usage.completion + usage.discarded for model, usage in trace.usage.items()}
        ended = str(trace.stop), trace.answer, right, len(trace.steps), tokens
        self._records.add(Chain(trace.problem.id, name, knob, *ended))

    async def _judge(self, trace: Trace) -> bool:
        right = bool(await correct(trace))
        self._records.add(Outcome(trace.problem.id, trace.answer, right))
        return right


class Notes:
    """Records in memory.

    Attributes:
        new: those that were not known.
    """

    def __init__(self, known: Iterable[Record]) -> None:
        self.tree = Tree(known)
        self.new: list[Record] = []

    def add(self, record: Record) -> None:
        if self.tree.add(record):
            self.new.append(record)


class Models:
    """Open models, as a service of a cluster's workers.

    Attributes:
        about: what a recording of them is a recording of.
    """

    def __init__(self, cfg: DictConfig, pair: Pair) -> None:
        self._cfg, self._pair = cfg, pair
        self._models = pair.open(backend=backend_of(cfg), models=cfg.models)
        self.about = about(pair, cfg, self._models)

    def into(self, records: Records, problems: Iterable[Problem]) -> Here:
        """What grows chains with these models."""
        return Here(self._cfg, self._pair, self._models, problems, records)

    async def __call__(
        self, problem: Problem, known: Sequence[Record], method: str, argument: Any
    ) -> tuple[list[Record], str | None]:
        """What is new after a call of a `Writer`, and what the call returned."""
        notes = Notes(known)
        returned = await getattr(self.into(notes, [problem]), method)(problem, argument)
        return notes.new, returned

    async def close(self) -> None:
        await asyncio.gather(*(model.close() for model in self._models.values()))


@dataclass(frozen=True)
class Opening:
    """Opens the models in any process.

    Attributes:
        cfg: settings of `scripts.record.Record`; resolved.
    """

    cfg: DictConfig
    pair: Pair

    def __call__(self) -> Models:
        return Models(self.cfg, self.pair)


class OnCluster:
    """Grows chains on the workers of a pool, whose service is `Models`."""

    def __init__(self, pool: Pool, recording: Recording) -> None:
        self._pool, self._recording = pool, recording
        self._known = defaultdict[str, list[Record]](list)
        for node in recording.tree.nodes:
            self._known[node.problem].append(node)
        for read in recording.tree.reads:
            self._known[read.problem].append(read)

    async def solve(self, problem: Problem, contender: Contender) -> str | None:
        try:
            return await self._call(problem, "solve", contender)
        except BackendError as error:
            return str(error)

    async def grow(self, problem: Problem, depth: int) -> None:
        await self._call(problem, "grow", depth)

    async def _call(self, problem: Problem, method: str, argument: Any) -> str | None:
        records: list[Record]
        returned: str | None
        records, returned = await self._pool(problem, self._known[problem.id], method, argument)
        for record in records:
            self._recording.add(record)
            if isinstance(record, Node | Read):
                self._known[problem.id].append(record)
        return returned


def models_of(cfg: DictConfig, pair: Pair) -> tuple[Models | Pool, int]:
    """The models, in this process or on a cluster's workers, and how many chains to keep in flight.

    Raises:
        ConfigError: if a setting is unusable, or the cluster cannot run them.
    """
    service, concurrency = service_of(cfg, Opening(resolved(cfg), pair), stores=False)
    return cast(Models | Pool, service), concurrency


def writer_of(models: Models | Pool, recording: Recording, problems: Sequence[Problem]) -> Writer:
    """What grows the problems' chains into a recording."""
    return OnCluster(models, recording) if isinstance(models, Pool) else models.into(recording, problems)


def about(pair: Pair, cfg: DictConfig, backends: Mapping[str, Backend]) -> dict[str, Any]:
    """What is recorded. Another machine or another number of threads makes no other recording.

    ``shared`` is how many tokens all prompts begin with.
    """
    shared = {
        model.name: len(backends[model.name].encode((model.prompt or pair.prompt).partition("{question}")[0]))
        for model in pair.everyone
        if model.name in backends
    }
    models = {
        model.name: {
            "weights": model.identity,
            "parameters": model.size,
            "price": msgspec.to_builtins(model.price),
            "stop": list(model.stop),
        }
        for model in pair.everyone
    }
    rule = {name: value for name in RULE if (value := getattr(pair, name)) is not None}
    what = {"dataset": cfg.dataset.name, "pair": pair.name, "models": models, "prompt": pair.prompt}
    return {**what, **rule, "shared": shared}


def question(
    problem: Problem, split: str, pair: Pair, backends: Mapping[str, Recorder], prompts: Prompts
) -> Question:
    """A problem as a record; its prompts are known from now on."""
    lengths = {}
    templates = {model.name: model.prompt or pair.prompt for model in pair.everyone}
    for name, backend in backends.items():
        prompt = backend.encode(templates[name].replace("{question}", problem.question))
        prompts.add(prompt, problem.id)
        lengths[name] = len(prompt)
    return Question(problem.id, split, question_hash(problem.question), lengths)
