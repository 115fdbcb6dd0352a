"""A trained policy as served: weights, features, the pair it knows, and its calibration.

A folder with ``policy.npz`` (weights, a few kB), ``policy.json`` (what it is), ``README.md`` (the same for
people) and, once calibrated, ``calibration.npz`` (the recorded results). Running it takes NumPy alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stepwise.calibration import Record, calibrate
from stepwise.errors import ConfigError
from stepwise.routers.card import describe
from stepwise.routers.features import ESTIMATES, expand, observe
from stepwise.types import Decision, Look, Trace

if TYPE_CHECKING:
    from stepwise.models.pair import Pair

Weights = Mapping[str, NDArray[np.float32]]
WEIGHTS = ("w0", "b0", "w1", "b1", "gain_w", "gain_b", "cost_w", "cost_b")


@dataclass(frozen=True, repr=False)
class PolicyArtifact:
    """What `load_router` loads.

    Attributes:
        pair: name of the pair that the policy was trained on.
        fingerprint: of that pair (weights, tokenizers, prompt, step rule).
        models: names of the pool, cheapest first.
        look: when the policy decides.
        features: names of the observation's entries, in order.
        weights: of the actor: two tanh layers and the heads for gain and cost.
        record: results by threshold on the calibration split; None before calibration.
        card: how it was trained, for people.
    """

    pair: str
    fingerprint: str
    models: tuple[str, ...]
    look: Look
    features: tuple[str, ...]
    weights: Weights
    record: Record | None = None
    card: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: str | Path) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "policy.npz", **self.weights)  # type: ignore[arg-type]
        description = {
            "pair": self.pair,
            "fingerprint": self.fingerprint,
            "models": self.models,
            "look": self.look,
            "features": self.features,
            "calibration": self.record.summary() if self.record else None,
            "card": self.card,
        }
        (folder / "policy.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(describe(self), encoding="utf-8")
        if self.record:
            self.record.save(folder / "calibration.npz")
        else:
            (folder / "calibration.npz").unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: str | Path) -> PolicyArtifact:
        """Read an artifact.

        Raises:
            ConfigError: if files are missing or damaged, or a feature is unknown.
        """
        folder = Path(folder)
        try:
            told = json.loads((folder / "policy.json").read_text(encoding="utf-8"))
            with np.load(folder / "policy.npz") as stored:
                weights = {name: stored[name] for name in WEIGHTS}
            record = Record.load(folder / "calibration.npz") if told["calibration"] else None
            artifact = cls(
                told["pair"], told["fingerprint"], tuple(told["models"]), told["look"],
                tuple(told["features"]), weights, record, told["card"],
            )  # fmt: skip
        except FileNotFoundError as error:
            raise ConfigError(f"router {str(folder)!r}: {error.filename} is missing.") from error
        except Exception as error:
            raise ConfigError(f"router {str(folder)!r} is damaged and cannot be read: {error}") from error
        try:
            expand(artifact.features)
        except ConfigError as error:
            raise ConfigError(
                f"router {str(folder)!r} was trained on features that this version does not have: {error} "
                "Train it again."
            ) from error
        return artifact

    def __repr__(self) -> str:
        """Identifies the policy by its content, as frozen values do."""
        content = b"".join(self.weights[name].tobytes() for name in WEIGHTS)
        return f"PolicyArtifact({self.fingerprint}, {hashlib.sha256(content).hexdigest()[:16]}, {self.look})"


@dataclass(frozen=True)
class PolicyRouter:
    """Routes with a trained policy.

    The policy predicts, for each dearer model, a gain in P(correct) and a cost in units of
    large-only. The threshold is the price of cost: the model with the largest surplus
    ``gain - threshold * cost`` writes the step, the cheapest if none is positive. The score is the
    best ``gain / cost``, so that with two models "large" means ``score >= threshold``.
    """

    artifact: PolicyArtifact
    threshold: float
    name: str = "ppo"

    @property
    def look(self) -> Look:
        return self.artifact.look

    @property
    def expects(self) -> bool:
        return not set(ESTIMATES).isdisjoint(self.artifact.features)

    def decide(self, trace: Trace) -> Decision:
        models, weights = self.artifact.models, self.artifact.weights
        seen = observe(trace, models[0], models[-1], self.artifact.features)
        gain, cost = gain_and_cost(weights, seen)
        best = int(np.argmax(gain - self.threshold * cost))
        score = float(np.max(gain / cost))
        large = score >= self.threshold
        sign = ">=" if large else "<"
        reason = f"worth {score:.2f} {sign} price {self.threshold:.2f}"
        return Decision(models[1 + best] if large else models[0], score, reason)

    def check(self, pair: Pair, models: Sequence[str] | None = None, *, transfer: bool = False) -> None:
        """Refuse a pool that the policy cannot route.

        Args:
            pair: with the models by name.
            models: of the pair that are loaded; the smallest and the largest by default.
            transfer: let it route another pair than the one that it was trained on.

        Raises:
            ConfigError: if the pair is another one, or models are missing.
        """
        artifact = self.artifact
        if pair.identity != artifact.fingerprint and not transfer:
            raise ConfigError(
                f"router: the policy was trained on pair {artifact.pair!r} ({artifact.fingerprint}), which "
                f"is not pair {pair.name!r} as it is here ({pair.identity}); train one with "
                "`python -m scripts.train`."
            )
        loaded = tuple(model.name for model in pair.select(models))
        if loaded[0] != artifact.models[0] or not set(artifact.models) <= set(loaded):
            raise ConfigError(
                f"models must contain {', '.join(artifact.models)}, which the policy chooses from, the first "
                f"as the cheapest, and are {', '.join(loaded)}."
            )

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


SHIPPED = ("nano-ppo",)


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
        threshold: the price of cost itself, instead of targets.
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
        found = calibrate(artifact.record, budget=budget, max_accuracy_loss=max_accuracy_loss, delta=delta)
        threshold = found.threshold
    return PolicyRouter(artifact, threshold, label)
