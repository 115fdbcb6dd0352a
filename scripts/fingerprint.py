"""Take fingerprints: let every model of a pair answer the anchors once, alone, and keep what it did.

    python -m scripts.fingerprint                                   # nano's anchors, all nano models
    python -m scripts.fingerprint pair=mine anchors=gsm8k models=[small]
    python -m scripts.fingerprint anchors.path=my_anchors.json

The anchors are chosen on the first run and kept in ``<output>/anchors.json``. Completions go to the step
store, so a run that is killed continues where it stopped, and a model whose weights, prompt and sampling are
as before is not asked again. ``stepwise fingerprint list`` shows the result.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf
from rich.progress import Progress

from scripts.cluster import Alone, resolved, service_of
from scripts.program import console, program, save_config
from scripts.settings import Pool
from stepwise.cluster.worker import Service
from stepwise.engine.concurrency import as_they_finish, run
from stepwise.engine.cost import Price
from stepwise.errors import BackendError, ConfigError
from stepwise.evaluation import provenance
from stepwise.models.model import Model
from stepwise.models.pair import Pair
from stepwise.routers import Always
from stepwise.scope import AnchorSet, Fingerprint, FingerprintStore
from stepwise.types import Trace
from stepwise.verify import is_correct


@dataclass
class TakeFingerprints(Pool):
    """What is asked of which models, and where it is kept."""

    anchors: Any = MISSING
    output: str = "outputs/fingerprint"
    fingerprints: str = "outputs/fingerprints.db"
    models: list[str] | None = None  # of the pair; null: all of them
    cost: str = "flops"  # or dollars: the models' list prices
    temperature: float = 0.0
    seed: int = 0
    concurrency: int = 128  # chains in flight, on every worker of a cluster
    cluster: Any = None


@program("fingerprint", TakeFingerprints)
def main(cfg: DictConfig) -> None:
    output = provenance.writable(cfg.output)
    pair = instantiate(cfg.pair)
    chosen = pair.select(cfg.models or [model.name for model in pair.models])
    prices = [price_of(model, cfg.cost) for model in chosen]
    anchors = anchor_set(cfg, output)
    save_config(cfg, output)
    fingerprints = FingerprintStore(cfg.fingerprints)
    for model, price in zip(chosen, prices, strict=True):
        about = identity(model, pair, anchors, cfg)
        if fresh(fingerprints, model.name, about):
            console.print(f"{model.name}: its fingerprint is up to date")
            continue
        service, concurrency = service_of(cfg, Alone(resolved(cfg), pair, model.name))
        traces = answer(service, model.name, anchors, concurrency)
        run(service.close())
        fingerprint = summarise(model.name, traces, price, about)
        fingerprints.add(fingerprint)
        right = sum(fingerprint.correct) / len(traces)
        mean = sum(fingerprint.tokens) / len(traces)
        console.print(f"{model.name}: {len(traces)} anchors, {right:.1%} right, {mean:.0f} tokens on average")
    record = {"anchors": anchors.digest, "models": [m.name for m in chosen], **provenance.describe()}
    (output / "summary.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    console.print(
        f"fingerprints in {cfg.fingerprints}; `stepwise fingerprint list {cfg.fingerprints}` shows them"
    )


def anchor_set(cfg: DictConfig, output: Path) -> AnchorSet:
    """The anchors of a file, or those of an earlier run here, or new ones by recipe."""
    if cfg.anchors.path is not None:
        return AnchorSet.load(cfg.anchors.path)
    recipe: Any = OmegaConf.to_container(cfg.anchors.recipe, resolve=True)
    file, made_by = output / "anchors.json", output / "recipe.json"
    if file.exists():
        if made_by.exists() and json.loads(made_by.read_text()) != recipe:
            raise ConfigError(f"output: {output} holds anchors by another recipe; choose another folder.")
        return AnchorSet.load(file)
    anchors: AnchorSet = instantiate(cfg.anchors.recipe)
    anchors.save(file)
    made_by.write_text(json.dumps(recipe, indent=1) + "\n")
    return anchors


def price_of(model: Model, unit: str) -> Price:
    """A model's price; with ``cost=flops`` such that costs come out in FLOPs (2 x parameters a token).

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


def identity(model: Model, pair: Pair, anchors: AnchorSet, cfg: DictConfig) -> dict[str, str]:
    """What a fingerprint depends on; when any of it changes the fingerprint is stale."""
    return {
        "anchors": anchors.digest,
        "revision": model.identity,
        "prompt": f"{model.prompt or pair.prompt!r} {pair.rule}",
        "sampling": f"temperature {cfg.temperature:g}, seed {cfg.seed}" if cfg.temperature else "greedy",
    }


def fresh(store: FingerprintStore, model: str, about: dict[str, str]) -> bool:
    """Whether the store has a whole fingerprint of the model as it is now."""
    taken = next((taken for taken in store.on(about["anchors"]) if taken.model == model), None)
    if taken is None:
        return False
    changed = taken.stale(**about)
    if changed:
        console.print(f"{model}: {', '.join(changed)} changed, its fingerprint is taken again")
    return not changed


def answer(service: Service, model: str, anchors: AnchorSet, concurrency: int) -> list[Trace]:
    """The model's chains on all anchors, in their order.

    Raises:
        BackendError: if an anchor could not be answered; all that were answered are in the step store.
    """
    done: dict[str, Trace] = {}

    async def solve(progress: Progress) -> None:
        task = progress.add_task(model, total=len(anchors))
        async for trace in as_they_finish(lambda p: service(p, Always(model)), anchors.problems, concurrency):
            done[trace.problem.id] = trace
            progress.advance(task)

    with Progress(console=console) as progress:
        run(solve(progress))
    failed = [trace for trace in done.values() if trace.error is not None]
    if failed:
        raise BackendError(
            f"{model}: {len(failed)} of {len(anchors)} anchors failed, the first with: {failed[0].error} "
            "The same command goes on where this one stopped."
        )
    return [done[problem.id] for problem in anchors]


def summarise(model: str, traces: Sequence[Trace], price: Price, about: dict[str, str]) -> Fingerprint:
    """Measured outcomes; prompt tokens are those of the question, not of the steps that follow it."""
    usage = [trace.usage[model] for trace in traces]
    return Fingerprint(
        model=model,
        anchor_ids=[trace.problem.id for trace in traces],
        correct=[float(is_correct(trace)) for trace in traces],
        tokens=[used.completion + used.discarded for used in usage],
        prompt_tokens=[trace.prompt_tokens for trace in traces],
        price=price,
        anchors=about["anchors"],
        revision=about["revision"],
        prompt=about["prompt"],
        sampling=about["sampling"],
    )


if __name__ == "__main__":
    main()
