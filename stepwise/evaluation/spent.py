"""Where the cost of a chain went: by model, and by what the model did."""

from __future__ import annotations

from collections import defaultdict

from stepwise.engine.cost import CostModel
from stepwise.types import Step, Trace, Usage

KINDS = ("generated", "prefill", "discarded", "probe")


def spent(trace: Trace, cost: CostModel) -> dict[str, dict[str, float]]:
    """The cost of a chain by model and kind; the parts add up to the chain's cost.

    ``prefill`` is what prompts cost (cached tokens and calls too, where they are charged), ``probe`` is a
    rejected first token, ``discarded`` are rejected drafts and whatever else was thrown away.
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
    into["prefill"] += cost({model: Usage(prompt=usage.prompt, cached=usage.cached, calls=usage.calls)})
    into["discarded"] += cost({model: Usage(discarded=usage.discarded - probed)})
    into["probe"] += cost({model: Usage(discarded=probed)})


def _probe(step: Step) -> dict[str, int]:
    """Tokens of a rejected probe by model: a draft of one token that was cut off there."""
    draft = step.draft
    is_probe = draft is not None and len(draft.token_ids) == 1 and draft.finish == "length"
    return {draft.model: 1} if draft is not None and is_probe else {}
