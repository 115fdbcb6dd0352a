"""StepBench: routers scored on what real models wrote, in minutes, without models.

    python -m scripts.stepbench                            # all baselines
    python -m scripts.stepbench router=confidence
    python -m scripts.stepbench router=confidence 'router.values=[0.5,1,2]'
    python -m scripts.stepbench dataset=gsm8k router=query # a router that reads the question
    python -m scripts.stepbench preamble=false             # worked examples are in the server's prefix cache
    python -m scripts.stepbench recording=outputs/recordings/nano-nano

The last line is one JSON object. Costs are fractions of the large model's FLOPs alone, drafts and prefill
included; intervals are 95%, over problems. A chain that leaves the recording counts as
wrong, and at best as right: where coverage is below 100% the truth lies between.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.table import Table

from scripts.evaluate import settings_of
from scripts.program import console, program
from scripts.settings import EVERYTHING
from stepwise.evaluation.replayed import Bench, Row
from stepwise.recording.folder import Recording


@dataclass
class StepBench:
    """The settings of StepBench."""

    recording: str = "recordings/gsm8k-qwen_coder"
    split: str = "test"
    dataset: Any = None  # the recorded one, for routers that read questions
    preamble: bool = True  # charge each chain for reading what all prompts begin with
    seed: int = 0  # of the bootstrap
    router: Any = None  # one of configs/router, alone
    routers: dict[str, Any] = field(default_factory=dict)  # what is scored where no router is named


@program("stepbench", StepBench)
def main(cfg: DictConfig) -> None:
    dataset = instantiate(cfg.dataset, split=cfg.split, limit=EVERYTHING) if cfg.dataset else ()
    bench = Bench(Recording(cfg.recording), cfg.split, preamble=cfg.preamble, dataset=dataset)
    groups = [cfg.router] if cfg.router else cfg.routers.values()
    scored = [bench.replay(contender) for contender in settings_of(groups)]
    rows = bench.table([bench.small, bench.large, *scored], seed=cfg.seed)
    name, n = Path(cfg.recording).name, len(bench.problems)
    console.print(table(rows, f"{name}, {cfg.split}: {n} problems"))
    print(msgspec.json.encode({"recording": name, "n": n, "rows": rows}).decode())


def table(rows: list[Row], title: str) -> Table:
    """A line a setting."""
    shown = Table(
        "router", "APGR (95%)", "setting", "accuracy (95%)", "at best", "cost", "coverage", title=title
    )
    for row in rows:
        area = "" if row.apgr is None else f"{row.apgr:.3f} {interval(row.apgr_ci)}"
        for i, setting in enumerate(row.settings):
            shown.add_row(
                "" if i else row.router,
                "" if i else area,
                "" if setting.threshold is None else f"{setting.threshold:g}",
                f"{setting.accuracy:.1%} {interval(setting.accuracy_ci)}",
                f"{setting.accuracy_at_best:.1%}",
                f"{setting.cost:.1%}",
                f"{setting.coverage:.1%}",
            )
    return shown


def interval(ends: Any) -> str:
    return "" if None in ends else f"({ends[0]:.3f} to {ends[1]:.3f})"


if __name__ == "__main__":
    main()
