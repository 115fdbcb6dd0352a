"""The card of a trained policy: what a stranger has to know before using it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwise.routers.artifact import PolicyArtifact


def describe(artifact: PolicyArtifact) -> str:
    """The card as Markdown."""
    told = artifact.card
    sections = [
        f"# Routing policy for {artifact.pair}",
        f"Chooses between {', '.join(artifact.models)} for every step of a chain of thought; looks "
        f"`{artifact.look}`. Pair fingerprint `{artifact.fingerprint}`: other weights, prompts or step rules "
        "need a policy of their own.",
        "```python\nstepwise.load_router(FOLDER, budget=0.4)\n```",
        f"Features: {', '.join(artifact.features)}.",
        "## Training\n\n" + _facts(told),
    ]
    curve = (told.get("validation") or {}).get("curve")
    if curve:
        sections.append("Mean accuracy over the range of costs, on validation problems:")
        sections.append(_table(("steps", "accuracy"), [(f"{at:,}", f"{value:.4f}") for at, value in curve]))
    sections.append("## Calibration\n\n" + _calibration(artifact))
    return "\n\n".join(sections) + "\n"


def _facts(told: Mapping[str, Any]) -> str:
    plain = {name: value for name, value in told.items() if name not in ("validation", "policy")}
    return "\n".join(f"- {name}: {value}" for name, value in {**plain, **told.get("policy", {})}.items())


def _calibration(artifact: PolicyArtifact) -> str:
    record = artifact.record
    if record is None:
        return "None yet: `python -m scripts.calibrate`."
    rows = [
        (f"{threshold:g}", f"{right.mean():.1%}", f"{(cost.mean() / record.large_cost.mean()):.1%}")
        for threshold, right, cost in zip(record.thresholds, record.correct, record.cost, strict=True)
    ]
    head = f"{len(record.large_correct)} problems (split {record.split}), cost in {record.unit}.\n\n"
    return head + _table(("threshold", "accuracy", "cost, of large-only"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))
