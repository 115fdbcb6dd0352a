"""Studies of recorded chains of thought (docs/evaluation.md says what they do and do not show).

python -m scripts.recorded experiment=bon_cascade     # a cascade over recorded solutions of GSM8K
python -m scripts.recorded experiment=processbench    # which scores notice a wrong step
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig

from scripts.program import console, program, save_config
from scripts.settings import RECORDED
from stepwise.evaluation import provenance


@dataclass
class Recorded:
    """What every study is given, beside its own settings."""

    study: Any = MISSING
    data: str = RECORDED
    output: str = "outputs/recorded"
    seed: int = 0


@program("recorded", Recorded)
def main(cfg: DictConfig) -> None:
    output = provenance.writable(cfg.output)
    save_config(cfg, output)
    summary = instantiate(cfg.study)(output=output, seed=cfg.seed, console=console)
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    console.print(f"Open [bold]{output}[/bold].")


if __name__ == "__main__":
    main()
