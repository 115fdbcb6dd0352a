"""How fast the engine is: against uninterrupted calls, against lock step, and by itself.

Everything that is compared runs in turn on the same servers, several times over; the figures are ratios
of medians.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from msgspec.structs import replace

from scripts.bench import own_cost, sweep
from scripts.bench.lockstep import Decisions, Replay, lockstep
from stepwise import load_dataset, load_pair
from stepwise.backends.vllm.backend import VllmBackend
from stepwise.engine.backend import Backend, Completion, Lost, Sampling, unaccounted
from stepwise.engine.engine import Engine
from stepwise.models.pair import Pair
from stepwise.routers import Always, Confidence, ThresholdRouter
from stepwise.types import Problem, Router, Trace, Usage, add_usage

IN_FLIGHT = 128
BATCHES = (32, 64)
SEQUENTIAL = 12
"""Problems that are solved one at a time; their rate stands for all."""
Work = Callable[[], Awaitable[Any]]


async def measure_speed(pair: Pair, n: int, repeats: int) -> dict[str, Any]:
    """All ratios that need models."""
    problems = load_dataset("nano", split="validation", limit=n)
    engine = pair.engine(backend="vllm", lookahead=True, cost="tokens")
    try:
        decisions = await _record(engine, problems)
        return {
            "problems": n,
            "in_flight": IN_FLIGHT,
            **await _overhead(pair, engine, problems, repeats),
            **await _against_loops(pair, engine, problems, decisions, repeats),
            **await _switching(engine, problems, decisions),
        }
    finally:
        await engine.close()


async def _overhead(pair: Pair, engine: Engine, problems: Sequence[Problem], repeats: int) -> dict[str, Any]:
    """A run that always chooses one model, over one uninterrupted call per solution.

    ``stepping_overhead`` asks both for the same log-probabilities, ``..._bare`` the call for none. One
    call per step, as without running on, is there to compare with.
    """
    figures: dict[str, Any] = {}
    stepping = _stepping(engine)
    for name in engine.models:
        backend = engine.backends[name]
        prefixes = [backend.encode(pair.prompt.replace("{question}", p.question)) for p in problems]
        times = await _side_by_side(
            engine,
            repeats,
            call=partial(_calls, backend, prefixes, pair),
            bare=partial(_bare_calls, backend, prefixes),
            onward=partial(_solve, engine, problems, Always(name)),
            stepwise=partial(_solve, stepping, problems, Always(name)),
        )
        figures |= {
            f"stepping_overhead_{name}": times["onward"] / times["call"],
            f"stepping_overhead_{name}_call_per_step": times["stepwise"] / times["call"],
        }
        if "bare" in times:
            figures[f"stepping_overhead_{name}_bare"] = times["onward"] / times["bare"]
    worst = max(figures[f"stepping_overhead_{name}"] for name in engine.models)
    return {"stepping_overhead": worst, **figures}


async def _against_loops(
    pair: Pair, engine: Engine, problems: Sequence[Problem], decisions: Decisions, repeats: int
) -> dict[str, Any]:
    """Questions per second of the engine over those of the loops, with the same decisions."""
    few = problems[:SEQUENTIAL]
    loops = {
        str(batch): partial(lockstep, pair, engine.backends, problems, decisions, batch) for batch in BATCHES
    }
    times = await _side_by_side(
        engine,
        repeats,
        ours=partial(_solve, engine, problems, Replay(decisions)),
        one=partial(lockstep, pair, engine.backends, few, decisions, 1),
        **loops,
    )
    ours = len(problems) / times["ours"]
    against = {f"vs_lockstep_{batch}": times[str(batch)] / times["ours"] for batch in BATCHES}
    return {
        "vs_lockstep": min(against.values()),
        **against,
        "vs_sequential": ours / (len(few) / times["one"]),
        "questions_per_s": ours,
    }


async def _switching(engine: Engine, problems: Sequence[Problem], decisions: Decisions) -> dict[str, Any]:
    """Prompt tokens of a routed run as the servers count them, one call a step.

    ``prefill_unseen`` is what the models had not seen of their chain; a server computes a little more,
    since it only finds whole blocks in its cache.
    """
    counted = _stepping(engine)
    counts = {name: _Counted(backend) for name, backend in engine.backends.items()}
    counted.backends.update(counts)
    await _forget(engine)
    charged: list[dict[str, Usage]] = []
    async for trace in counted.solve_many(problems, Replay(decisions), concurrency=IN_FLIGHT):
        charged.append(trace.usage)
    served = sum((count.usage for count in counts.values()), Usage())
    unseen = sum((usage for usage in add_usage(*charged).values()), Usage())
    return {
        "prompt_tokens": served.prompt,
        "prompt_cached": served.cached,
        "prefill_computed": served.prompt - served.cached,
        "prefill_unseen": unseen.prompt - unseen.cached,
    }


class _Counted:
    """A backend that sums up what its server counted."""

    def __init__(self, backend: Backend) -> None:
        self.usage = Usage()
        self.revision, self.tokenizer = backend.revision, backend.tokenizer
        self.parameters, self.context = backend.parameters, backend.context
        self.encode, self.close = backend.encode, backend.close
        self._backend = backend

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        completion = await self._backend.generate(prefix, sampling, lost)
        self.usage += completion.usage
        return completion


def _stepping(engine: Engine) -> Engine:
    """The same engine with one call per step."""
    return Engine(engine.backends, prompt=load_pair("nano").prompt, rule=engine.rule, cost=engine.cost)


async def _record(engine: Engine, problems: Sequence[Problem]) -> dict[str, list[str]]:
    """The decisions of a confidence rule."""
    router = ThresholdRouter(Confidence("min"), 0.5, "confidence")
    traces = [t async for t in engine.solve_many(problems, router, concurrency=IN_FLIGHT)]
    return {trace.problem.id: [step.model for step in trace.steps] for trace in traces}


async def _solve(engine: Engine, problems: Sequence[Problem], router: Router) -> list[Trace]:
    return [trace async for trace in engine.solve_many(problems, router, concurrency=IN_FLIGHT)]


async def _calls(backend: Backend, prefixes: Sequence[Sequence[int]], pair: Pair) -> None:
    """One uninterrupted call per solution."""
    sampling = Sampling(pair.max_step_tokens * pair.max_steps)
    await _bounded([partial(backend.generate, prefix, sampling) for prefix in prefixes])


async def _bare_calls(backend: Backend, prefixes: Sequence[Sequence[int]]) -> bool:
    """The same without log-probabilities, in vLLM's own words; False where there is no vLLM in process."""
    if not isinstance(backend, VllmBackend):
        return False
    vllm, engine = import_module("vllm.sampling_params"), backend._started()

    async def call(number: int, prefix: Sequence[int]) -> None:
        parameters = vllm.SamplingParams(
            max_tokens=backend.context - len(prefix),
            temperature=0.0,
            output_kind=vllm.RequestOutputKind.FINAL_ONLY,
        )
        name = f"bare-{number}-{time.monotonic_ns()}"
        async for _ in engine.generate({"prompt_token_ids": list(prefix)}, parameters, name):
            pass

    await _bounded([partial(call, i, prefix) for i, prefix in enumerate(prefixes)])
    return True


