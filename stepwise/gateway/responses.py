"""OpenAI's newer endpoint, ``POST /v1/responses``: the same chains in another shape.

Nothing is stored: what was said before comes with the request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BeforeValidator, FailFast, Field

from stepwise.gateway import answers, fields
from stepwise.gateway.answer_choice import Finished, Piece
from stepwise.gateway.answers import Body
from stepwise.gateway.entrance import tenant_of
from stepwise.gateway.failures import Refusal, refusal
from stepwise.gateway.gateway import Gateway
from stepwise.gateway.http import ALIVE, KEEP_ALIVE, EventStream, event, paced, unless_gone
from stepwise.gateway.job import Job
from stepwise.gateway.log import logger
from stepwise.gateway.schemas import (
    LONGEST_NAME,
    MAX_MESSAGES,
    MAX_PARTS,
    ChatRequest,
    Options,
    Strict,
    Text,
    Whole,
)

TEXT_FORMAT = {"format": {"type": "text"}}


class InputPart(Strict):
    bookkeeping = fields.PART_BOOKKEEPING | {"logprobs"}
    neutral = fields.RESPONSE_PART_NEUTRAL

    type: Literal["input_text", "output_text", "text"]
    text: Text


def _parts(content: Any) -> Any:
    return [{"type": "input_text", "text": content}] if isinstance(content, str) else content


def _items(given: Any) -> Any:
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


class InputMessage(Strict):
    """A message of the input. Of an answer that comes back as it was given, its id and status are ignored."""

    bookkeeping = fields.MESSAGE_BOOKKEEPING

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        list[InputPart],
        Field(max_length=MAX_PARTS),
        FailFast(),
        BeforeValidator(_parts, json_schema_input_type=str | list[InputPart]),
    ]


class ResponseRequest(Strict):
    """``POST /v1/responses``."""

    bookkeeping = fields.REQUEST_BOOKKEEPING
    neutral = fields.RESPONSE_NEUTRAL

    model: Annotated[str, Field(max_length=LONGEST_NAME)]
    input: Annotated[
        list[InputMessage],
        Field(min_length=1, max_length=MAX_MESSAGES),
        FailFast(),
        BeforeValidator(_items, json_schema_input_type=str | list[InputMessage]),
    ]
    instructions: Text | None = None
    stream: bool = False
    max_output_tokens: Annotated[Whole, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stepwise: Options | None = None

    @property
    def ignored(self) -> list[str]:
        """Fields that were accepted and not used."""
        parts = (part for message in self.input for part in (message, *message.content))
        return sorted({*self._ignored, *(f"input.{name}" for part in parts for name in part._ignored)})

    def as_chat(self) -> ChatRequest:
        """The same as a chat request.

        Raises:
            ValidationError: if the last message is not the user's.
        """
        instructions = [{"role": "system", "content": self.instructions}] if self.instructions else []
        said = [
            {"role": message.role, "content": "\n".join(part.text for part in message.content)}
            for message in self.input
        ]
        given = {
            "model": self.model, "stream": self.stream, "max_tokens": self.max_output_tokens,
            "temperature": self.temperature, "top_p": self.top_p, "messages": [*instructions, *said],
        }  # fmt: skip
        options = None if self.stepwise is None else self.stepwise.model_dump()
        return ChatRequest.model_validate({**given, "stepwise": options})


def responses_routes(gateway: Gateway) -> APIRouter:
    routes = APIRouter(prefix="/v1")

    @routes.post("/responses")
    async def responses(request: Request, asked: ResponseRequest) -> Response:
        if asked.input[-1].role != "user":
            message = f"input: its last message must be the user's, not the {asked.input[-1].role}'s."
            raise Refusal(400, message, code="invalid_request", param="input")
        job = gateway.submit(asked.as_chat(), tenant_of(request))
        headers = {fields.IGNORED: ", ".join(asked.ignored)} if asked.ignored else {}
        answer = Answer(asked, job, gateway.engine.cost.unit)
        try:
            if asked.stream:
                pieces = paced(aiter(job), KEEP_ALIVE)
                first = await unless_gone(request, anext(pieces))
                return EventStream(_events(answer, first, pieces, gateway), job.close, headers)
            whole = await unless_gone(request, _whole(answer))
        except BaseException:
            await job.close()
            raise
        return JSONResponse(whole, headers=headers)

    return routes


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
    def status(self) -> str:
        if self._end is None:
            return "in_progress"
        return "completed" if self._end.reason == "stop" else "incomplete"

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
            "output": [self.item] if end else [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "store": False,
            "temperature": asked.temperature,
            "text": TEXT_FORMAT,
            "tool_choice": "auto",
            "tools": [],
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
    place = {"output_index": 0, "item_id": answer.item["id"], "content_index": 0}
    yield answer.event("response.created", response=answer.body())
    yield answer.event("response.in_progress", response=answer.body())
    yield answer.event("response.output_item.added", output_index=0, item=answer.item)
    yield answer.event("response.content_part.added", **place, part=answer.part)
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
                if piece.text:
                    yield answer.event("response.output_text.delta", **place, delta=piece.text, logprobs=[])
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
    yield answer.event("response.output_text.done", **place, text=answer.part["text"], logprobs=[])
    yield answer.event("response.content_part.done", **place, part=answer.part)
    yield answer.event("response.output_item.done", output_index=0, item=answer.item)
    yield answer.event(f"response.{answer.status}", response=answer.body())
