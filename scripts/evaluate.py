"""Compare routers on a dataset: rows, summary, frontier and report.

    python -m scripts.evaluate n=1000                     # all routers on nano's test split
    python -m scripts.evaluate ~routers.entropy output=outputs/mine

A run that is killed continues where it stopped.
"""

from __future__ import annotations

from typing import Any

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from scripts import console, guarded
from stepwise import demo, metrics, provenance
from stepwise.errors import ConfigError
from stepwise.evaluation import Contender, samples, summarise
from stepwise.pair import Pair
from stepwise.routers import PolicyRouter
from stepwise.store import SqliteStore


@hydra.main(version_base=None, config_path="../configs", config_name="evaluate")
@guarded
def main(cfg: DictConfig) -> None:
    output = provenance.writable(cfg.output)
    OmegaConf.save(cfg, output / "config.yaml", resolve=True)
    pair = instantiate(cfg.pair)
    field = contenders(cfg, pair)
    problems = instantiate(cfg.dataset, split=cfg.split, limit=cfg.n)
    engine = pair.engine(backend=cfg.backend, cost=cfg.cost, store=SqliteStore(cfg.store))
    setting = f"{pair.fingerprint} {cfg.backend}"
    rows = demo.compare(
        engine, problems, field, output, setting=setting, console=console, concurrency=cfg.concurrency
    )
    small, large = engine.models[0], engine.models[-1]
    about = {"dataset": cfg.dataset.name, "pair": pair.name, "cost_unit": engine.cost.unit}
    summary = summarise(
        rows, problems, small=small, large=large, seed=cfg.seed, about={**about, **provenance.describe()}
    )
    summary["differences"] = differences(samples(rows, problems), large, cfg)
    demo.write(output, summary, rows)
    demo.show(summary, output, console)
    for line in summary["differences"]:
        console.print(
            f"  {cfg.compare} minus {line['to']} at {line['budget']:.0%} of large-only cost: "
            f"{line['difference']} {line['ci']}"
        )


def contenders(cfg: DictConfig, pair: Pair) -> list[Contender]:
    """Every configured router at every value of its knob; policies are checked against the pair."""
    field = []
    for group in cfg.routers.values():
        make = instantiate(group.router)
        knob = group.get("knob")
        for value in group["values"] if knob else [None]:
            router = make(**{knob: value}) if knob else make()
            if isinstance(router, PolicyRouter):
                router.artifact.check_pair(pair.name, pair.fingerprint)
            field.append(Contender(router, value))
    if not field:
        raise ConfigError("routers must name at least one router.")
    return field


def differences(runs: Any, large: str, cfg: DictConfig) -> list[dict[str, Any]]:
    """Accuracy of the compared router minus each other's, at equal cost, with paired intervals."""
    lines = []
    for name in runs if cfg.compare in runs else ():
        if name == cfg.compare or len(runs[name][0]) < 2:
            continue
        for budget in cfg.budgets:
            mean, low, high = metrics.difference_at_cost(
                runs[cfg.compare], runs[name], budget, runs[large], seed=cfg.seed
            )
            shown = [None if value != value else round(value, 4) for value in (mean, low, high)]
            lines.append({"to": name, "budget": budget, "difference": shown[0], "ci": shown[1:]})
    return lines


if __name__ == "__main__":
    main()
