"""A turn that is written whole: tools and response formats go to a server's chat endpoint as they came.

Servers check and enforce them in their own ways: vLLM with ``--enable-auto-tool-choice --tool-call-parser``,
llama-server with ``--jinja``. What comes back is one message, and the log-probabilities of what was written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from stepwise.backends.http.endpoint import Endpoint
from stepwise.backends.http.reading import ChatAnswer, chat_signals, counted, estimated, said, shaped
from stepwise.engine import signals
from stepwise.engine.backend import Completion, Lost, Sampling, text_tokens
from stepwise.errors import BackendError, ContextOverflow, RequestRefused
from stepwise.types import Form

CUT_OFF = ("length", "max_tokens", "model_length")
OVERHEAD = 16
"""Times the estimated tokens of a prompt that a server may count: templates, images of text, odd scripts."""


class CalledFunction(Struct):
    name: str
    arguments: str = "{}"


class Call(Struct):
    function: CalledFunction
    id: str | None = None


async def write_turn(
    endpoint: Endpoint, path: str, body: Mapping[str, Any], form: Form, most: int, context: int, lost: Lost
) -> Completion:
    """The model's message, as JSON.

    Args:
        body: the request without what the form says.
        most: tokens that it may have.
        context: tokens that the model can read.

    Raises:
        BackendError: see `stepwise.backends.http.failures`.
    """
    where, size = endpoint.base_url, text_tokens(len(form.options) + sum(map(len, form.messages)))
    messages = [json.loads(message) for message in form.messages]
    try:
        document = await endpoint.post(path, {**body, **json.loads(form.options), "messages": messages})
    except ContextOverflow:
        raise
    except RequestRefused as refused:
        hint = "it may need --enable-auto-tool-choice (vLLM) or --jinja (llama-server) for tools."
        raise RequestRefused(f"{refused} Of tools and response formats: {hint}") from refused
    answer = shaped(document, ChatAnswer, where)
    choice = answer.choices[0]
    spoken = said(choice.message)
    usage = counted(answer.usage, where, prompt=max(context, OVERHEAD * size), completion=most)
    usage = usage or estimated(size, spoken.text + json.dumps(choice.message.tool_calls), most)
    try:
        calls = shaped(choice.message.tool_calls or [], list[Call], where)
        if spoken.declined and not spoken.text:
            raise RequestRefused(f"{where}: the model declined to answer.")
    except BackendError:
        lost(usage)
        raise
    text = json.dumps(
        {"content": spoken.text, "tool_calls": [_call(call, i) for i, call in enumerate(calls)]}
    )
    measured = chat_signals(choice.logprobs, usage.completion)
    finish = "length" if choice.finish_reason in CUT_OFF else "end"
    return Completion(text, tuple(map(ord, text)), usage, measured, finish)  # type: ignore[arg-type]


def turn_body(model: str, sampling: Sampling, most: int) -> dict[str, Any]:
    """The request of a server of open models, but for what the form says."""
    body: dict[str, Any] = {
        "max_tokens": most,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "logprobs": True,
        "top_logprobs": signals.TOP,
    }
    seed = {"seed": sampling.seed} if sampling.temperature > 0.0 else {}
    return body | seed | ({"model": model} if model else {})


def _call(call: Call, place: int) -> dict[str, Any]:
    """A call as OpenAI writes it; an id that the server left out is made of what is called."""
    made = f"{place} {call.function.name} {call.function.arguments}"
    name = call.id or f"call_{hashlib.blake2b(made.encode(), digest_size=12).hexdigest()}"
    function = {"name": call.function.name, "arguments": call.function.arguments}
    return {"id": name, "type": "function", "function": function}
