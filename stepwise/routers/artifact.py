"""A trained policy as served: weights, features, the pair it knows, and its calibration.

A folder with ``policy.npz`` (weights, a few kB), ``policy.json`` (what it is), ``README.md`` (the same for
people) and, once calibrated, ``calibration.npz`` (the recorded results). Running it takes NumPy alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepwise.calibration import CalibrationRecord
from stepwise.errors import ConfigError
from stepwise.routers.card import describe
from stepwise.routers.features import Scales, expand
from stepwise.types import Look

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
        scales: of the features, as they were fitted to its training chains; the others are nano's.
    """

    pair: str
    fingerprint: str
    models: tuple[str, ...]
    look: Look
    features: tuple[str, ...]
    weights: Weights
    record: CalibrationRecord | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    scales: Scales = ()

    def save(self, folder: str | Path) -> None:
        """Write the folder; it is made if it is not there.

        Raises:
            OSError: if it cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "policy.npz", **self.weights)  # type: ignore[arg-type]
        description = {
            "pair": self.pair,
            "fingerprint": self.fingerprint,
            "models": self.models,
            "look": self.look,
            "features": self.features,
            "scales": dict(self.scales),
            "calibration": self.record.summary() if self.record else None,
            "card": self.card,
        }
        (folder / "policy.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(describe(description), encoding="utf-8")
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
            description = json.loads((folder / "policy.json").read_text(encoding="utf-8"))
            with np.load(folder / "policy.npz") as stored:
                weights = {name: stored[name] for name in WEIGHTS}
            record = (
                CalibrationRecord.load(folder / "calibration.npz") if description["calibration"] else None
            )
            artifact = cls(
                description["pair"], description["fingerprint"], tuple(description["models"]),
                description["look"], tuple(description["features"]), weights, record, description["card"],
                tuple((name, float(by)) for name, by in description.get("scales", {}).items()),
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
        content += repr(self.scales).encode() if self.scales else b""
        return f"PolicyArtifact({self.fingerprint}, {hashlib.sha256(content).hexdigest()[:16]}, {self.look})"