async def _bounded(calls: Sequence[Work]) -> None:
    places = asyncio.Semaphore(IN_FLIGHT)

    async def bounded(call: Work) -> None:
        async with places:
            await call()

    await asyncio.gather(*(bounded(call) for call in calls))


async def _side_by_side(engine: Engine, repeats: int, **work: Work) -> dict[str, float]:
    """Median seconds of each, run in turn; a first turn warms up and does not count."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(repeats + 1):
        for name, run in work.items():
            await _forget(engine)
            began = time.perf_counter()
            possible = await run()
            if turn and possible is not False:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items() if values}


async def _forget(engine: Engine) -> None:
    """Empty the prefix caches, so that no run profits from the one before it."""
    for backend in engine.backends.values():
        if isinstance(backend, VllmBackend):
            await backend._started().reset_prefix_cache()


def measure(n: int, repeats: int, urls: Sequence[str]) -> dict[str, Any]:
    """Everything. ``urls`` are "NAME=URL" of servers that run the models, instead of this process."""
    pair = load_pair("nano")
    where = dict(url.split("=", 1) for url in urls)
    models = tuple(
        replace(m, backend={"name": "vllm-server", "base_url": where[m.name], "served_name": m.name})
        if m.name in where
        else m
        for m in pair.select()
    )
    figures = asyncio.run(measure_speed(replace(pair, models=models), n, repeats))
    return {**figures, **own_cost.measure(), **sweep.measure(300)}
