"""Taking fingerprints: a model answers the anchors once, alone, and what it did is kept."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from stepwise.engine.concurrency import as_they_finish
from stepwise.engine.cost import Price
from stepwise.errors import BackendError, ConfigError
from stepwise.models.model import Model
from stepwise.models.pair import Pair
from stepwise.routers import Always
from stepwise.scope.anchors import AnchorSet
from stepwise.scope.fingerprint import Fingerprint
from stepwise.scope.fingerprint_store import FingerprintStore
from stepwise.types import Problem, Router, Trace, Usage
from stepwise.verify import is_correct

Solve = Callable[[Problem, Router], Coroutine[Any, Any, Trace]]
"""Solves a problem; a failure is in the trace."""


def price_of(model: Model, unit: str) -> Price:
    """A model's price; with ``unit`` "flops" such that costs come out in FLOPs (2 x parameters a token).

    Raises:
        ConfigError: if the unit is unknown, or the model has no list price.
    """
    if unit == "flops":
        flops = 2e6 * model.size
        return Price(input=flops, output=flops)
    if unit != "dollars":
        raise ConfigError(f"cost must be flops or dollars, not {unit!r}.")
    if model.price is None:
        raise ConfigError(f"model {model.name!r} has no price; add one to the pair or use cost=flops.")
    return model.price


def identity(model: Model, pair: Pair, anchors: AnchorSet, temperature: float, seed: int) -> dict[str, str]:
    """What a fingerprint depends on; when any of it changes the fingerprint is stale."""
    return {
        "anchors": anchors.digest,
        "revision": model.identity,
        "prompt": f"{model.prompt or pair.prompt!r} {pair.rule}",
        "sampling": f"temperature {temperature:g}, seed {seed}" if temperature else "greedy",
    }


def changed(store: FingerprintStore, model: str, about: dict[str, str]) -> list[str] | None:
    """What makes the store's fingerprint of a model stale: nothing if it is up to date, None if there is
    none."""
    taken = next((taken for taken in store.on(about["anchors"]) if taken.model == model), None)
    return None if taken is None else taken.stale(**about)


async def answer(
    solve: Solve, model: str, anchors: AnchorSet, concurrency: int, done: Callable[[], None]
) -> list[Trace]:
    """The model's chains on all anchors, in their order. Behind a chat interface a chain is one call.

    Args:
        done: called after every anchor.

    Raises:
        BackendError: if an anchor could not be answered; what was answered is in the step store.
    """
    router = Always(model)
    traces: dict[str, Trace] = {}
    async for trace in as_they_finish(lambda p: solve(p, router), anchors.problems, concurrency):
        traces[trace.problem.id] = trace
        done()
    failed = [trace for trace in traces.values() if trace.error is not None]
    if failed:
        raise BackendError(
            f"{model}: {len(failed)} of {len(anchors)} anchors failed, the first with: {failed[0].error} "
            "The same command goes on where this one stopped."
        )
    return [traces[problem.id] for problem in anchors]


def summarise(model: str, traces: Sequence[Trace], price: Price, about: dict[str, str]) -> Fingerprint:
    """Measured outcomes; prompt tokens are those of the question, not of the steps that follow it."""
    usage = [trace.usage[model] for trace in traces]
    prompts = [trace.prompt_tokens for trace in traces]
    first = [trace.steps[0].usage.get(model, Usage()) if trace.steps else Usage() for trace in traces]
    return Fingerprint(
        model=model,
        anchor_ids=[trace.problem.id for trace in traces],
        correct=[float(is_correct(trace)) for trace in traces],
        tokens=[used.completion + used.discarded for used in usage],
        prompt_tokens=prompts,
        cached_tokens=[min(used.cached, prompt) for used, prompt in zip(first, prompts, strict=True)],
        price=price,
        anchors=about["anchors"],
        revision=about["revision"],
        prompt=about["prompt"],
        sampling=about["sampling"],
    )


def described(fingerprint: Fingerprint) -> str:
    """What a fingerprint says, in a line."""
    count = len(fingerprint.anchor_ids)
    right, mean = sum(fingerprint.correct) / count, sum(fingerprint.tokens) / count
    return f"{fingerprint.model}: {count} anchors, {right:.1%} right, {mean:.0f} tokens on average"
