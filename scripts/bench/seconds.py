"""Measured speeds of a pair's models, for ``cost=seconds``: of reading a token, writing one, and a call.

So many calls at a time, each of a model drawn at random, with prompts that begin with the pair's preamble and
go on with random words, and answers of random lengths; half of them continue the worker's last call of that
model. What a call takes is fitted by non-negative least squares of the relative error,

    seconds = prefill x uncached prompt tokens + decode x generated tokens + call,

with the tokens as the server counts them. A fourth of the calls is kept back to say how good the fit is.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from scipy.optimize import nnls

from scripts.bench.processor import processor_seconds
from stepwise import load_dataset, load_pair
from stepwise.engine.backend import Backend, Sampling
from stepwise.engine.cost import Seconds, Speed
from stepwise.errors import ConfigError
from stepwise.models.pair import Pair
from stepwise.models.speeds import Speeds, save_speeds
from stepwise.types import Usage

WORDS = (1, 60)
TOKENS = (1, 2, 4, 8, 16, 32, 64)
KEPT_BACK = 4
"""One in so many calls."""


class Call(NamedTuple):
    """A call that was measured."""

    model: str
    usage: Usage
    seconds: float


def add_parser(benchmarks: Any) -> None:
    command = benchmarks.add_parser("seconds", help="speeds of a pair's models, for cost=seconds")
    add = command.add_argument
    add("--pair", required=True, help="a YAML file of models, or nano")
    add(
        "--base-url", action="append", default=[], metavar="NAME=URL",
        help="llama-server of a model; the pair's own backend runs the others",
    )  # fmt: skip
    add(
        "--process", type=int, action="append", default=[], metavar="PID",
        help="of a server: count processor seconds, where other work shares the machine (load 1, one thread)",
    )  # fmt: skip
    add("--load", type=int, default=1, help="calls in flight")
    add("--calls", type=int, default=120, help="to measure, of all models together")
    add("--output", required=True, help="the file to write")
    add("--machine", required=True, help="for the file, and so are:")
    add("--backend", required=True)
    add("--quantisation", required=True)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what the command line asks for."""
    urls = dict(value.split("=", 1) for value in options.base_url)
    about = {name: getattr(options, name) for name in ("machine", "backend", "quantisation")}
    words = [word for problem in load_dataset("nano", limit=200) for word in problem.question.split()]
    return measure(
        on_servers(load_pair(options.pair), urls), load=options.load, calls=options.calls, words=words,
        output=options.output, about=about, processes=options.process,
    )  # fmt: skip


def on_servers(pair: Pair, urls: Mapping[str, str]) -> Pair:
    """The pair's cheapest and most expensive model, on llama-servers where a URL is given."""
    models = tuple(
        msgspec.structs.replace(model, backend={"name": "llama-server", "base_url": urls[model.name]})
        if model.name in urls
        else model
        for model in pair.select()
    )
    return msgspec.structs.replace(pair, models=models)


def measure(
    pair: Pair,
    *,
    load: int,
    calls: int,
    words: Sequence[str],
    output: str,
    about: Mapping[str, str],
    processes: Sequence[int] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a pair's speeds and write them to a file.

    Args:
        load: calls in flight.
        calls: to measure, all models together.
        words: that prompts are made of.
        output: the file.
        about: the machine, the backend and the quantisation, for the file.
        processes: the servers, where their processor seconds are counted instead of those that passed.
    """
    backends = pair.open()
    clock = partial(processor_seconds, processes) if processes else time.perf_counter
    opening = pair.prompt.split("{question}")[0]

    async def run() -> list[Call]:
        try:
            await observe(backends, opening, words, load=load, calls=4 * load, seed=seed + 1)  # warms up
            return await observe(backends, opening, words, load=load, calls=calls, seed=seed, clock=clock)
        finally:
            await asyncio.gather(*(backend.close() for backend in backends.values()))

    observed = asyncio.run(run())
    kept = observed[::KEPT_BACK]
    used = [call for i, call in enumerate(observed) if i % KEPT_BACK]
    models = {name: fit([call for call in used if call.model == name], name) for name in backends}
    error = float(np.median(errors(Seconds(models), kept)))
    speeds = Speeds(**about, load=load, calls=len(used), error=round(error, 4), models=models)
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    save_speeds(speeds, output)
    return {"file": output, "load": load, "calls": len(used), "error": error} | {
        f"{name}_{part}": getattr(speed, part)
        for name, speed in models.items()
        for part in speed.__struct_fields__
    }


async def observe(
    backends: Mapping[str, Backend],
    opening: str,
    words: Sequence[str],
    *,
    load: int,
    calls: int,
    seed: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Call]:
    """Measure calls, ``load`` at a time.

    Args:
        opening: that all prompts begin with.
        clock: seconds.
    """
    observed: list[Call] = []
    numbers = count()

    async def work(draw: random.Random) -> None:
        last: dict[str, tuple[int, ...]] = {}
        while next(numbers) < calls:
            model = draw.choice([*backends])
            backend = backends[model]
            more = " ".join(draw.choices(words, k=draw.randint(*WORDS)))
            if model in last and draw.random() < 0.5:
                prefix = last[model] + backend.encode(more[: draw.randint(1, 200)], first=False)
            else:
                prefix = backend.encode(opening + more)
            began = clock()
            written = await backend.generate(prefix, Sampling(draw.choice(TOKENS)))
            observed.append(Call(model, written.usage, clock() - began))
            last[model] = prefix + written.token_ids
            if len(last[model]) + 300 > backend.context:
                del last[model]

    await asyncio.gather(*(work(random.Random(seed * 1000 + worker)) for worker in range(load)))
    return observed


def fit(calls: Sequence[Call], model: str) -> Speed:
    """The speeds that explain what the calls of a model took.

    Raises:
        ConfigError: if there are too few calls.
    """
    if len(calls) < 3:
        raise ConfigError(f"calls: {len(calls)} of model {model!r} are too few to fit its speeds to.")
    seconds = np.array([call.seconds for call in calls])
    parts = np.array([_parts(call.usage) for call in calls], dtype=float)
    solution, _ = nnls(parts / seconds[:, None], np.ones(len(calls)))
    return Speed(*(float(f"{value:.4g}") for value in solution))


def errors(cost: Seconds, calls: Sequence[Call]) -> list[float]:
    """Relative error of what calls were expected to take, without sign."""
    expected = [cost({call.model: call.usage.called()}) for call in calls]
    return [abs(e - call.seconds) / call.seconds for e, call in zip(expected, calls, strict=True)]


def _parts(usage: Usage) -> tuple[int, int, int]:
    return usage.prompt - usage.cached, usage.completion + usage.discarded, 1
