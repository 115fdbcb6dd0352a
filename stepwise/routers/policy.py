"""A router that has learned: what the large model would gain on a step, against what it would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stepwise.calibration import calibrate
from stepwise.errors import ConfigError, NoSignal
from stepwise.routers.artifact import PolicyArtifact, Weights
from stepwise.routers.features import ESTIMATES, observe
from stepwise.routers.threshold import check_threshold
from stepwise.types import Decision, Look, Trace

if TYPE_CHECKING:
    from stepwise.models.pair import Pair

SHIPPED = ("nano-ppo",)


@dataclass(frozen=True)
class PolicyRouter:
    """Routes with a trained policy.

    The policy predicts, for each model beyond the cheapest, a gain in P(correct) and a cost in units of
    large-only. The threshold is λ, the cost weight: the model with the largest surplus
    ``gain - threshold * cost`` writes the step, the cheapest if none is positive. The score is the
    best ``gain / cost``, so that with two models "large" means ``score >= threshold``. A policy with one gain
    more has learned when to let the most expensive model read the draft first.
    """

    artifact: PolicyArtifact
    threshold: float
    name: str = "ppo"

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    @property
    def look(self) -> Look:
        """What it was trained to see before it decides."""
        return self.artifact.look

    @property
    def expects(self) -> bool:
        """Whether it observes SCOPE's estimates."""
        return not set(ESTIMATES).isdisjoint(self.artifact.features)

    def decide(self, trace: Trace) -> Decision:
        """The model with the largest surplus; without a signal, the most expensive one."""
        models, weights = self.artifact.models, self.artifact.weights
        try:
            seen = observe(trace, models[0], models[-1], self.artifact.features, self.artifact.scales)
        except NoSignal as missing:
            return Decision(models[-1], None, f"no signal: {missing}")
        gain, cost = gain_and_cost(weights, seen)
        if len(gain) == len(models):
            return self._verifying(trace, gain, cost)
        if trace.full:
            return self._among_open(trace, gain, cost)
        best = int((gain - self.threshold * cost).argmax())
        score = float((gain / cost).max())
        large = score >= self.threshold
        sign = ">=" if large else "<"
        reason = f"gain per cost {score:.2f} {sign} {self.threshold:.2f}"
        return Decision(models[1 + best] if large else models[0], score, reason)

    def _verifying(self, trace: Trace, gain: NDArray[np.float32], cost: NDArray[np.float32]) -> Decision:
        """`decide` where the last action is to let the most expensive model read the draft first. A draft is
        read once."""
        models = self.artifact.models
        read = bool(trace.draft and trace.draft.reading) or models[-1] in trace.full
        surplus = np.append(0.0, gain - self.threshold * cost)
        surplus[[*(model in trace.full for model in models), read]] = -np.inf
        action, worth = int(surplus.argmax()), gain / cost
        score = float((worth[:-1] if read else worth).max())
        if action == len(models):
            return Decision(models[0], score, f"gain per cost of reading {score:.2f}", look="verified")
        return Decision(models[action], score, f"gain per cost {score:.2f} at {self.threshold:.2f}")

    def _among_open(self, trace: Trace, gain: NDArray[np.float32], cost: NDArray[np.float32]) -> Decision:
        """`decide` where models have no room for another step: the largest surplus among the others."""
        models = self.artifact.models
        surplus = np.append(0.0, gain - self.threshold * cost)
        surplus[[model in trace.full for model in models]] = -np.inf
        chosen = models[int(surplus.argmax())]
        return Decision(chosen, float((gain / cost).max()), f"no room left for {', '.join(trace.full)}")

    def check(
        self,
        pair: Pair,
        models: Sequence[str] | None = None,
        *,
        transfer: bool = False,
        unit: str | None = None,
    ) -> None:
        """Refuse a pool that the policy cannot route.

        Args:
            pair: with the models by name.
            models: of the pair that are loaded; the smallest and the largest by default.
            transfer: let it route another pair than the one that it was trained on.
            unit: of the costs that it shall keep down, where they are counted.

        Raises:
            ConfigError: if the pair or the unit is another one, or models are missing.
        """
        artifact = self.artifact
        calibrated = artifact.record.unit if artifact.record else unit
        trained = artifact.card.get("cost_unit", calibrated)
        if unit is not None and trained != unit:
            raise ConfigError(f"cost: the policy was trained to keep down {trained}, not {unit}.")
        if pair.identity != artifact.fingerprint and not transfer:
            raise ConfigError(
                f"router: the policy was trained on pair {artifact.pair!r} ({artifact.fingerprint}), which "
                f"is not pair {pair.name!r} as it is here ({pair.identity}); train one with "
                "`python -m scripts.train`, or take a rule, as `--router confidence --threshold 1.0`."
            )
        loaded = tuple(model.name for model in pair.select(models))
        if loaded[0] != artifact.models[0] or not set(artifact.models) <= set(loaded):
            raise ConfigError(
                f"models must contain {', '.join(artifact.models)}, which the policy chooses from, the first "
                f"as the cheapest, and are {', '.join(loaded)}."
            )

    @property
    def seen(self) -> Mapping[str, Sequence[str]]:
        """Questions that it was trained, validated or calibrated on: fingerprints by split."""
        seen: Mapping[str, Sequence[str]] = self.artifact.card.get("seen", {})
        return seen

    def at(self, threshold: float) -> PolicyRouter:
        """The same policy at another threshold."""
        return replace(self, threshold=threshold)


