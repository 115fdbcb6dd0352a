"""What SCOPE is made of, taken apart: anchors, neighbours, weights, pairs, families, rivals.

    STEPWISE_DATA=... python -m scripts.evaluate experiment=scope_anatomy
    STEPWISE_DATA=... python -m scripts.evaluate experiment=scope_anatomy 'study.only=[sizes,rivals]'

Every part of `scripts.scope.parts` runs on every split of every set. Finished pieces are kept in
``<output>/pieces``, so that a killed run goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.progress import track
from rich.table import Table

from scripts.program import console, save_config
from scripts.scope.anatomy_figures import draw
from scripts.scope.cut import shared_pool
from scripts.scope.parts import PARTS, Ground, Numbers
from scripts.scope.records import Outcomes, load
from stepwise.errors import ConfigError
from stepwise.evaluation import metrics, provenance
from stepwise.evaluation.provenance import digest

OF_THE_RUN = ("splits", "only", "anatomy")
"""Settings that are no part of a piece's name."""
Summary = dict[str, dict[str, dict[str, list[float]]]]
"""By set, part and number: mean over the splits with its 95% interval."""


def study(cfg: DictConfig) -> None:
    """Run what is missing, then write ``summary.json``, ``tables.md`` and a picture."""
    output, settings = provenance.writable(cfg.output), cfg.study
    save_config(cfg, output)
    parts = [part for part in PARTS if settings.only is None or part in settings.only]
    if not parts:
        raise ConfigError(f"study.only must name some of {', '.join(PARTS)}, not {settings.only}.")
    summary: Summary = {}
    for name in settings.anatomy:
        data = records(settings, name)
        work = [(split, part) for split in range(settings.splits) for part in parts if wanted(part, data)]
        pieces: dict[str, list[Numbers]] = {}
        for split, part in track(work, description=name, console=console):
            pieces.setdefault(part, []).append(piece(output, data, part, settings, split))
        summary[name] = {part: over_splits(numbers, settings.seed) for part, numbers in pieces.items()}
    about = {"splits": settings.splits, "seed": settings.seed, **provenance.describe()}
    (output / "summary.json").write_text(json.dumps({"sets": summary, **about}, indent=1) + "\n")
    (output / "tables.md").write_text(tables(summary), encoding="utf-8")
    draw(summary, output / "anatomy.png")
    for part in parts:
        show(part, summary)
    console.print(f"wrote {output}/summary.json, tables.md and anatomy.png")


def records(settings: DictConfig, name: str) -> Outcomes:
    """One of ZeroEval's sets, or a pool of `study.pools`."""
    return shared_pool(settings.pools[name], name) if name in settings.pools else load(settings, name)


def wanted(part: str, data: Outcomes) -> bool:
    """Two models have no families, and one token an answer nothing to save; nor is one price a choice."""
    costly = sum(price is not None for price in data.prices) > 1
    measured = bool(np.nanmax(data.tokens) > 1)
    return {
        "families": len(data.models) > 5,
        "ranking": len(data.models) > 2,
        "stress": len(data.models) > 2,
        "savings": costly and measured,
        "weight": costly,
        "learned": costly,
        "portfolio": costly,
        "rivals": costly,
    }.get(part, True)


def piece(output: Path, data: Outcomes, part: str, settings: DictConfig, split: int) -> Numbers:
    """One part on one split, read back where an earlier run under the same settings has made it."""
    everything: Any = OmegaConf.to_container(settings, resolve=True)
    lasting = {
        key: value for key, value in everything.items() if key not in ("splits", "only", "anatomy", "gammas")
    }
    file = output / "pieces" / f"{data.name}-{part}-{split}-{digest(lasting)}.json"
    if file.exists():
        kept: Numbers = json.loads(file.read_text())
        return kept
    order = np.random.default_rng([settings.seed, split]).permutation(len(data.problems)).tolist()
    pool = [i for i, price in enumerate(data.prices) if price and data.models[i] not in settings.not_in_pool]
    numbers = PARTS[part](Ground(data, order, settings, pool))
    file.parent.mkdir(exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(numbers))
    partial.replace(file)
    return numbers


def over_splits(pieces: list[Numbers], seed: int) -> dict[str, list[float]]:
    """[mean, low, high] of every number, a bootstrap over the splits that have it."""
    out = {}
    for name in pieces[0]:
        values = np.array([numbers[name] for numbers in pieces if not np.isnan(numbers[name])])
        if len(values):
            out[name] = [float(values.mean()), *metrics.interval(values, seed=seed)]
    return out


def tables(summary: Summary) -> str:
    """Every part as a Markdown table: a row a number, a column a set."""
    lines: list[str] = []
    for part in PARTS:
        sets = [name for name, by_part in summary.items() if part in by_part]
        if not sets:
            continue
        lines += [f"### {part}", "", f"| | {' | '.join(sets)} |", "|---" * (len(sets) + 1) + "|"]
        for number in dict.fromkeys(number for name in sets for number in summary[name][part]):
            cells = [_cell(summary[name][part].get(number)) for name in sets]
            lines.append(f"| {number} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def show(part: str, summary: Mapping[str, Mapping[str, Any]]) -> None:
    sets = [name for name, by_part in summary.items() if part in by_part]
    table = Table(part, *sets)
    for number in dict.fromkeys(number for name in sets for number in summary[name][part]):
        table.add_row(number, *(_cell(summary[name][part].get(number)) for name in sets))
    console.print(table)


def _cell(values: list[float] | None) -> str:
    return "" if values is None else f"{values[0]:.3f} ({values[1]:.3f} to {values[2]:.3f})"
