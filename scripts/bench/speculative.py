"""Seconds a question on llama-servers: stepwise against speculative decoding, one stream and several.

    large           the large model, one call a question
    speculative     the same on a server with the small model as its draft model: the same text
    large by steps  the large model, one call a step with log-probabilities, by stepwise
    stepwise        both models, one server each; the large one writes what the small one doubts
    over            the same, the large model's server with the draft model

The servers are started here and are up side by side. With one stream the ways take turns by question, in an
order that rotates; with more, by half of the questions, forwards and backwards. Each way answers a few other
questions first, so that the servers' caches hold what all prompts begin with.

Threads of a llama-server wait for each other by spinning. With several streams two servers compute at once,
and where they have more threads than there are cores, everything takes ten times as long: ``--ways`` measures
the ways that keep two servers busy apart from the others, with fewer ``--threads``.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from scripts.bench.latency import Answered, summary
from scripts.bench.llama_servers import Served, llama_server
from scripts.bench.processor import processor_seconds
from scripts.bench.seconds import on_servers
from stepwise import load_dataset, load_pair
from stepwise.backends.http.endpoint import Endpoint
from stepwise.engine.engine import Engine
from stepwise.errors import ConfigError
from stepwise.models.pair import Pair
from stepwise.routers import Always, ThresholdRouter
from stepwise.routers.threshold import Confidence
from stepwise.types import Problem, Router, Trace
from stepwise.verify import equivalent, extract_answer

CONTEXT = 1536


WAYS = ("large", "speculative", "large by steps", "stepwise", "over")
Way = Callable[[Problem], Awaitable[Answered]]


@dataclass(frozen=True)
class Setup:
    """What is measured. ``speeds`` are files for `stepwise.models.speeds`, one for each of ``streams``."""

    pair: Pair
    binary: str
    small: str
    large: str
    threshold: float
    tokens: int
    streams: tuple[int, ...]
    ways: tuple[str, ...] = WAYS
    speeds: tuple[str, ...] = ()
    draft_max: int = 8
    threads: int = 2
    processor: bool = False
    answers: str = ""


def add_parser(benchmarks: Any) -> None:
    command = benchmarks.add_parser("speculative", help="against speculative decoding, on llama-servers")
    add = command.add_argument
    add("--llama-server", required=True, help="its program")
    add("--small", required=True, metavar="GGUF")
    add("--large", required=True, metavar="GGUF")
    add("--pair", default="configs/pair/qwen_coder.yaml", help="prompt, tokenizers and step rule")
    add("--dataset", default="gsm8k")
    add("--folder", help="of its local copy")
    add("--questions", type=int, default=32, help="the first ones of the test set")
    add("--threshold", type=float, default=0.3, help="of the router `confidence`, in nats")
    add("--tokens", type=int, default=320, help="of an answer at most")
    add("--streams", type=int, nargs="+", default=[1, 8])
    add("--ways", nargs="+", default=WAYS, choices=WAYS)
    add("--seconds", nargs="*", default=[], metavar="FILE", help="measured speeds for each of --streams")
    add("--draft-max", type=int, default=8, help="tokens that the draft model writes ahead")
    add("--threads", type=int, default=2, help="of each server")
    add(
        "--processor", action="store_true",
        help="count the servers' processor seconds, beside other work (one stream, one thread)",
    )  # fmt: skip
    add(
        "--answers", default="", metavar="PREFIX", help="of a file for the answers, one for each of --streams"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what the command line asks for.

    Raises:
        ConfigError: if there are files of speeds, and not one for each number of streams.
    """
    if options.seconds and len(options.seconds) != len(options.streams):
        raise ConfigError(f"seconds: --streams {options.streams} need as many files, not {options.seconds}.")
    setup = Setup(
        load_pair(options.pair), options.llama_server, options.small, options.large, options.threshold,
        options.tokens, tuple(options.streams), tuple(options.ways), tuple(options.seconds),
        options.draft_max, options.threads, options.processor, options.answers,
    )  # fmt: skip
    problems, warm = (
        load_dataset(options.dataset, folder=options.folder, split=split, limit=limit)
        for split, limit in (("test", 1_000_000), ("train", max(options.streams)))
    )
    return measure(setup, problems[: options.questions], warm)


def measure(setup: Setup, problems: Sequence[Problem], warm: Sequence[Problem]) -> dict[str, Any]:
    """Seconds, tokens a second and accuracy of each way, by number of streams.

    Args:
        warm: other questions, to begin with.
    """
    draft = ["-md", setup.small, "--spec-type", "draft-simple", "--spec-draft-n-max", str(setup.draft_max)]
    threads = ["-t", str(setup.threads), "-tb", str(setup.threads)]
    with ExitStack() as stack:
        server = partial(llama_server, setup.binary, slots=max(setup.streams), context=CONTEXT)
        servers = {
            "small": stack.enter_context(server(setup.small, options=threads)),
            "large": stack.enter_context(server(setup.large, options=threads)),
            "drafting": stack.enter_context(server(setup.large, options=[*threads, *draft])),
        }
        figures: dict[str, Any] = {"questions": len(problems), "threshold": setup.threshold}
        for i, streams in enumerate(setup.streams):
            speeds = setup.speeds[i] if setup.speeds else ""
            answers = asyncio.run(_measure(setup, servers, speeds, streams, problems, warm))
            figures[f"streams_{streams}"] = summary(answers)
            if setup.answers:
                Path(f"{setup.answers}.{streams}.json").write_bytes(msgspec.json.encode(answers))
    return figures


