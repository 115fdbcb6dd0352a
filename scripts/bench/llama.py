"""A llama-server: chains of one call a step against uninterrupted calls, one stream.

Every question is answered in turn by one call (``call``), by the engine with one call a step (``steps``), and
by the engine reading one generation on past its steps (``lookahead``), each with the same log-probabilities;
and by one call that asks for none and is not streamed (``bare``). Compared are seconds a token. The server
has the prompt in its cache for all alike.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from stepwise import load_dataset
from stepwise.backends.http.endpoint import Endpoint
from stepwise.engine.backend import Backend, Sampling
from stepwise.engine.engine import Engine
from stepwise.models.model import Model
from stepwise.models.pair import Pair
from stepwise.routers import Always

PROMPT = (
    "<|im_start|>user\n{question} Think step by step, one short line a step.<|im_end|>\n"
    "<|im_start|>assistant\n"
)
Work = Callable[[str], Awaitable[int]]
"""Answers a question: the number of tokens that were written."""


def measure(url: str, checkpoint: str, questions: int, tokens: int, repeats: int) -> dict[str, Any]:
    """Ratios to one uninterrupted call, each the median of the repeats, with the least and the largest.

    Args:
        url: of the server, without ``/v1``.
        checkpoint: folder with the model's tokenizer.
        questions: of nano, asked one after another.
        tokens: of an answer at most.
        repeats: of everything; one more warms up and does not count.
    """
    return asyncio.run(_measure(url, checkpoint, questions, tokens, repeats))


async def _measure(url: str, checkpoint: str, n: int, tokens: int, repeats: int) -> dict[str, Any]:
    model = Model("m", checkpoint, parameters=1, backend={"name": "llama-server", "base_url": url})
    pair = Pair("bench", (model,), prompt=PROMPT, separator="\n", max_step_tokens=tokens, max_steps=tokens)
    engines = [pair.engine(lookahead=ahead).with_sampling(max_tokens=tokens) for ahead in (False, True)]
    endpoint = Endpoint(url).closing()
    asked = [problem.question for problem in load_dataset("nano", split="validation", limit=n)]
    steps = list[int]()
    work: dict[str, Work] = {
        "call": partial(_call, engines[0].backends["m"], tokens),
        "steps": partial(_solve, engines[0], steps),
        "lookahead": partial(_solve, engines[1], steps),
        "bare": partial(_bare, endpoint, engines[0].backends["m"], tokens),
    }
    try:
        seconds = await _side_by_side(work, asked, repeats)
    finally:
        for closing in (*engines, endpoint):
            await closing.close()
    figures: dict[str, Any] = {"tokens_per_s": 1 / statistics.median(seconds["call"])}
    for name in ("steps", "lookahead"):
        for against in ("call", "bare"):
            ratios = [a / b for a, b in zip(seconds[name], seconds[against], strict=True)]
            figures[f"{name}_over_{against}"] = statistics.median(ratios)
            figures[f"{name}_over_{against}_spread"] = [round(min(ratios), 3), round(max(ratios), 3)]
    return {**figures, "steps_per_chain": statistics.mean(steps), "repeats": repeats, "questions": n}


async def _side_by_side(work: dict[str, Work], questions: list[str], repeats: int) -> dict[str, list[float]]:
    """Seconds a token of each kind of work, by repeat. Whoever asks a question first may find less cached:
    another one every time."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    names = [*work]
    for turn in range(repeats + 1):
        spent, written = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
        for i, question in enumerate(questions):
            first = (turn + i) % len(names)
            await work["bare"](question)
            for name in names[first:] + names[:first]:
                began = time.perf_counter()
                written[name] += await work[name](question)
                spent[name] += time.perf_counter() - began
        for name in names if turn else ():
            seconds[name].append(spent[name] / written[name])
    return seconds


async def _call(backend: Backend, tokens: int, question: str) -> int:
    prefix = backend.encode(PROMPT.replace("{question}", question))
    return (await backend.generate(prefix, Sampling(tokens))).usage.completion


async def _solve(engine: Engine, steps: list[int], question: str) -> int:
    trace = await engine.solve(question, Always("m"))
    steps.append(len(trace.steps))
    return trace.usage["m"].completion


async def _bare(endpoint: Endpoint, backend: Backend, tokens: int, question: str) -> int:
    prefix = backend.encode(PROMPT.replace("{question}", question))
    body = {"prompt": list(prefix), "n_predict": tokens, "temperature": 0.0, "cache_prompt": True}
    return int((await endpoint.post("/completion", body))["tokens_predicted"])
