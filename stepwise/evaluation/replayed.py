"""StepBench: a router scored on a recording, through the engine, without models.

A chain that leaves the recording is scored at its worst: wrong, at the cost of what it had and of the large
model's whole chain on top. How often that happens is the router's coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from stepwise.data import DATASETS, EVERYTHING
from stepwise.engine.cost import CostModel
from stepwise.engine.engine import Engine
from stepwise.errors import ConfigError
from stepwise.evaluation import metrics
from stepwise.evaluation.run import Contender
from stepwise.recording.folder import Recording
from stepwise.recording.records import Chain
from stepwise.recording.replay import problems, recorded, replay_engine
from stepwise.routers import Always
from stepwise.types import Problem, Trace

Array = NDArray[np.float64]
UNKNOWN = 0.05
"""Share of the chains: where more than this is lost, an area would say nothing."""


@dataclass(frozen=True)
class Replayed:
    """One contender on every problem.

    Attributes:
        correct, cost: by problem; cost in the bench's unit.
        lost: by problem, whether the chain left the recording.
        decisions: that were taken, the last one of each lost chain included.
    """

    contender: Contender
    correct: Array
    cost: Array
    lost: Array
    decisions: int

    @property
    def coverage(self) -> float:
        """Share of the decisions whose step is recorded."""
        return 1.0 - float(self.lost.sum()) / self.decisions


class Setting(msgspec.Struct, frozen=True):
    """A router at one setting. Costs are fractions of the large model's alone; intervals are 95%.

    Attributes:
        accuracy: with chains that left the recording counted as wrong.
        accuracy_at_best: with them counted as right.
        coverage: share of the decisions whose step is recorded.
        lost: chains that left the recording, of all ``chains``.
    """

    threshold: float | None
    accuracy: float
    accuracy_ci: tuple[float, float]
    accuracy_at_best: float
    cost: float
    coverage: float
    lost: int
    chains: int

    @property
    def open(self) -> bool:
        """Whether it may be cheaper than the large model, and more than `UNKNOWN` of its chains are lost."""
        lost = self.lost / self.chains
        return self.cost - lost < 1 and lost > UNKNOWN  # a lost chain was charged a large model's whole one


def nothing_cheaper(settings: Sequence[Setting]) -> bool:
    """Whether all of a router's settings cost at least what the large model alone does."""
    return all(setting.cost >= 1 for setting in settings)


class Row(msgspec.Struct, frozen=True):
    """A router: its area, and where it does best.

    Attributes:
        apgr: None for a model alone, where no setting is cheaper than the large model, and where one is
            `Setting.open`.
        accuracy, cost: at its most accurate setting, the cheapest of these.
        coverage: over all its settings.
    """

    router: str
    apgr: float | None
    apgr_ci: list[float | None]
    accuracy: float
    cost: float
    coverage: float
    settings: list[Setting]


