"""Know before you run: how well and how expensively each model of a pool will answer a question."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stepwise.engine.cost import Price
from stepwise.errors import ConfigError
from stepwise.models.files import list_prices
from stepwise.scope.anchors import AnchorSet
from stepwise.scope.decision import W_BASE, Rule, check_share, sweep
from stepwise.scope.embed import Embedder, open_embedder
from stepwise.scope.estimators import Beliefs, Candidate, Combination, Estimator, Neighbours
from stepwise.scope.estimators.base import Charge, free
from stepwise.scope.features import Auxiliary, Features
from stepwise.scope.fingerprint_store import FingerprintStore
from stepwise.scope.known import Compared, Known, gather
from stepwise.scope.novelty import OUTSIDE, Novelty, shrink, trust
from stepwise.scope.promise import Setting, best_within, check_promise
from stepwise.scope.ranking import Ranking
from stepwise.scope.reliability import Reliability
from stepwise.types import Estimate

Array = NDArray[np.float64]
ANCHORS, FINGERPRINTS = "anchors.json", "fingerprints.db"
"""What `stepwise scope import` writes into its folder."""
ALPHA = 0.5
UNPRICED = "name the table's dollar column `cost` and import it again, or give list prices with --pair"
"""What to do about a model without a price."""


@dataclass(frozen=True)
class Choice:
    """The model to take, its score, what was expected of every candidate, and whether the question lies
    outside what the anchors cover."""

    model: str
    utility: float
    estimates: list[Estimate] = field(repr=False)
    outside: bool = False


class Scope:
    """Estimates and chooses, from anchors and fingerprints.

    A fingerprint that is added to the store later is taken up by the next call.

    Args:
        anchors: the questions that the fingerprints are about.
        fingerprints: of every model that may be asked for; all of them teach how hard questions are.
        embedder: "tfidf", a sentence-transformers model, several of them, or one of your own.
        estimator: pooled difficulty, a ridge per model and neighbours, combined by held-out loss and
            calibrated, unless given.
        objective: "correct", or the name of a score in [0, 1] that every fingerprint has (safety, say); it
            takes the place of correctness everywhere.
        auxiliary: labelled questions from elsewhere that teach the estimator what is hard or long.
        coverage: the least share of the anchors that a fingerprint must cover.
        decision: "net", value less cost (see `stepwise.scope.decision.net_value`), or "utility", the paper's.
        w_base: weight of the anchors' record in the paper's utility.
        prices: of models, for fingerprints without a price; where both give one they have to agree.
        outside: who answers a question that is outside what the anchors cover: the "best" single model by its
            mean on the anchors (with a budget, of those whose mean cost on the anchors keeps it; the cheapest
            if none does), a model's name, or whoever the "estimates" favour.

    Attributes:
        asks: names of the models that the estimator puts questions to.

    Raises:
        ConfigError: if the embedder cannot be loaded, or a value is unusable.
    """

    def __init__(
        self,
        *,
        anchors: AnchorSet,
        fingerprints: FingerprintStore,
        embedder: str | Embedder | Sequence[str | Embedder] = "tfidf",
        estimator: Estimator | None = None,
        objective: str = "correct",
        auxiliary: Sequence[Auxiliary] = (),
        coverage: float = 0.5,
        decision: Rule = "net",
        w_base: float = W_BASE,
        prices: Mapping[str, Price] | None = None,
        outside: str = "best",
    ) -> None:
        if not 0.0 < coverage <= 1.0:
            raise ConfigError(f"coverage must lie in (0, 1], not {coverage}.")
        self.anchors = anchors
        self.fingerprints = fingerprints
        self.objective = objective
        self._estimator = estimator or Combination()
        self.asks = self._estimator.asks
        self._record = Neighbours()
        self._coverage = coverage
        self._prices = dict(prices or {})
        self._features = Features(open_embedder(embedder), auxiliary)
        self._encoded = self._features.fit(anchors.questions)
        self._novelty = Novelty(anchors.questions)
        self._ranking = Ranking(decision, w_base, outside)
        self._lock = threading.Lock()
        self._fitted: tuple[object, Known] | None = None
        self._reliability: Reliability | None = None
        self._promised = lru_cache(maxsize=1024)(
            lambda version, budget, models, delta: best_within(self.settings(models, budget), budget, delta)
        )

    @classmethod
    def open(cls, folder: str | Path, *, pair: str | Path | None = None, **settings: Any) -> Self:
        """Over what `stepwise scope import` wrote into a folder.

        Args:
            pair: a YAML file of models, whose list prices are used.
            settings: as of `Scope`.

        Raises:
            ConfigError: if a file is missing or cannot be used.
        """
        anchors = Path(folder) / ANCHORS
        if not anchors.exists():
            raise ConfigError(
                f"{str(folder)!r} has no {ANCHORS}: run `stepwise scope import FILE --folder {folder}` first."
            )
        return cls(
            anchors=AnchorSet.load(anchors),
            fingerprints=FingerprintStore(Path(folder) / FINGERPRINTS, create=False),
            prices=list_prices(pair) if pair else None,
            **settings,
        )

    def __repr__(self) -> str:
        """Identifies what the estimates depend on, as frozen values do."""
        content = repr(list(self.fingerprints))
        store = hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
        seen = hashlib.blake2b(self._encoded.vectors.data.tobytes(), digest_size=8)
        seen.update(self._encoded.dense.tobytes())  # the embedder, and what auxiliary questions taught
        settings = f"{self.objective}, {self._coverage}, {self._prices}, {self._ranking}"
        return f"Scope({self.anchors.digest}, {store}, {seen.hexdigest()}, {self._estimator!r}, {settings})"

    @property
    def known(self) -> Known:
        """The store's fingerprints on the anchors; estimators are fitted to it when it changes.

        A fingerprint that does not fit is left out, and named in ``known.quarantined``.

        Raises:
            ConfigError: if the store is empty, no fingerprint fits the anchors, or two prices differ.
        """
        with self._lock:
            version = self.fingerprints.version
            if self._fitted is None or self._fitted[0] != version:
                if not len(self.fingerprints):
                    raise ConfigError("fingerprints: the store is empty; run `stepwise fingerprint run`.")
                fingerprints = self.fingerprints.on(self.anchors.digest)
                known = gather(
                    self.anchors,
                    self._encoded,
                    [taken.priced(self._prices.get(taken.model)) for taken in fingerprints],
                    self.objective,
                    self._coverage,
                )
                self._estimator.fit(known)  # what a fit takes is no chain's
                self._record.fit(known)
                if not self.asks:  # a model would be asked about every anchor
                    held = shrink(self._estimator.held_out(), known.mean, self._novelty.held_out)
                    self._reliability = Reliability(held.value, known.value)
                self._fitted = version, known
            return self._fitted[1]

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What the estimator chose among, by held-out loss on this store; none if it does not choose.

        Raises:
            ConfigError: as `known`.
        """
        _ = self.known
        return getattr(self._estimator, "candidates", ())

    def estimate(
        self, question: str, models: Sequence[str] | None = None, charge: Charge = free
    ) -> list[Estimate]:
        """What to expect of each model, in the order of ``models`` (by default all in the store).

        ``cost`` is in dollars, or None for a model without a price.

        Args:
            charge: told, by model, what an estimator takes that asks a language model, as it takes it.

        Raises:
            ConfigError: if the question is empty, or a model has no usable fingerprint.
        """
        _refuse_empty([question])
        known = self.known
        rows = self._rows(known, models)
        compared = self._compare(known, [question])
        novelty = self._novelty([question])
        predicted = shrink(self._estimator.predict(compared, rows, charge), known.mean[rows], novelty)
        return self._estimates(known, rows, compared, predicted, novelty)

    def choose(
        self,
        question: str,
        models: Sequence[str] | None = None,
        alpha: float | None = None,
        estimates: Sequence[Estimate] = (),
        budget: float | None = None,
    ) -> Choice:
        """The model with the largest score: value less cost, unless the scope was told to take the paper's
        utility.

        Args:
            alpha: in [0, 1], trades cost (0) for value (1). By default 0.5; with a budget, what `alpha_for`
                promises to keep it.
            estimates: of these models, as `estimate` made them before; made now unless given.
            budget: dollars a question; it also binds who answers outside what the anchors cover.

        Raises:
            ConfigError: as `estimate`, and if a model has no price, alpha is outside [0, 1], or a model is
                not among ``estimates``.
            InfeasibleTarget: if alpha is not given and the budget cannot be promised.
        """
        _refuse_empty([question])
        if alpha is None:
            alpha = ALPHA if budget is None else self.alpha_for(budget, models).alpha
        check_share("alpha", alpha)
        known = self.known
        rows = self._rows(known, models, priced=True)
        compared = self._compare(known, [question])
        novelty = self._novelty([question])
        if estimates:
            estimates = _of([known.models[row] for row in rows], estimates)
            predicted = _beliefs(estimates)
        else:
            predicted = shrink(self._estimator.predict(compared, rows), known.mean[rows], novelty)
            estimates = self._estimates(known, rows, compared, predicted, novelty)
        scores = self._scores(known, rows, compared, predicted, novelty, budget)(alpha)[:, 0]
        best = int(np.argmax(scores))
        model = known.models[rows[best]]
        return Choice(model, float(scores[best]), list(estimates), bool(novelty[0] < OUTSIDE))

    def settings(self, models: Sequence[str] | None = None, budget: float | None = None) -> list[Setting]:
        """What alphas from 0 to 1 give on the anchors: every anchor is routed by held-out predictions, and
        scored by what the chosen model really did there.

        Args:
            budget: as of `choose`.

        Raises:
            ConfigError: as `choose`.
        """
        known = self.known
        rows = self._rows(known, models, priced=True)
        novelty = self._novelty.held_out
        predicted = shrink(_rows_of(self._estimator.held_out(), rows), known.mean[rows], novelty)
        scores = self._scores(known, rows, known.among, predicted, novelty, budget)
        value, spent = known.value[rows], known.spent(rows)
        columns = np.arange(len(self.anchors))

        def at(alpha: float) -> Setting:
            best = scores(alpha).argmax(axis=0)
            costs = spent[best, columns]
            costs = costs[~np.isnan(costs)]
            return Setting(alpha, float(np.nanmean(value[best, columns])), float(costs.mean()), costs)

        return sweep(at, lambda setting: setting.cost)

    def alpha_for(self, budget: float, models: Sequence[str] | None = None, delta: float = 0.1) -> Setting:
        """The alpha with the best value on the anchors among those whose expected cost per question is at
        most ``budget``, which is promised with probability 1 - ``delta``, see `stepwise.scope.promise`.

        It holds for choices under the same budget, which binds who answers outside what the anchors cover.

        Raises:
            ConfigError: as `choose`, and if budget or delta is out of its range.
            InfeasibleTarget: if no alpha can be promised to keep the budget; ``best`` is the least that can.
        """
        check_promise(budget, delta)
        names = None if models is None else tuple(models)
        promised: Setting = self._promised(self.fingerprints.version, budget, names, delta)
        return promised

    def beliefs(self, questions: Sequence[str], models: Sequence[str] | None = None) -> Beliefs:
        """What `estimate` says of many questions at once, as arrays [models, questions].

        Raises:
            ConfigError: as `estimate`.
        """
        known = self.known
        rows = self._rows(known, models)
        predicted = self._estimator.predict(self._compare(known, questions), rows)
        return shrink(predicted, known.mean[rows], self._novelty(questions))

    def novelty(self, questions: Sequence[str]) -> Array:
        """P-values of "this question is of the anchors' kind", [q], see `Novelty`; below `OUTSIDE` the
        question is outside what the anchors cover."""
        return self._novelty(questions)

    @property
    def novelty_of_anchors(self) -> Array:
        """The anchors' own p-values, each against the others, [n]."""
        return self._novelty.held_out

    def utilities(
        self, questions: Sequence[str], models: Sequence[str] | None = None, budget: float | None = None
    ) -> Callable[[float], Array]:
        """Utilities [models, questions] of many questions at once, as a function of alpha; rows in the order
        of ``models``.

        Args:
            budget: as of `choose`. What `alpha_for` promises holds for scores under the same budget.

        Raises:
            ConfigError: as `choose`.
        """
        known = self.known
        rows = self._rows(known, models, priced=True)
        compared = self._compare(known, questions)
        novelty = self._novelty(questions)
        predicted = shrink(self._estimator.predict(compared, rows), known.mean[rows], novelty)
        return self._scores(known, rows, compared, predicted, novelty, budget)

    def compare(self, questions: Sequence[str]) -> Compared:
        """Questions against the anchors, as estimators see them.

        Raises:
            ConfigError: if a question is empty.
        """
        return self._compare(self.known, questions)

    def _compare(self, known: Known, questions: Sequence[str]) -> Compared:
        _refuse_empty(questions)
        return known.compare(self._features.encode(questions))

    def _rows(self, known: Known, models: Sequence[str] | None, *, priced: bool = False) -> NDArray[np.intp]:
        names = known.models if models is None else tuple(models)
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"models must be distinct names, at least one, not {list(names)}.")
        unknown = [name for name in names if name not in known.models]
        if unknown:
            if unknown[0] in known.quarantined:
                raise ConfigError(known.quarantined[unknown[0]])
            raise ConfigError(
                f"model {unknown[0]!r} has no fingerprint (known: {', '.join(known.models)}); import "
                "its results, or run `stepwise fingerprint run`."
            )
        rows = np.array([known.models.index(name) for name in names], dtype=np.intp)
        unpriced = [name for name, row in zip(names, rows, strict=True) if known.prices[row] is None]
        if priced and unpriced:
            raise ConfigError(f"model {unpriced[0]!r} has no price: {UNPRICED}.")
        return rows

    def _scores(
        self,
        known: Known,
        rows: NDArray[np.intp],
        compared: Compared,
        predicted: Beliefs,
        novelty: Array,
        budget: float | None = None,
    ) -> Callable[[float], Array]:
        """See `Ranking.scores`; anchors are looked at as if they were not known."""

        def near() -> Beliefs:
            if compared is known.among:
                record = _rows_of(self._record.held_out(), rows)
            else:
                record = self._record.predict(compared, rows)
            return shrink(record, known.mean[rows], novelty)

        return self._ranking.scores(known, rows, compared, predicted, near, novelty, budget)

    def _estimates(
        self, known: Known, rows: NDArray[np.intp], compared: Compared, predicted: Beliefs, novelty: Array
    ) -> list[Estimate]:
        cost = known.cost(predicted.tokens, compared.questions, rows)[:, 0]
        explanations, usage = predicted.explanations, predicted.usage
        believed = trust(novelty)[0]
        likely = self._reliability.interval(predicted.value, rows) if self._reliability else None
        return [
            Estimate(
                known.models[row],
                float(predicted.value[i, 0]),
                float(predicted.tokens[i, 0]),
                None if known.prices[row] is None else float(cost[i]),
                (float(predicted.low[i, 0]), float(predicted.high[i, 0])),
                explanations[i][0] if explanations else "",
                usage[i][0] if usage else {},
                (float(believed * likely[0][i, 0]), float(1 - believed * (1 - likely[1][i, 0])))
                if likely
                else None,
                bool(novelty[0] < OUTSIDE),
            )
            for i, row in enumerate(rows)
        ]


def _refuse_empty(questions: Sequence[str]) -> None:
    if not all(question.strip() for question in questions):
        raise ConfigError("question must not be empty.")


def _of(models: Sequence[str], estimates: Sequence[Estimate]) -> list[Estimate]:
    """The estimates of these models, in their order."""
    by_model = {estimate.model: estimate for estimate in estimates}
    missing = [model for model in models if model not in by_model]
    if missing:
        raise ConfigError(f"estimates: there is none for model {missing[0]!r}.")
    return [by_model[model] for model in models]


def _beliefs(estimates: Sequence[Estimate]) -> Beliefs:
    """Estimates of one question as arrays [models, 1]."""
    columns = [[estimate.p_correct, estimate.tokens, *estimate.interval] for estimate in estimates]
    return Beliefs(*np.array(columns).T[:, :, None])


def _rows_of(beliefs: Beliefs, rows: NDArray[np.intp]) -> Beliefs:
    return Beliefs(beliefs.value[rows], beliefs.tokens[rows], beliefs.low[rows], beliefs.high[rows])