async def _measure(
    setup: Setup,
    servers: Mapping[str, Served],
    speeds: str,
    streams: int,
    problems: Sequence[Problem],
    warm: Sequence[Problem],
) -> dict[str, list[list[Answered]]]:
    """By way the answers, in the pieces that were timed together; the last entry is the wall time."""
    engine, over = (
        engine_of(setup.pair, servers["small"].url, servers[large].url, speeds)
        for large in ("large", "drafting")
    )
    engine, over = engine.with_sampling(max_tokens=setup.tokens), over.with_sampling(max_tokens=setup.tokens)
    small, large = engine.models
    router = ThresholdRouter(Confidence(), setup.threshold, "confidence", small=small, large=large)
    prompt = partial(_prompt, setup.pair, engine)
    plain, drafting = (Endpoint(servers[name].url).closing() for name in ("large", "drafting"))
    known: dict[str, Way] = {
        "large": partial(_call, plain, prompt, setup.tokens),
        "speculative": partial(_call, drafting, prompt, setup.tokens),
        "large by steps": partial(_solve, engine, Always(large)),
        "stepwise": partial(_solve, engine, router),
        "over": partial(_solve, over, router),
    }
    ways = {name: known[name] for name in setup.ways}
    processes = [server.process for server in servers.values()]
    clock = partial(processor_seconds, processes) if setup.processor else time.perf_counter
    try:
        for way in ways.values():
            await _together(way, warm[:streams], streams, clock)
        return await _alternating(ways, problems, streams, clock)
    finally:
        for closing in (engine, over, plain, drafting):
            await closing.close()


async def _alternating(
    ways: Mapping[str, Way], problems: Sequence[Problem], streams: int, clock: Callable[[], float]
) -> dict[str, list[list[Answered]]]:
    names = [*ways]
    blocks: dict[str, list[list[Answered]]] = {name: [] for name in names}
    size = 1 if streams == 1 else -(-len(problems) // 2)
    for turn, first in enumerate(range(0, len(problems), size)):
        block = problems[first : first + size]
        start = turn % len(names)
        order = names[start:] + names[:start] if streams == 1 else names[:: -1 if turn % 2 else 1]
        for name in order:
            blocks[name].append(await _together(ways[name], block, streams, clock))
    return blocks


async def _together(
    way: Way, problems: Sequence[Problem], streams: int, clock: Callable[[], float]
) -> list[Answered]:
    """The answers, and last an `Answered` with the seconds that all took together."""
    room = asyncio.Semaphore(streams)

    async def one(problem: Problem) -> Answered:
        async with room:
            began = clock()
            answered = await way(problem)
            answered.seconds = clock() - began
            return answered

    began = clock()
    answers = await asyncio.gather(*map(one, problems))
    wall = clock() - began
    return [*answers, Answered("", sum(a.tokens for a in answers), False, wall)]


def engine_of(pair: Pair, small: str, large: str, speeds: str) -> Engine:
    """The pair's cheapest and most expensive model on two servers."""
    names = [model.name for model in pair.select()]
    served = on_servers(pair, dict(zip(names, (small, large), strict=True)))
    served = msgspec.structs.replace(served, preamble=False, seconds=speeds)
    return served.engine(cost="seconds" if speeds else "flops")


def _prompt(pair: Pair, engine: Engine, question: str) -> tuple[int, ...]:
    return engine.backends[engine.models[-1]].encode(pair.prompt.replace("{question}", question))


async def _call(
    endpoint: Endpoint, prompt: Callable[[str], tuple[int, ...]], tokens: int, problem: Problem
) -> Answered:
    """One call that asks for no log-probabilities."""
    body = {"prompt": prompt(problem.question), "n_predict": tokens, "temperature": 0.0, "cache_prompt": True}
    answer = await endpoint.post("/completion", body)
    text = str(answer["content"])
    return Answered(text, int(answer["tokens_predicted"]), _right(extract_answer(text), problem))


async def _solve(engine: Engine, router: Router, problem: Problem) -> Answered:
    trace: Trace = await engine.solve(problem, router)
    if trace.error:
        raise RuntimeError(trace.error)
    tokens = sum(usage.completion for usage in trace.usage.values())
    expected = trace.cost if engine.cost.unit == "s" else 0.0
    right = _right(trace.answer, problem)
    return Answered(trace.text, tokens, right, expected=expected, usage=trace.usage)


def _right(answer: str | None, problem: Problem) -> bool:
    return bool(answer) and equivalent(answer or "", problem.answer)
