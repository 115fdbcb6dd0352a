"""Load on a gateway: streams that check what they are told."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from stepwise.types import Problem


class Refused(Exception):
    """The gateway said that it could not answer, as a status or as a last event."""


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
    stopped: asyncio.Event | None = None,
    leaving: float = 0.0,
    hear: Callable[[dict[str, Any]], None] = lambda step: None,
    seed: int = 0,
) -> Tally:
    """Keep ``streams`` clients busy: until ``stopped``, or until each problem has been asked once.

    Args:
        expected: right text by problem id, for those that are checked.
        hear: told of every step.
        leaving: share of the requests whose client goes away at a random step.
    """
    tally, chance = Tally(), random.Random(seed)
    waiting = iter(problems) if stopped is None else itertools.cycle(problems)
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as http:

        async def client() -> None:
            for problem in waiting:
                if stopped is not None and stopped.is_set():
                    return
                leave_at = chance.randint(0, 5) if chance.random() < leaving else None
                try:
                    text = await _follow(http, problem, model, leave_at, tally, hear)
                except Exception as error:
                    tally.errors.append(f"{type(error).__name__}: {error}"[:200])
                    continue
                right = expected.get(problem.id)
                if text is not None and right is not None and text != right:
                    tally.wrong += 1
                    tally.foreign += text.split()[0] != right.split()[0]

        await asyncio.gather(*(client() for _ in range(streams)))
    return tally


async def _follow(
    http: aiohttp.ClientSession,
    problem: Problem,
    model: str,
    leave_at: int | None,
    tally: Tally,
    hear: Callable[[dict[str, Any]], None],
) -> str | None:
    """One streamed answer; None if the client left."""
    text, ended, steps, last = "", False, 0, None
    body = {"model": model, "prompt": problem.question, "stream": True}
    async with http.post("/v1/completions", json=body, timeout=aiohttp.ClientTimeout(120)) as answer:
        if answer.status != 200:
            raise Refused(f"status {answer.status}: {(await answer.text())[:100]}")
        if leave_at == 0:
            tally.left += 1
            return None
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                ended = ended or line.startswith(b"data: [DONE]")
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise Refused(event["error"]["message"])
            choice = event["choices"][0]
            text += choice["text"]
            if "step" in choice["stepwise"]:
                hear(choice["stepwise"]["step"])
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
