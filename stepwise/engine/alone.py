"""What a chain would have taken if one model had written it all, in one go: what routing is compared with."""

from __future__ import annotations

from stepwise.engine.backend import TEXT, Backend, text_tokens, tokens_in
from stepwise.engine.contexts import Contexts
from stepwise.types import Trace, Usage


def usage_alone(trace: Trace, model: str, backend: Backend, contexts: Contexts) -> Usage:
    """The same text, by ``model``. Where its state is text, tokens are those that its server counted, or an
    estimate."""
    if trace.problem.form is not None:
        return _whole_turn(trace, model)
    prompt = contexts.of(Trace(trace.problem), model, {}).prefix
    shared = tokens_in(backend, contexts.shared(model, prompt))
    if backend.tokenizer != TEXT:
        written = len(contexts.of(trace, model, {}).prefix) - len(prompt)
        return Usage(prompt=len(prompt), cached=shared, completion=written).called()
    written = sum(step.length if step.model == model else text_tokens(len(step.text)) for step in trace.steps)
    counted = counted_prompt(trace, model) or text_tokens(len(prompt))
    return Usage(prompt=counted, cached=min(shared, counted), completion=written).called()


def counted_prompt(trace: Trace, model: str) -> int:
    """Tokens of the prompt as the model's server counted them; 0 unless it began the chain with one call."""
    usage = trace.steps[0].usage.get(model) if trace.steps and trace.steps[0].model == model else None
    return usage.prompt if usage and not usage.discarded and not usage.estimated else 0


def _whole_turn(trace: Trace, model: str) -> Usage:
    """A turn that was written in one call: the prompt as the servers counted it."""
    counts = trace.usage
    prompt = counts[model].prompt if model in counts else max((u.prompt for u in counts.values()), default=0)
    return Usage(prompt=prompt, completion=sum(step.length for step in trace.steps)).called()
