"""OpenAI's newer endpoint, ``POST /v1/responses``: the same chains in another shape.

Nothing is stored: what was said before comes with the request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from stepwise.gateway import answers, fields
from stepwise.gateway.answer_choice import Finished, Piece
from stepwise.gateway.answers import Body
from stepwise.gateway.entrance import tenant_of
from stepwise.gateway.failures import Refusal, invalid, refusal
from stepwise.gateway.gateway import Gateway
from stepwise.gateway.http import ALIVE, KEEP_ALIVE, EventStream, event, unless_gone
from stepwise.gateway.job import Job
from stepwise.gateway.log import logger
from stepwise.gateway.response_request import ResponseRequest, as_chat


def responses_routes(gateway: Gateway) -> APIRouter:
    routes = APIRouter(prefix="/v1")

    @routes.post("/responses")
    async def responses(request: Request, asked: ResponseRequest) -> Response:
        last = asked.input[-1]
        if last.type == "function_call" or (last.type == "message" and last.role != "user"):
            message = f"input: its last message must be the user's, not the {last.role or 'assistant'}'s."
            raise Refusal(400, message, code="invalid_request", param="input")
        try:
            chat = as_chat(asked)
        except ValidationError as error:
            raise invalid(error.errors()) from error
        job = gateway.submit(chat, tenant_of(request))
        headers = {fields.IGNORED: ", ".join(asked.ignored)} if asked.ignored else {}
        answer = Answer(asked, job, gateway.engine.cost.unit)
        try:
            if asked.stream:
                pieces = job.paced(KEEP_ALIVE)
                first = await unless_gone(request, anext(pieces))
                return EventStream(_events(answer, first, pieces, gateway), job.close, headers)
            whole = await unless_gone(request, _whole(answer))
        except BaseException:
            await job.close()
            raise
        return JSONResponse(whole, headers=headers)

    return routes


TEXT_FORMAT = {"format": {"type": "text"}}


class Answer:
    """An answer as it grows, in the shape of a response."""

    def __init__(self, asked: ResponseRequest, job: Job, unit: str) -> None:
        self.job = job
        self._asked, self._unit = asked, unit
        self._text = ""
        self._end: Finished | None = None
        self._sequence = -1

    def add(self, piece: Piece) -> None:
        self._text += piece.text
        self._end = piece.finished or self._end

    @property
    def part(self) -> Body:
        return {"type": "output_text", "text": self._text, "annotations": [], "logprobs": []}

    @property
    def item(self) -> Body:
        """The one message of the output."""
        content = [self.part] if self._end else []
        about = {"id": f"msg_{self.job.order.id}", "type": "message", "role": "assistant"}
        return {**about, "status": self.status, "content": content}

    @property
    def items(self) -> list[Body]:
        """The output: a message, calls of tools, or both."""
        choice = self.job.choices[0]
        calls = [_called(call, f"fc_{self.job.order.id}_{i}") for i, call in enumerate(choice.calls)]
        return [*([self.item] if self._text or not calls else []), *calls]

    @property
    def status(self) -> str:
        if self._end is None:
            return "in_progress"
        return "incomplete" if self._end.reason == "length" else "completed"

    def body(self, failed: Refusal | None = None) -> Body:
        """The response so far, or as it failed."""
        order, asked, end = self.job.order, self._asked, self._end
        failure = None if failed is None else {"code": "server_error", "message": failed.message}
        cut = {"reason": "max_output_tokens"} if self.status == "incomplete" else None
        return {
            "id": f"resp_{order.id}",
            "object": "response",
            "created_at": int(order.created),
            "status": self.status if failed is None else "failed",
            "error": failure,
            "incomplete_details": cut,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": {},
            "model": order.model,
            "output": self.items if end else [],
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "temperature": asked.temperature,
            "text": asked.text.model_dump(by_alias=True) if asked.text and asked.text.format else TEXT_FORMAT,
            "tool_choice": asked.tool_choice or "auto",
            "tools": [tool.model_dump() for tool in asked.tools],
            "top_p": asked.top_p,
            "usage": _usage([end]) if end else None,
            "stepwise": self._provenance(end) if end else None,
        }

    def _provenance(self, end: Finished) -> Body:
        steps = [answers.described(done) for done in self.job.choices[0].steps]
        return {**answers.summary(self.job.order.router, end, self._unit), "steps": steps}

    def event(self, kind: str, **more: Any) -> bytes:
        """A server-sent event; clients tell them apart by their type and put them in order by number."""
        self._sequence += 1
        body = event({"type": kind, "sequence_number": self._sequence, **more})
        return f"event: {kind}\n".encode() + body


def _usage(ends: Sequence[Finished]) -> Mapping[str, Any]:
    counts = answers.usage(ends)
    return {
        "input_tokens": counts["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": counts["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": counts["total_tokens"],
    }


async def _whole(answer: Answer) -> Body:
    async for piece in answer.job:
        answer.add(piece)
    return answer.body()


async def _events(
    answer: Answer, first: Piece | None, rest: AsyncIterator[Piece | None], gateway: Gateway
) -> AsyncIterator[bytes]:
    """The answer as it grows; a failure on the way is the last event."""
    yield answer.event("response.created", response=answer.body())
    yield answer.event("response.in_progress", response=answer.body())
    formed = answer.job.order.problems[0].form is not None
    if not formed:
        for opened in _opening(answer):
            yield opened
    piece, heard = first, False
    try:
        while True:
            if piece is None:
                yield ALIVE
            else:
                if not heard:
                    gateway.first_text(answer.job)
                heard = True
                answer.add(piece)
                if piece.text and not formed:
                    yield _delta(answer, piece.text)
            try:
                piece = await anext(rest)
            except StopAsyncIteration:
                break
    except Exception as error:
        refused = refusal(error)
        gateway.metrics.errors.labels(refused.code).inc()
        if refused.code == "internal_error":
            logger.error("a stream broke off", exc_info=error)
        yield answer.event("response.failed", response=answer.body(refused))
        return
    for place, item in enumerate(answer.items):
        if item["type"] == "function_call":
            for made in _call_events(answer, place, item):
                yield made
            continue
        if formed:
            for opened in (*_opening(answer), _delta(answer, answer.part["text"])):
                yield opened
        for closed in _closing(answer):
            yield closed
    yield answer.event(f"response.{answer.status}", response=answer.body())


def _place(answer: Answer) -> Body:
    """Of the one message's text."""
    return {"output_index": 0, "item_id": answer.item["id"], "content_index": 0}


