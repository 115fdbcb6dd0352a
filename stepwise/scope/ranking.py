"""Which model answers: scores of every candidate, and who answers what the anchors do not cover."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stepwise.errors import ConfigError
from stepwise.scope.decision import RULES, W_BASE, Rule, net_value, utility
from stepwise.scope.estimators import Beliefs
from stepwise.scope.known import Compared, Known
from stepwise.scope.novelty import OUTSIDE

Array = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Ranking:
    """How candidates are ranked, see `Scope`.

    Raises:
        ConfigError: if there is no such decision.
    """

    decision: Rule = "net"
    w_base: float = W_BASE
    outside: str = "best"

    def __post_init__(self) -> None:
        if self.decision not in RULES:
            raise ConfigError(f"decision must be one of {', '.join(RULES)}, not {self.decision!r}.")

    def scores(
        self,
        known: Known,
        rows: Rows,
        compared: Compared,
        predicted: Beliefs,
        near: Callable[[], Beliefs],
        novelty: Array,
        budget: float | None = None,
    ) -> Callable[[float], Array]:
        """Scores [len(rows), questions] as a function of alpha; the model with the largest answers.

        Args:
            near: the anchors' own record, which the utility alone needs.
            novelty: of the questions. Outside, the model of the user's rule comes first.

        Raises:
            ConfigError: if ``outside`` is none of the models.
        """
        by_alpha = self._inside(known, rows, compared, predicted, near)
        if self.outside == "estimates":
            return by_alpha
        outside, first = novelty < OUTSIDE, self._first(known, rows, budget)

        def at(alpha: float) -> Array:
            scores = by_alpha(alpha)
            scores[first, outside] = np.nextafter(scores.max(axis=0), np.inf)[outside]
            return scores

        return at

    def _inside(
        self, known: Known, rows: Rows, compared: Compared, predicted: Beliefs, near: Callable[[], Beliefs]
    ) -> Callable[[float], Array]:
        cost = known.cost(predicted.tokens, compared.questions, rows)
        if self.decision == "net":
            dearest = float(np.nanmean(known.spent(rows), axis=1).max())
            return lambda alpha: net_value(predicted.value, cost, alpha, dearest)
        record = near()
        record_cost = known.cost(record.tokens, compared.questions, rows)
        return lambda alpha: utility(record.value, record_cost, predicted.value, cost, alpha, self.w_base)

    def _first(self, known: Known, rows: Rows, budget: float | None) -> int:
        """Which of ``rows`` answers questions outside what the anchors cover."""
        if self.outside == "best":
            if budget is None:
                return int(np.argmax(known.mean[rows]))
            cost = np.nanmean(known.spent(rows), axis=1)
            affordable = np.where(cost <= max(budget, cost.min()), known.mean[rows], -np.inf)
            return int(np.argmax(affordable))
        names = [known.models[row] for row in rows]
        if self.outside not in names:
            raise ConfigError(
                f"outside must be 'best', 'estimates' or one of the models {', '.join(names)}, "
                f"not {self.outside!r}."
            )
        return names.index(self.outside)