def gain_and_cost(
    weights: Weights, observation: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The actor's two heads, each [models - 1], for one observation [features]."""
    hidden = np.tanh(weights["w0"] @ observation + weights["b0"])
    hidden = np.tanh(weights["w1"] @ hidden + weights["b1"])
    gain = weights["gain_w"] @ hidden + weights["gain_b"]
    cost = np.logaddexp(0.0, weights["cost_w"] @ hidden + weights["cost_b"])
    return gain, np.maximum(cost, 1e-6)


def load_router(
    name: str,
    *,
    budget: float | None = None,
    max_accuracy_loss: float | None = None,
    threshold: float | None = None,
    delta: float = 0.1,
    label: str = "ppo",
) -> PolicyRouter:
    """A trained policy with its threshold set.

    Args:
        name: "nano-ppo", or the folder of an exported artifact.
        budget: expected cost as a fraction of large-only, in (0, 1].
        max_accuracy_loss: share of problems that the large model alone gets right and the router
            does not, in (0, 1). May be given together with a budget.
        threshold: λ itself, the cost weight, instead of targets.
        delta: probability with which the targets may fail; see `stepwise.calibration.calibrate`.
        label: the router's name in results.

    Raises:
        ConfigError: if the name is unknown, the artifact damaged or uncalibrated, or both or
            neither of targets and threshold are given.
        InfeasibleTarget: if no threshold can be promised to meet the targets.
    """
    targeted = budget is not None or max_accuracy_loss is not None
    if targeted == (threshold is not None):
        raise ConfigError("give either a threshold, or a budget, a max_accuracy_loss or both.")
    folder = Path(str(files("stepwise") / "assets" / name)) if name in SHIPPED else Path(name)
    if not folder.is_dir():
        raise ConfigError(
            f"router must be one of {', '.join(SHIPPED)} or the folder of an exported policy, not {name!r}."
        )
    artifact = PolicyArtifact.load(folder)
    if threshold is None:
        if artifact.record is None:
            raise ConfigError(f"router {name!r} has no calibration; run `python -m scripts.calibrate` first.")
        threshold = calibrate(
            artifact.record, budget=budget, max_accuracy_loss=max_accuracy_loss, delta=delta
        ).threshold
    return PolicyRouter(artifact, threshold, label)
