"""A router some of whose decisions are drawn at random, so that its log can say what another would do."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from stepwise.errors import ConfigError
from stepwise.evaluation.logged.chains import Decided
from stepwise.types import Decision, Look, Router, Trace, expects, whole


class Exploring:
    """Takes a router's decisions, but for a share that is drawn uniformly among the models with room.

    Of a router that chooses once a chain, the first decision is drawn and kept. What is drawn depends on the
    seed, the problem and the position only.

    Args:
        router: whose decisions they are.
        models: to draw from.
        share: of the decisions, in [0, 1].

    Attributes:
        decided: by problem and position, what was decided. It grows: one of these a request, not a server.
    """

    def __init__(self, router: Router, models: Sequence[str], share: float, seed: int = 0) -> None:
        check_share(share)
        self.router, self.share = router, share
        self.name: str = router.name
        self.look: Look = router.look
        self.threshold: float | None = getattr(router, "threshold", None)
        self.expects, self.whole = expects(router), whole(router)
        self.decided: defaultdict[str, dict[int, Decided]] = defaultdict(dict)
        self._models, self._seed = tuple(models), seed

    def decide(self, trace: Trace) -> Decision:
        position = len(trace.steps)
        wanted = self.router.decide(trace)
        if self.whole and position:
            kept = trace.steps[-1].model
            decision, chances = Decision(kept, wanted.score, "chosen at the start"), {kept: 1.0}
        else:
            chances = self._chances(trace, wanted.model)
            decision = self._drawn(trace, wanted, chances)
        self.decided[trace.problem.id][position] = Decided.of(trace, wanted.model, wanted.score, chances)
        return decision

    def _chances(self, trace: Trace, wanted: str) -> dict[str, float]:
        able = [model for model in self._models if model not in trace.full]
        chances = dict.fromkeys(able, self.share / len(able)) if self.share else {}
        chances[wanted] = chances.get(wanted, 0.0) + 1 - self.share
        return chances

    def _drawn(self, trace: Trace, wanted: Decision, chances: dict[str, float]) -> Decision:
        place = f"explore-{self._seed}-{trace.problem.id}-{len(trace.steps)}"
        (model,) = random.Random(place).choices(list(chances), list(chances.values()))
        if model == wanted.model:
            return wanted
        return Decision(model, wanted.score, f"drawn at random, {chances[model]:.3g}; {wanted.model} chosen")


def check_share(share: float) -> None:
    """Raises:
    ConfigError: if it is no share.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"explore must lie in [0, 1], not {share:g}.")
