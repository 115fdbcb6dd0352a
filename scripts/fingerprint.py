"""Take fingerprints: let every model of a pair answer the anchors once, alone, and keep what it did.

    python -m scripts.fingerprint                                   # nano's anchors, all nano models
    python -m scripts.fingerprint pair=mine anchors=gsm8k models=[small]
    python -m scripts.fingerprint pair=five.yaml anchors.path=my_anchors.json   # a file that lies anywhere

The anchors are chosen on the first run and kept in ``<output>/anchors.json``. Completions go to the step
store, so a run that is killed continues where it stopped, and a model whose weights, prompt and sampling are
as before is not asked again. `stepwise fingerprint run` does the same without a checkout, on one machine.
``stepwise fingerprint list`` shows the result.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf
from rich.progress import Progress

from scripts.cluster import Alone, resolved, service_of
from scripts.program import console, program, save_config
from scripts.settings import Pool
from stepwise.engine.concurrency import run
from stepwise.errors import ConfigError
from stepwise.evaluation import provenance
from stepwise.scope import AnchorSet, FingerprintStore
from stepwise.scope.taking import answer, changed, described, identity, price_of, summarise


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
        about = identity(model, pair, anchors, cfg.temperature, cfg.seed)
        stale = changed(fingerprints, model.name, about)
        if stale == []:
            console.print(f"{model.name}: its fingerprint is up to date")
            continue
        if stale:
            console.print(f"{model.name}: {', '.join(stale)} changed, its fingerprint is taken again")
        service, concurrency = service_of(cfg, Alone(resolved(cfg), pair, model.name))
        with Progress(console=console) as progress:
            task = progress.add_task(model.name, total=len(anchors))
            traces = run(
                answer(service, model.name, anchors, concurrency, lambda: progress.advance(task))  # noqa: B023
            )
        run(service.close())
        fingerprint = summarise(model.name, traces, price, about)
        fingerprints.add(fingerprint)
        console.print(described(fingerprint))
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


if __name__ == "__main__":
    main()
