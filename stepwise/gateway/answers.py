"""Answers in OpenAI's shapes, each with where it came from: ``stepwise`` in every choice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from stepwise.gateway.answer_choice import Done, Finished, Piece
from stepwise.gateway.job import Job
from stepwise.gateway.order import Order
from stepwise.types import Estimate, Router, Trace, Usage

Body = dict[str, Any]
Calls = Sequence[Mapping[str, Any]]
"""Of tools."""


class Shape:
    """What one of the two endpoints calls the parts of an answer."""

    def __init__(self, prefix: str, whole: str, chunk: str) -> None:
        self._prefix, self._whole, self._chunk = prefix, whole, chunk

    def head(self, order: Order, *, chunk: bool) -> Body:
        return {
            "id": f"{self._prefix}-{order.id}",
            "object": self._chunk if chunk else self._whole,
            "created": int(order.created),
            "model": order.model,
        }

    def content(self, text: str, calls: Calls, thought: str) -> Body:
        raise NotImplementedError

    def delta(self, text: str, calls: Calls, thought: str, *, first: bool) -> Body:
        raise NotImplementedError


class ChatShape(Shape):
    def __init__(self) -> None:
        super().__init__("chatcmpl", "chat.completion", "chat.completion.chunk")

    def content(self, text: str, calls: Calls, thought: str) -> Body:
        called = {"content": text or None, "tool_calls": list(calls)} if calls else {}
        apart = {"reasoning_content": thought} if thought else {}
        return {"message": {"role": "assistant", "content": text, "refusal": None, **apart, **called}}

    def delta(self, text: str, calls: Calls, thought: str, *, first: bool) -> Body:
        role = {"role": "assistant"} if first else {}
        called = {"tool_calls": [{"index": i, **call} for i, call in enumerate(calls)]} if calls else {}
        apart = {"reasoning_content": thought} if thought else {}
        something = first or text or calls or thought
        return {"delta": {**role, "content": text, **apart, **called} if something else {}}


class CompletionShape(Shape):
    def __init__(self) -> None:
        super().__init__("cmpl", "text_completion", "text_completion")

    def content(self, text: str, calls: Calls, thought: str) -> Body:
        return {"text": text}

    def delta(self, text: str, calls: Calls, thought: str, *, first: bool) -> Body:
        return {"text": text}


def whole(shape: Shape, job: Job, pieces: Sequence[Piece], unit: str) -> Body:
    """The answer to a request that does not stream."""
    texts, thoughts = ["" for _ in job.choices], ["" for _ in job.choices]
    for piece in pieces:
        texts[piece.choice] += piece.text
        thoughts[piece.choice] += piece.thought
    ends = {piece.choice: piece.finished for piece in pieces if piece.finished}
    choices = [
        {
            "index": i,
            **shape.content(texts[i], job.choices[i].calls, thoughts[i]),
            "logprobs": None,
            "finish_reason": end.reason,
            "stepwise": {
                **summary(job.order.router, end, unit),
                "steps": [described(done) for done in job.choices[i].steps],
            },
        }
        for i, end in sorted(ends.items())
    ]
    return {
        **shape.head(job.order, chunk=False),
        "choices": choices,
        "usage": usage(ends.values()),
        "stepwise": total(ends.values(), unit),
    }


def chunk(shape: Shape, job: Job, piece: Piece, *, first: bool, unit: str) -> Body:
    """One piece of a streamed answer."""
    router = job.order.router
    provenance: Body = {"model": piece.model}
    if piece.done is not None:
        spent = costs(piece.done.cost, piece.done.alone, unit)
        provenance |= {"step": described(piece.done), "threshold": threshold(router), **spent}
    if piece.finished is not None:
        provenance |= summary(router, piece.finished, unit)
    choice = {
        "index": piece.choice,
        **shape.delta(piece.text, piece.calls, piece.thought, first=first),
        "logprobs": None,
        "finish_reason": piece.finished.reason if piece.finished else None,
        "stepwise": provenance,
    }
    return {**shape.head(job.order, chunk=True), "choices": [choice]}


def usage_chunk(shape: Shape, job: Job, ends: Sequence[Finished], unit: str) -> Body:
    """The last chunk where ``stream_options.include_usage`` asks for it."""
    head = shape.head(job.order, chunk=True)
    return {**head, "choices": [], "usage": usage(ends), "stepwise": total(ends, unit)}


def usage(ends: Iterable[Finished]) -> Body:
    """OpenAI's counts: the questions' prompts once, and the tokens that are part of the chains.

    What routing really took, drafts and the models' reading of each other included, is in
    ``stepwise.usage``.
    """
    traces = [end.trace for end in ends]
    prompt = sum(trace.prompt_tokens for trace in traces)
    completion = sum(part.completion for trace in traces for part in trace.usage.values())
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def summary(router: Router, end: Finished, unit: str) -> Body:
    """What a whole chain was and cost."""
    trace = end.trace
    return {
        "router": router.name,
        "threshold": threshold(router),
        "stop": end.stop,
        "degraded": trace.degraded,
        "answer": trace.answer,
        "switches": switches(trace),
        "estimates": [estimated(estimate) for estimate in trace.estimates],
        "usage": tokens(trace.usage),
        **costs(trace.cost, end.alone, unit),
    }


def total(ends: Iterable[Finished], unit: str) -> Body:
    """The costs of all chains of a request, and why another model wrote a part of one, '' where none had
    to."""
    ends = list(ends)
    degraded = next((end.trace.degraded for end in ends if end.trace.degraded), "")
    return {"degraded": degraded} | costs(
        sum(end.trace.cost for end in ends), sum(end.alone for end in ends), unit
    )


def threshold(router: Router) -> float | None:
    """A router's threshold, where it has one."""
    value = getattr(router, "threshold", None)
    return None if value is None else float(value)


def described(done: Done) -> Body:
    """One step: who wrote it, why, and what it took."""
    step = done.step
    decision, draft = step.decision, step.draft
    return {
        "number": done.number,
        "model": step.model,
        "text": step.text,
        "tokens": step.length,
        "score": decision.score if decision else None,
        "reason": decision.reason if decision else "",
        "signals": asdict(step.signals),
        "usage": tokens(step.usage),
        "cost": step.cost,
        "draft": {"model": draft.model, "text": draft.text, "signals": asdict(draft.signals)}
        if draft
        else None,
        "finished": done.time,
    }


def estimated(estimate: Estimate) -> Body:
    """What was expected of a model before the start; its cost in the unit of the model's price."""
    fields = ("model", "p_correct", "p_interval", "tokens", "interval", "cost", "outside")
    return {name: getattr(estimate, name) for name in fields}


def tokens(usage: Mapping[str, Usage]) -> Body:
    """Tokens by model and kind."""
    return {model: asdict(part) for model, part in usage.items()}


def switches(trace: Trace) -> int:
    """How often another model took over."""
    models = [step.model for step in trace.steps]
    return sum(a != b for a, b in pairwise(models))


def costs(cost: float, alone: float, unit: str) -> Body:
    """A cost beside what the large model alone would have cost for the same text."""
    share = cost / alone if alone else None
    return {"cost": cost, "cost_large_only": alone, "cost_share": share, "cost_unit": unit}
