"""Studies of recorded chains of thought (docs/evaluation.md says what they do and do not show).

python -m scripts.recorded experiment=bon_cascade     # a cascade over recorded solutions of GSM8K
python -m scripts.recorded experiment=processbench    # which scores notice a wrong step
"""

from __future__ import annotations

import json

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from scripts import console, program
from stepwise.evaluation import provenance


@program("recorded")
def main(cfg: DictConfig) -> None:
    output = provenance.writable(cfg.output)
    OmegaConf.save(cfg, output / "config.yaml", resolve=True)
    summary = instantiate(cfg.study)(output=output, seed=cfg.seed, console=console)
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    console.print(f"Open [bold]{output}[/bold].")


if __name__ == "__main__":
    main()
