"""The card of a trained policy: what a stranger has to know before using it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def describe(policy: Mapping[str, Any]) -> str:
    """The card as Markdown, from what ``policy.json`` says."""
    card = policy["card"]
    sections = [
        f"# Routing policy for {policy['pair']}",
        f"Chooses between {', '.join(policy['models'])} for every step of a chain of thought; looks "
        f"`{policy['look']}`. Pair fingerprint `{policy['fingerprint']}`: other weights, prompts or step "
        "rules need a policy of their own.",
        "```python\nstepwise.load_router(FOLDER, budget=0.4)\n```",
        f"Features: {', '.join(policy['features'])}.",
        "## Training\n\n" + _facts(card),
    ]
    measured = card.get("validation") or {}
    curve = measured.get("curve")
    if curve:
        mix = (
            f" (a random mix of the models: {measured['random_mix']:.4f})" if "random_mix" in measured else ""
        )
        sections.append(f"Mean accuracy over the range of costs, on validation problems{mix}:")
        sections.append(_table(("steps", "accuracy"), [(f"{at:,}", f"{value:.4f}") for at, value in curve]))
    sections.append("## Calibration\n\n" + _calibration(policy["calibration"]))
    return "\n\n".join(sections) + "\n"


def _facts(card: Mapping[str, Any]) -> str:
    elsewhere = ("validation", "policy", "seen", "thresholds")
    plain = {name: value for name, value in card.items() if name not in elsewhere}
    if mix := (card.get("validation") or {}).get("random_mix"):
        plain["accuracy of a random mix of the models"] = f"{mix:.4f}"
    facts = {**plain, **card.get("policy", {})}
    return "\n".join(f"- {name}: {_shown(value)}" for name, value in facts.items())


def _shown(value: Any) -> str:
    """A setting or a result as people write it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value)


def _calibration(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return "None yet: `python -m scripts.calibrate`."
    rows = [
        (f"{threshold:g}", f"{accuracy:.1%}", f"{cost:.1%}")
        for threshold, accuracy, cost in zip(
            summary["thresholds"], summary["accuracy"], summary["cost"], strict=True
        )
    ]
    head = f"{summary['n']} problems (split {summary['split']}), cost in {summary['cost_unit']}.\n\n"
    return head + _table(("threshold", "accuracy", "cost, of large-only"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))