class Bench:
    """The recorded problems of a split that every model has solved alone.

    Args:
        preamble: as of `stepwise.recording.replay.replay_engine`, and so are ``cost`` and ``bounded``.
        dataset: the problems as their data set has them, for routers that read questions, which a recording
            does not hold; those that were not recorded are left out.

    Raises:
        ConfigError: if there are none.
    """

    def __init__(
        self,
        recording: Recording,
        split: str = "test",
        *,
        preamble: bool = True,
        cost: CostModel | None = None,
        bounded: bool = False,
        dataset: Sequence[Problem] = (),
    ) -> None:
        splits = sorted({question.split for question in recording.tree.questions.values()})
        if split not in splits:
            raise ConfigError(
                f"split: recording {recording.folder} has no problem of {split!r}; "
                f"its splits are {', '.join(splits) or 'none'}."
            )
        self.engine: Engine = replay_engine(recording, preamble=preamble, cost=cost, bounded=bounded)
        self._tree = recording.tree
        known = [problem for problem in dataset if recorded(self._tree, problem, split)]
        if dataset and not known:
            raise ConfigError(
                f"dataset: none of its problems is in recording {recording.folder}, which is of "
                f"{recording.about.get('dataset', 'another one')!r}, split {split!r}."
            )
        alone = {(problem, router) for problem, router, _ in self._tree.chains}
        self.problems: list[Problem] = [
            problem
            for problem in known or problems(recording, split)
            if all((problem.id, model) in alone for model in self.engine.models)
        ]
        if not self.problems:
            raise ConfigError(
                f"split: recording {recording.folder} has no problem of {split!r} that every model solved."
            )
        self.small, self.large = (
            self.engine.run(self._replay(Contender(Always(self.engine.models[i])))) for i in (0, -1)
        )
        if self.small.lost.any() or self.large.lost.any():
            raise ConfigError(f"recording {recording.folder} was made by another engine: record it again.")

    def chains(self, model: str) -> list[Chain]:
        """What a model wrote alone, by problem."""
        return [self._tree.chains[problem.id, model, None] for problem in self.problems]

    def restricted(self, places: Sequence[int]) -> Bench:
        """The same over some of its problems."""
        other = copy(self)
        other.problems = [self.problems[i] for i in places]
        chosen = np.array(places, int)
        other.small, other.large = (
            replace(r, correct=r.correct[chosen], cost=r.cost[chosen], lost=r.lost[chosen])
            for r in (self.small, self.large)
        )
        return other

    def replay(self, contender: Contender) -> Replayed:
        """A contender's chains.

        Raises:
            ConfigError: if it asks for a judge.
        """
        if contender.router.look == "judged":
            raise ConfigError(f"router {contender.router.name!r} asks for a judge; none is recorded.")
        replayed = self.engine.run(self._replay(contender))
        return replace(replayed, cost=replayed.cost + replayed.lost * self.large.cost)

    def table(self, replayed: Sequence[Replayed], *, seed: int = 0) -> list[Row]:
        """A row a router."""
        groups: dict[str, list[Replayed]] = {}
        for setting in replayed:
            groups.setdefault(setting.contender.router.name, []).append(setting)
        samples = {name: _samples(group) for name, group in groups.items()}
        ends = _samples([self.small]), _samples([self.large])
        numbers = metrics.summarise(samples, *ends, seed=seed)
        return [self._row(name, group, numbers[name], seed) for name, group in groups.items()]

    def _row(self, name: str, group: list[Replayed], numbers: metrics.RouterMetrics, seed: int) -> Row:
        settings = [self._setting(replayed, seed) for replayed in group]
        best = max(settings, key=lambda setting: (setting.accuracy, -setting.cost))
        lost, decisions = sum(r.lost.sum() for r in group), sum(r.decisions for r in group)
        coverage = 1 - float(lost) / decisions
        area, ends = numbers.apgr, numbers.apgr_ci
        alone = group[0] is self.small or group[0] is self.large
        if alone or nothing_cheaper(settings) or any(setting.open for setting in settings):
            area, ends = None, [None, None]
        return Row(name, area, ends, best.accuracy, best.cost, coverage, settings)

    def _setting(self, replayed: Replayed, seed: int) -> Setting:
        return Setting(
            threshold=replayed.contender.threshold,
            accuracy=float(replayed.correct.mean()),
            accuracy_ci=metrics.interval(replayed.correct, seed=seed),
            accuracy_at_best=float((replayed.correct + replayed.lost).mean()),
            cost=float(replayed.cost.mean() / self.large.cost.mean()),
            coverage=replayed.coverage,
            lost=int(replayed.lost.sum()),
            chains=len(replayed.lost),
        )

    async def _replay(self, contender: Contender) -> Replayed:
        place = {problem.id: i for i, problem in enumerate(self.problems)}
        correct, cost, lost = np.zeros((3, len(place)))
        decisions = 0
        async for trace in self.engine.solve_many(self.problems, contender.router):
            i = place[trace.problem.id]
            right = self.right(trace)
            correct[i], lost[i], cost[i] = right is True, right is None, trace.cost
            decisions += len(trace.steps) + (right is None)
        return Replayed(contender, correct, cost, lost, decisions)

    def right(self, trace: Trace) -> bool | None:
        """Whether a chain is right; None where it left the recording."""
        return None if trace.error else self._tree.correct(trace.problem.id, trace.answer)


def limit_of(recording: Recording, split: str, dataset: str) -> int:
    """How many problems of a data set have to be loaded to have those of a recording.

    The built-in sets have no end, and the recorded problems are their first.
    """
    return max(recording.count(split), 1) if dataset in DATASETS else EVERYTHING


def _samples(group: Sequence[Replayed]) -> metrics.Samples:
    return np.array([r.correct for r in group]), np.array([r.cost for r in group])
