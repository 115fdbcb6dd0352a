"""A process that speaks the OpenAI protocol, with two scripted models behind it and faults on demand.

    python -m tests.faulty_server PORT LOG [RATE]

``POST /faults`` with a list of names makes the next answers fail that way, one each; with RATE, that share
of all answers fails in a random way. LOG gets a line per completion that was generated: the model and what
it continued. ``GET /counters`` tells how many tokens were read and generated, and how many generations
a client broke off.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

from stepwise.engine.backend import Completion, Sampling
from tests.characters import VOCABULARY
from tests.worlds import adder

RANDOM_FAULTS = ("refuse", "429", "500", "cut", "garbage", "empty")


class Server:
    """The models, the faults that wait, and the counts."""

    def __init__(self, log: Path, rate: float) -> None:
        self.models = {"small": adder(5), "large": adder()}
        self.log = log.open("a")
        self.rate = rate
        self.random = random.Random(0)
        self.faults: list[str] = []
        self.counters = {"prompt": 0, "generated": 0, "aborted": 0, "requests": 0}

    async def set_faults(self, request: web.Request) -> web.Response:
        self.faults = await request.json()
        return web.json_response({})

    async def get_counters(self, _: web.Request) -> web.Response:
        return web.json_response(self.counters)

    async def list_models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name, "max_model_len": 2000} for name in self.models]})

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = "".join(VOCABULARY[i] for i in body["prompt"])
        return await self.answer(request, body, text, self.completion_choice, "/completions")

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        question, *begun = [message["content"] for message in body["messages"]]
        return await self.answer(request, body, f"{question}\n{''.join(begun)}", self.chat_choice, "/chat")

    async def answer(
        self, request: web.Request, body: Any, text: str, choice: Any, path: str
    ) -> web.StreamResponse:
        self.counters["requests"] += 1
        fault = self.faults.pop(0) if self.faults else ""
        if not fault and self.random.random() < self.rate:
            fault = self.random.choice(RANDOM_FAULTS)
        if (early := await self.early(request, fault)) is not None:
            return early
        sampling = Sampling(body["max_tokens"], stop=tuple(body.get("stop", ())))
        model = self.models[body["model"]]
        done = await model.generate(tuple(map(ord, text)), sampling)
        name = "another" if fault == "name" else body["model"]
        if body.get("stream"):
            return await self.stream(request, done, name, fault, text)
        self.count(body["model"], text, done.usage.completion, done.usage.prompt, whole="stop" not in body)
        if fault == "empty":
            done = Completion("", (), done.usage, done.signals, "stop")
        return web.json_response({"model": name, "choices": [choice(done)], "usage": usage(done)})

    async def early(self, request: web.Request, fault: str) -> web.Response | None:
        """What can go wrong before a model is asked."""
        if fault == "never":
            await asyncio.sleep(3600)
        if fault in ("429", "500"):
            return web.Response(status=int(fault), text="busy", headers={"Retry-After": "0.3"})
        if fault == "overflow":
            text = "This model's maximum context length is 2000 tokens."
            return web.json_response({"error": {"message": text}}, status=400)
        if fault == "garbage":
            return web.Response(text="<html>not found</html>")
        if fault in ("refuse", "cut") and request.transport is not None:
            request.transport.close()
            return web.Response()
        return None

    async def stream(
        self, request: web.Request, done: Completion, name: str, fault: str, text: str
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        tokens = [*done.text, *(["<end>"] if done.finish == "end" else [])]
        self.counters["prompt"] += done.usage.prompt
        for i, token in enumerate(tokens):
            if fault == "cut mid-stream" and i == 5 and request.transport is not None:
                request.transport.close()
                return response
            finish = done.finish if i == len(tokens) - 1 else None
            line = done.text[done.text.rfind("\n", 0, i) + 1 :]
            value = self.models[name].logprob(line) if name in self.models else 0.0
            part = {"model": name, "choices": [choice_of([token], value, finish)]}
            try:
                await response.write(f"data: {json.dumps(part)}\n\n".encode())
                await asyncio.sleep(0.002 if fault != "slow" else 0.05)
            except (ConnectionResetError, asyncio.CancelledError):
                self.counters["aborted"] += 1
                raise
            self.counters["generated"] += 1
        await response.write(b"data: [DONE]\n\n")
        self.count(name, text, 0, 0)
        return response

    def count(self, model: str, text: str, generated: int, prompt: int, whole: bool = False) -> None:
        self.counters["generated"] += generated
        self.counters["prompt"] += prompt
        print(json.dumps([model, text, whole]), file=self.log, flush=True)

    @staticmethod
    def completion_choice(done: Completion) -> dict[str, Any]:
        tokens = [*done.text, *(["<end>"] if done.finish == "end" else [])]
        return choice_of(tokens, done.signals.min_logprob, done.finish)

    @staticmethod
    def chat_choice(done: Completion) -> dict[str, Any]:
        reason, cause = reasons(done.finish)
        value = done.signals.min_logprob
        row = {"logprob": value, "top_logprobs": [{"logprob": value}, {"logprob": value - 1.0}]}
        return {
            "message": {"content": done.text.removesuffix("\n")},
            "logprobs": {"content": [row] * done.usage.completion},
            "finish_reason": reason,
            "stop_reason": cause,
        }


def reasons(finish: str | None) -> tuple[str | None, str | None]:
    return ("stop" if finish in ("stop", "end") else finish), "\n" if finish == "stop" else None


def choice_of(tokens: list[str], value: float, finish: str | None) -> dict[str, Any]:
    reason, cause = reasons(finish)
    return {
        "text": "".join(tokens),
        "token_ids": [VOCABULARY.index(token) for token in tokens],
        "logprobs": {
            "token_logprobs": [value] * len(tokens),
            "top_logprobs": [{"a": value, "b": value - 1.0}] * len(tokens),
        },
        "finish_reason": reason,
        "stop_reason": cause,
    }


def usage(done: Completion) -> dict[str, Any]:
    cached = {"cached_tokens": done.usage.cached}
    return {
        "prompt_tokens": done.usage.prompt,
        "completion_tokens": done.usage.completion,
        "prompt_tokens_details": cached,
    }


def main() -> None:
    server = Server(Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)
    app = web.Application(client_max_size=2**26)
    app.router.add_get("/v1/models", server.list_models)
    app.router.add_post("/v1/completions", server.completions)
    app.router.add_post("/v1/chat/completions", server.chat)
    app.router.add_post("/faults", server.set_faults)
    app.router.add_get("/counters", server.get_counters)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, handler_cancellation=True)


if __name__ == "__main__":
    main()
