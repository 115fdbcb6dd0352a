"""A chat endpoint without a model, that does as it is told: it calls the first tool that it is given, fills
in the schema that it is given, or repeats what was said. Its probabilities are those of a sure model.

    python -m scripts.checks.clients.chat_model 8790      # for a pair with `backend: {name: chat, ...}`
"""

from __future__ import annotations

import json
import sys
from typing import Any

from aiohttp import web

ZERO: dict[str, Any] = {"string": "x", "integer": 1, "number": 1, "boolean": True, "array": [], "null": None}


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """What it says to a chat request."""
    message, tools = body["messages"][-1], body.get("tools") or []
    form = body.get("response_format") or {"type": "text"}
    said: dict[str, Any] = {"role": "assistant", "content": f"You said: {message['content']}"}
    if tools and message["role"] != "tool" and body.get("tool_choice") != "none":
        function = tools[0]["function"]
        made = {"name": function["name"], "arguments": json.dumps(filled(function.get("parameters") or {}))}
        said |= {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": made}]}
    elif form["type"] != "text":
        said["content"] = json.dumps(filled(form.get("json_schema", {}).get("schema") or {}))
    called = "tool_calls" in said
    row = {"token": "x", "logprob": -0.01, "top_logprobs": [{"logprob": -0.01}, {"logprob": -5.0}]}
    reason = "tool_calls" if called else "stop"
    choice = {
        "index": 0,
        "message": said,
        "finish_reason": reason,
        "stop_reason": None,
    }  # the model's own end
    counts = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
    return {"model": body["model"], "choices": [{**choice, "logprobs": {"content": [row]}}], "usage": counts}


def filled(schema: dict[str, Any], whole: dict[str, Any] | None = None) -> Any:
    """The simplest value of a schema."""
    whole = schema if whole is None else whole
    if "$ref" in schema:
        return filled(whole["$defs"][schema["$ref"].rsplit("/", 1)[-1]], whole)
    if "enum" in schema or "const" in schema:
        return schema.get("const", [*schema.get("enum", []), None][0])
    if "anyOf" in schema:
        return filled(schema["anyOf"][0], whole)
    kind = schema.get("type", "object")
    if kind != "object":
        return ZERO[kind if isinstance(kind, str) else kind[0]]
    return {name: filled(each, whole) for name, each in schema.get("properties", {}).items()}


def app() -> web.Application:
    async def post(request: web.Request) -> web.Response:
        return web.json_response(answer(await request.json()))

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name} for name in ("small", "large")]})

    made = web.Application()
    made.router.add_post("/v1/chat/completions", post)
    made.router.add_get("/v1/models", models)
    return made


if __name__ == "__main__":
    web.run_app(app(), host="127.0.0.1", port=int(sys.argv[1]))
