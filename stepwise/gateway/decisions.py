"""The log of decisions: some drawn at random, or all of them only watched, for `stepwise report --logged`."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from stepwise.engine.chain import Chain
from stepwise.engine.deciding import decide
from stepwise.engine.engine import Engine
from stepwise.errors import BackendError, ConfigError
from stepwise.evaluation.logged.chains import (
    Decided,
    Label,
    Line,
    LoggedChain,
    LoggedStep,
    logged_chain,
    logged_steps,
)
from stepwise.evaluation.logged.exploring import Exploring, check_share
from stepwise.gateway.answer_choice import Finished
from stepwise.gateway.failures import Refusal
from stepwise.gateway.keys import Tenant
from stepwise.gateway.log import log
from stepwise.routers.fixed import Always
from stepwise.types import Router, Trace, expects, named

REMEMBERED = 100_000
"""Chains that can still be given feedback on."""
WATCHING = 256
"""Chains of a shadow that may wait for their drafts; what comes then is logged without decisions."""


@dataclass(frozen=True)
class Watched(Always):
    """One model answers; what a router would have decided is asked afterwards."""

    router: Router = field(kw_only=True)


class Decisions:
    """Puts routers under observation and writes what they decided, a line a chain.

    Args:
        path: of the log, which is appended to.
        explore: share of the decisions that are drawn at random.
        shadow: the model that answers every request, while routers only watch; "" for none.

    Raises:
        ConfigError: if the share is none, or the file cannot be written.
    """

    def __init__(self, path: Path, *, explore: float = 0.0, shadow: str = "") -> None:
        check_share(explore)
        self._explore, self._shadow, self._path = explore, shadow, path
        self._owners: OrderedDict[str, str] = OrderedDict()
        self._watching: set[asyncio.Task[None]] = set()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise ConfigError(f"decisions: {path} cannot be written: {error.strerror}.") from error

    def observed(self, router: Router, models: Sequence[str]) -> Router:
        """The router of one request, under observation; a model that the client named is left alone."""
        if named(router):
            return router
        return (
            Watched(self._shadow, router=router) if self._shadow else Exploring(router, models, self._explore)
        )

    def note(
        self, router: Router, engine: Engine, tenant: Tenant, end: Finished, time: float, question: str
    ) -> None:
        """Log a finished chain, if its router is under observation."""
        if not isinstance(router, Watched | Exploring):
            return
        self._remember(end.trace.problem.id, tenant.name)
        inner, watching = router.router, isinstance(router, Watched)
        decided = router.decided[end.trace.problem.id] if isinstance(router, Exploring) else {}
        chain = logged_chain(
            inner, engine, end.trace, end.alone, decided=decided, stop=end.stop, time=time, question=question,
            shadow=router.name if watching else "",
        )  # fmt: skip
        if isinstance(router, Exploring):
            self._write(chain)
        elif len(self._watching) < WATCHING:
            task = asyncio.create_task(self._watch(chain, router, engine, end.trace))
            self._watching.add(task)
            task.add_done_callback(self._watching.discard)
        else:
            self._write(chain)

    def label(self, chain: str, correct: float, tenant: Tenant) -> None:
        """Log what became known of an answer.

        Raises:
            Refusal: 404 if the tenant has no such chain.
        """
        if self._owners.get(chain) != tenant.name:
            raise Refusal(
                404, "there is no such answer of yours, or no longer.", code="not_found", param="id"
            )
        self._write(Label(chain, correct))

    async def close(self) -> None:
        """Stop watching; chains that wait are logged without decisions."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        self._file.close()

    async def _watch(self, chain: LoggedChain, watched: Watched, engine: Engine, trace: Trace) -> None:
        try:
            chain = msgspec.structs.replace(chain, steps=await watched_steps(engine, watched, trace))
        except (BackendError, ConfigError) as error:
            log("shadow", id=chain.id, error=str(error))
        finally:
            self._write(chain)

    def _remember(self, chain: str, tenant: str) -> None:
        self._owners[chain] = tenant
        if len(self._owners) > REMEMBERED:
            self._owners.popitem(last=False)

    def _write(self, line: Line) -> None:
        """A full disk must not take an answer away."""
        try:
            self._file.write(msgspec.json.encode(line) + b"\n")
        except OSError as error:
            log("decisions", error=f"{self._path} cannot be written: {error.strerror}")


async def watched_steps(engine: Engine, watched: Watched, trace: Trace) -> tuple[LoggedStep, ...]:
    """A finished chain's steps, with what the router would have decided before each.

    Every look is taken on the chain as it was then, with the drafts that the looks before it left, so that
    what looking takes is counted as it would have been on the way.

    Raises:
        BackendError: if a model cannot be run.
        ConfigError: if the router asks for what the engine does not have.
    """
    router, steps = watched.router, logged_steps(trace, {})
    seen = replace(trace, steps=(), stop=None, answer="", extra={}, extra_cost=0.0)
    for position, step in enumerate(trace.steps):
        chain = Chain(seen)
        await engine.look(chain, router.look, expects=expects(router))
        decision, draft = decide(router, chain.trace, engine.models), chain.trace.draft
        decided = Decided.of(chain.trace, decision.model, decision.score, {watched.model: 1.0})
        looking = draft.cost if draft else 0.0
        steps = (
            *steps[:position],
            msgspec.structs.replace(steps[position], decided=decided, looking=looking),
            *steps[position + 1 :],
        )
        seen = replace(seen, steps=(*seen.steps, replace(step, draft=draft)), estimates=chain.trace.estimates)
        await engine.abandon(chain)
    return steps
