"""What a run's rows say beyond means: where cost goes, where in the chain and on what the large model is
used, how well confidence matches correctness.

A row is a plain dict, as in ``rows.jsonl``; see `stepwise.evaluation.run.make_row`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from stepwise.engine.cost import CostModel
from stepwise.evaluation import metrics
from stepwise.types import Step, Trace, Usage

Row = Mapping[str, Any]
MAX_POSITIONS = 40
BINS = 10
MOST_VALUES = 12  # of a label; the rarest are left out
KINDS = ("generated", "prefill", "discarded", "probe")


def spent(trace: Trace, cost: CostModel) -> dict[str, dict[str, float]]:
    """The cost of a chain by model and kind; the parts add up to the chain's cost.

    ``prefill`` is what prompts cost (cached tokens too, where they are charged), ``probe`` is a rejected
    first token, ``discarded`` are rejected drafts and whatever else was thrown away.
    """
    parts: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for step in trace.steps:
        probe = _probe(step)
        for model, usage in step.usage.items():
            probed = min(probe.get(model, 0), usage.discarded)
            _add(parts[model], model, usage, probed, cost)
    for model, usage in trace.extra.items():
        _add(parts[model], model, usage, 0, cost)
    return {model: {kind: value for kind, value in kinds.items() if value} for model, kinds in parts.items()}


def _add(into: dict[str, float], model: str, usage: Usage, probed: int, cost: CostModel) -> None:
    into["generated"] += cost({model: Usage(completion=usage.completion)})
    into["prefill"] += cost({model: Usage(prompt=usage.prompt, cached=usage.cached)})
    into["discarded"] += cost({model: Usage(discarded=usage.discarded - probed)})
    into["probe"] += cost({model: Usage(discarded=probed)})


def _probe(step: Step) -> dict[str, int]:
    """Tokens of a rejected probe by model: a draft of one token that was cut off there."""
    draft = step.draft
    is_probe = draft is not None and len(draft.token_ids) == 1 and draft.finish == "length"
    return {draft.model: 1} if draft is not None and is_probe else {}


def mean_spent(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """`spent` averaged over chains."""
    total: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        for model, kinds in row.get("spent", {}).items():
            for kind, value in kinds.items():
                total[model][kind] += value / len(rows)
    return {model: dict(kinds) for model, kinds in total.items()}


def positions(rows: Iterable[Row]) -> dict[str, list[int]]:
    """By model, how many steps it wrote at each position of a chain (the last one: and beyond)."""
    counts: dict[str, list[int]] = {}
    for row in rows:
        for place, step in enumerate(row["steps"]):
            of = counts.setdefault(step["model"], [0] * MAX_POSITIONS)
            of[min(place, MAX_POSITIONS - 1)] += 1
    longest = max((max(np.flatnonzero(of)) + 1 for of in counts.values()), default=0)
    return {model: of[:longest] for model, of in counts.items()}


def by_label(rows: Sequence[Row], large: str, *, seed: int) -> dict[str, list[dict[str, Any]]]:
    """By label and value: number of problems, accuracy with its interval, cost, share of large's steps."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        for label, value in row.get("labels", {}).items():
            groups[label, value].append(row)
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (label, value), some in sorted(groups.items(), key=lambda group: -len(group[1])):
        if len(found[label]) < MOST_VALUES:
            found[label].append({"value": value, **_group(some, large, seed)})
    return {label: sorted(values, key=_place) for label, values in found.items()}


def _place(group: Mapping[str, Any]) -> tuple[float, str]:
    try:
        return float(group["value"]), ""
    except ValueError:
        return math.inf, group["value"]


def _group(rows: Sequence[Row], large: str, seed: int) -> dict[str, Any]:
    right: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        right[row["problem"]].append(row["correct"])
    means = [float(np.mean(values)) for values in right.values()]
    writers = [step["model"] for row in rows for step in row["steps"]]
    return {
        "n": len(means),
        "accuracy": float(np.mean(means)),
        "accuracy_ci": metrics.interval(means, seed=seed),
        "cost": float(np.mean([row["cost"] for row in rows])),
        "large_share": writers.count(large) / len(writers) if writers else 0.0,
    }


def reliability(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Chains in up to `BINS` groups of equal size by confidence, with how often each group is right.

    A chain's confidence is the geometric mean of its tokens' probabilities.
    """
    scored = [(value, row) for row in rows if (value := confidence(row)) is not None]
    if not scored:
        return []
    scored.sort(key=lambda pair: pair[0])
    parts = np.array_split(np.arange(len(scored)), min(BINS, max(1, len(scored) // 5)))
    return [_bin([scored[i] for i in part]) for part in parts]


def confidence(row: Row) -> float | None:
    """Geometric mean of a chain's token probabilities, None where its models return none."""
    lengths = [step["signals"]["length"] for step in row["steps"]]
    if not sum(lengths):
        return None
    total = sum(step["signals"]["mean_logprob"] * step["signals"]["length"] for step in row["steps"])
    return math.exp(total / sum(lengths))


def _bin(scored: Sequence[tuple[float, Row]]) -> dict[str, Any]:
    right = [float(row["correct"]) for _, row in scored]
    return {
        "n": len(right),
        "confidence": float(np.mean([value for value, _ in scored])),
        "accuracy": float(np.mean(right)),
        "accuracy_ci": metrics.interval(right),
    }
