"""What makes the rows of an evaluation: the engine of this process, or workers on a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from stepwise.cluster.pool import Pool
from stepwise.engine.cost import Tokens
from stepwise.engine.deciding import check_router
from stepwise.engine.engine import Engine
from stepwise.errors import BackendError
from stepwise.evaluation.grader import Grader
from stepwise.evaluation.rows import Key, Row, graded, make_row
from stepwise.routers.threshold import check_threshold
from stepwise.types import Problem, Router, Trace
from stepwise.verify import correct


@dataclass(frozen=True)
class Contender:
    """A router at one setting. ``threshold`` is None where there is no knob.

    Raises:
        ConfigError: if one is no router, or the other no number.
    """

    router: Router
    threshold: float | None = None

    def __post_init__(self) -> None:
        check_router(self.router)
        if self.threshold is not None:
            check_threshold(self.threshold)

    @property
    def key(self) -> Key:
        """Router and threshold: what tells it from the others of a run."""
        return self.router.name, self.threshold


@dataclass(frozen=True)
class Chain:
    """A chain to be made. With its contender it is all that a row depends on, and it can be pickled.

    Attributes:
        sample: number of the chain among those of its problem; moves the seed.
        setting: identifies what makes it.
    """

    problem: Problem
    sample: int
    setting: str


@dataclass(frozen=True)
class About:
    """What an evaluation has to know of a solver.

    Attributes:
        models: cheapest first.
        unit: of cost.
        judge: revision of the judge; None where there is none.
        grader: name of the model that grades; "" where none does.
        prior: identifies where estimates come from; "" where there are none.
    """

    models: tuple[str, ...]
    unit: str
    judge: str | None = None
    grader: str = ""
    prior: str = ""


class Solver(Protocol):
    """Makes rows, many side by side."""

    @property
    def about(self) -> About: ...

    async def __call__(self, contender: Contender, chain: Chain) -> Row:
        """The row of a chain; one that fails is a row too. Its ``wall_s`` is 0."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Here:
    """Makes rows with an engine of this process.

    Attributes:
        grader: a model for answers that rules cannot compare.
        prior: as in `About`.
    """

    engine: Engine
    grader: Grader | None = None
    prior: str = ""

    @property
    def about(self) -> About:
        engine, grader = self.engine, self.grader
        judge = engine.judge.backend.revision if engine.judge else None
        return About(engine.models, engine.cost.unit, judge, grader.name if grader else "", self.prior)

    async def __call__(self, contender: Contender, chain: Chain) -> Row:
        seed = self.engine.seed + chain.sample
        engine = self.engine.with_sampling(seed=seed) if chain.sample else self.engine
        trace = await engine.attempt(chain.problem, contender.router)
        right = await correct(trace)
        row = make_row(
            trace, contender.key, correct=right, setting=chain.setting, wall_s=0.0, cost=engine.cost,
            sample=chain.sample,
        )  # fmt: skip
        if self.grader and not right and self.grader.concerns(trace):
            return graded(row, await self.grader.grade(trace))
        return row

    async def close(self) -> None:
        await self.engine.close()


@dataclass(frozen=True)
class Traces:
    """A service of a cluster's workers that gives whole chains, for programs that want more than a row."""

    engine: Engine
    about: str = "traces"

    async def __call__(self, problem: Problem, router: Router) -> Trace:
        return await self.engine.attempt(problem, router)

    async def close(self) -> None:
        await self.engine.close()


class OnCluster:
    """Makes rows on the workers of a pool, whose service is a `Here`."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.about: About = pool.about
        self._shared: dict[Key, object] = {}

    async def __call__(self, contender: Contender, chain: Chain) -> Row:
        if contender.key not in self._shared:
            self._shared[contender.key] = self.pool.share(contender)
        try:
            row: Row = await self.pool(self._shared[contender.key], chain)
        except BackendError as error:
            return _failed(contender, chain, error)
        return row

    async def close(self) -> None:
        await self.pool.close()


def _failed(contender: Contender, chain: Chain, error: BackendError) -> Row:
    """The row of a chain that no worker could make."""
    trace = Trace(chain.problem, stop="error", error=str(error))
    return make_row(
        trace, contender.key, correct=False, setting=chain.setting, wall_s=0.0, cost=Tokens(),
        sample=chain.sample,
    )  # fmt: skip
