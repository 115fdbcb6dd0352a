"""A decision log: one line a chain, with what each decision was made on and how likely it was; no texts.

A trace without its texts can be made of a line again (`seen_traces`), so that a router that reads none
decides on it as it would have. What is known of an answer later is a line of its own that names the chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec

from stepwise.engine.cost import CostModel
from stepwise.engine.engine import Engine
from stepwise.errors import ConfigError
from stepwise.types import Estimate, Look, Problem, Router, Signals, Step, Trace, Usage, Verdict

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Decided(msgspec.Struct, frozen=True, omit_defaults=True):
    """A decision, and what it was made on.

    Attributes:
        wanted: the model that the router chose.
        chances: by model, with what probability it would be drawn; those that are missing could not be.
        score: of the router.
        cost: of the chain so far, the look included.
        draft: what the draft's probabilities said; None where the router looked at none.
        length: tokens of the draft.
        verdict: a judge's, on the draft.
        full: models without room for another step.
    """

    wanted: str
    chances: dict[str, Share]
    score: float | None
    cost: float
    draft: Signals | None = None
    length: int = 0
    verdict: Verdict | None = None
    full: tuple[str, ...] = ()

    @classmethod
    def of(cls, trace: Trace, wanted: str, score: float | None, chances: dict[str, float]) -> Decided:
        """A decision on a trace."""
        draft = trace.draft
        decided = cls(wanted, chances, score, trace.cost, full=trace.full)
        if draft is None:
            return decided
        return msgspec.structs.replace(
            decided, draft=draft.signals, length=draft.length, verdict=draft.verdict
        )


class LoggedStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step of a chain.

    Attributes:
        model: who wrote it.
        length: its tokens.
        cost: of everything since the step before, what looking took included.
        looking: the part of ``cost`` that a rejected draft took, or in a shadow the whole draft, which is on
            top of ``cost``.
        decided: the decision before it; None where none was taken.
    """

    model: str
    length: int
    signals: Signals
    cost: float
    looking: float = 0.0
    decided: Decided | None = None


class LoggedChain(msgspec.Struct, frozen=True, tag="chain", omit_defaults=True):
    """A finished chain.

    Attributes:
        id: as feedback names it.
        time: Unix time of its start, in seconds.
        router, threshold, look: of the router whose decisions are logged.
        shadow: the model that answered whatever the router wanted; "" where the decisions counted.
        models: of the pool, cheapest first.
        prices: by model, of reading and of writing a token, in ``unit``.
        cost: of the whole chain, in ``unit``.
        alone: what the most expensive model alone would have cost for the same text.
        degraded: another model than the one that was decided on wrote a part.
        question: where prompts may be logged.
        correct: whether the answer is right, where that is known: between 0 and 1.
    """

    id: str
    time: float
    router: str
    threshold: float | None
    look: Look
    models: tuple[str, ...]
    unit: str
    prices: dict[str, tuple[float, float]]
    steps: tuple[LoggedStep, ...]
    cost: float
    alone: float
    stop: str
    prompt_tokens: int
    shadow: str = ""
    degraded: bool = False
    estimates: tuple[Estimate, ...] = ()
    question: str = ""
    correct: Share | None = None


class Label(msgspec.Struct, frozen=True, tag="label", forbid_unknown_fields=True):
    """What became known of a chain's answer."""

    id: str
    correct: Share


Line = LoggedChain | Label


def logged_steps(trace: Trace, decided: dict[int, Decided]) -> tuple[LoggedStep, ...]:
    """The steps of a chain, with the decisions before them by position."""
    return tuple(
        LoggedStep(
            step.model, step.length, step.signals, step.cost,
            step.draft.cost if step.draft else 0.0, decided.get(position),
        )
        for position, step in enumerate(trace.steps)
    )  # fmt: skip


def logged_chain(
    router: Router,
    engine: Engine,
    trace: Trace,
    alone: float,
    *,
    decided: dict[int, Decided],
    stop: str = "",
    time: float = 0.0,
    question: str = "",
    shadow: str = "",
) -> LoggedChain:
    """A finished chain as a line of the log; see `LoggedChain` for the rest.

    Args:
        router: the one whose decisions are logged.
        decided: them, by position.
    """
    return LoggedChain(
        id=trace.problem.id, time=time, router=router.name, threshold=getattr(router, "threshold", None),
        look=router.look, models=engine.models, unit=engine.cost.unit,
        prices=token_prices(engine.cost, engine.models), steps=logged_steps(trace, decided), cost=trace.cost,
        alone=alone, stop=stop or str(trace.stop), prompt_tokens=trace.prompt_tokens, shadow=shadow,
        degraded=bool(trace.degraded), estimates=trace.estimates, question=question,
    )  # fmt: skip


def token_prices(cost: CostModel, models: Iterable[str]) -> dict[str, tuple[float, float]]:
    """By model, what reading and what writing a token costs."""
    return {model: (cost({model: Usage(prompt=1)}), cost({model: Usage(completion=1)})) for model in models}


def seen_traces(chain: LoggedChain) -> Iterator[tuple[LoggedStep, Decided, Trace]]:
    """The steps whose decision is logged, and what the router saw before each, without texts."""
    trace = Trace(
        Problem(chain.id, chain.question), prompt_tokens=chain.prompt_tokens, estimates=chain.estimates
    )
    for step in chain.steps:
        if step.decided is None:
            return
        seen = replace(trace, draft=_draft(step.decided, chain.models[0]), full=step.decided.full)
        yield step, step.decided, seen
        written = Step("", (), step.model, {}, step.signals, step.cost, counted=step.length)
        trace = replace(trace, steps=(*trace.steps, written))


def _draft(decided: Decided, drafter: str) -> Step | None:
    if decided.draft is None:
        return None
    return Step("", (), drafter, {}, decided.draft, verdict=decided.verdict, counted=decided.length)


def read_log(*paths: Path) -> list[LoggedChain]:
    """The chains of a log, with the labels that are in it or in other files; the last label counts.

    Raises:
        ConfigError: if a file cannot be read, or holds no chain and no label.
    """
    chains: list[LoggedChain] = []
    labels: dict[str, float] = {}
    for path in paths:
        for line in _lines(path):
            if isinstance(line, Label):
                labels[line.id] = line.correct
            else:
                chains.append(line)
    return [msgspec.structs.replace(chain, correct=labels.get(chain.id, chain.correct)) for chain in chains]


def _lines(path: Path) -> Iterator[Line]:
    """A line that was cut off, by a kill or a full disk, is dropped; a file of something else is refused."""
    decoder = msgspec.json.Decoder(Line)
    known = broken = 0
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    yield decoder.decode(line)
                    known += 1
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    broken, reason = broken + 1, error
    except OSError as error:
        raise ConfigError(f"log: {path} cannot be read: {error.strerror}.") from error
    if broken > known:
        raise ConfigError(f"log: {path} holds no chains and no labels ({reason}).")
