"""Load on a gateway: streams that check what they are told."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp

from stepwise.types import Problem


@dataclass
class Tally:
    """What the clients saw.

    Attributes:
        delays: seconds from the end of a step in the engine to its arrival here, parsed.
        gaps: seconds between the arrivals of a chain's steps.
        wrong: answers that differ from the expected text; ``foreign`` of them begin with another name
            than the question's first, which no rounding explains.
    """

    delays: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    answers: int = 0
    left: int = 0
    errors: list[str] = field(default_factory=list)
    wrong: int = 0
    foreign: int = 0


async def load(
    url: str,
    problems: Sequence[Problem],
    expected: Mapping[str, str],
    *,
    model: str,
    streams: int,
    seconds: float | None = None,
    leaving: float = 0.0,
    seed: int = 0,
) -> Tally:
    """Keep ``streams`` clients busy: for some seconds, or until each problem has been asked once.

    Args:
        expected: right text by problem id.
        leaving: share of the requests whose client goes away at a random step.
    """
    tally, chance = Tally(), random.Random(seed)
    until = None if seconds is None else time.monotonic() + seconds
    waiting = iter(problems) if until is None else itertools.cycle(problems)
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as http:

        async def client() -> None:
            for problem in waiting:
                if until is not None and time.monotonic() >= until:
                    return
                leave_at = chance.randint(0, 5) if chance.random() < leaving else None
                try:
                    text = await _follow(http, problem, model, leave_at, tally)
                except Exception as error:
                    tally.errors.append(f"{type(error).__name__}: {error}"[:200])
                    continue
                if text is not None and text != expected[problem.id]:
                    tally.wrong += 1
                    tally.foreign += text.split()[0] != expected[problem.id].split()[0]

        await asyncio.gather(*(client() for _ in range(streams)))
    return tally


async def _follow(
    http: aiohttp.ClientSession, problem: Problem, model: str, leave_at: int | None, tally: Tally
) -> str | None:
    """One streamed answer; None if the client left."""
    text, ended, steps, last = "", False, 0, None
    body = {"model": model, "prompt": problem.question, "stream": True}
    async with http.post("/v1/completions", json=body, timeout=aiohttp.ClientTimeout(120)) as answer:
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}: {(await answer.text())[:100]}")
        if leave_at == 0:
            tally.left += 1
            return None
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                ended = ended or line.startswith(b"data: [DONE]")
                continue
            told = json.loads(line[6:])
            if "error" in told:
                raise RuntimeError(told["error"]["message"])
            choice = told["choices"][0]
            text += choice["text"]
            if "step" in choice["stepwise"]:
                tally.delays.append(time.time() - choice["stepwise"]["step"]["finished"])
                now, steps = time.perf_counter(), steps + 1
                tally.gaps += [] if last is None else [now - last]
                last = now
                if steps == leave_at:
                    tally.left += 1
                    return None
    if not ended:
        raise RuntimeError("the stream broke off")
    tally.answers += 1
    return text