def _opening(answer: Answer) -> Iterator[bytes]:
    about = {"status": "in_progress", "content": []}
    yield answer.event("response.output_item.added", output_index=0, item={**answer.item, **about})
    part = {**answer.part, "text": ""}
    yield answer.event("response.content_part.added", **_place(answer), part=part)


def _delta(answer: Answer, text: str) -> bytes:
    return answer.event("response.output_text.delta", **_place(answer), delta=text, logprobs=[])


def _closing(answer: Answer) -> Iterator[bytes]:
    place = _place(answer)
    yield answer.event("response.output_text.done", **place, text=answer.part["text"], logprobs=[])
    yield answer.event("response.content_part.done", **place, part=answer.part)
    yield answer.event("response.output_item.done", output_index=0, item=answer.item)


def _call_events(answer: Answer, index: int, item: Body) -> Iterator[bytes]:
    place, arguments = {"output_index": index, "item_id": item["id"]}, item["arguments"]
    begun = {**item, "arguments": "", "status": "in_progress"}
    yield answer.event("response.output_item.added", output_index=index, item=begun)
    yield answer.event("response.function_call_arguments.delta", **place, delta=arguments)
    done = {"arguments": arguments, "name": item["name"]}
    yield answer.event("response.function_call_arguments.done", **place, **done)
    yield answer.event("response.output_item.done", output_index=index, item=item)


def _called(call: Mapping[str, Any], name: str) -> Body:
    """A call of a tool as an item of the output."""
    function = call["function"]
    about = {"id": name, "type": "function_call", "status": "completed", "call_id": call["id"]}
    return {**about, "name": function["name"], "arguments": function["arguments"]}
