"""Train TRIM-Agg, one policy for every cost weight of a large token, for comparison.

python -m scripts.baselines.trim pair.judge=outputs/prm/model
python -m scripts.evaluate pair.judge=outputs/prm/model +router@routers.trim_agg=trim_agg
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hydra.utils import instantiate
from omegaconf import DictConfig

from envs import RoutingVectorEnv
from policies import trim
from scripts.program import console, program, save_config
from scripts.settings import Solving, backend_of
from stepwise.errors import ConfigError
from stepwise.evaluation import provenance
from stepwise.store.opening import open_store

# Per token of the large model; the published default is 0.0008.
COST_WEIGHTS = (0.0002, 0.0008, 0.002, 0.004, 0.008)


@dataclass
class Trim(Solving):
    """The problems and cost weights that the policy is trained for."""

    output: str = "outputs/trim"
    seed: int = 0
    problems: int = 400
    good: str = "9"  # the token with which the reward model approves
    num_envs: int = 64
    total_steps: int = 40000
    cost_weights: list[float] = field(default_factory=lambda: list(COST_WEIGHTS))


@program("baselines.trim", Trim)
def main(cfg: DictConfig) -> None:
    output = provenance.writable(cfg.output)
    save_config(cfg, output)
    pair = instantiate(cfg.pair)
    if pair.judge is None:
        raise ConfigError("pair.judge must name a process reward model: TRIM sees nothing else.")
    problems = instantiate(cfg.dataset, split="train", limit=cfg.problems)
    engine = pair.engine(backend=backend_of(cfg), store=open_store(cfg.store))
    env = RoutingVectorEnv(engine, problems, cfg.num_envs, "judged", observer=trim.observer(cfg.good))
    for cost_weight in cfg.cost_weights:
        folder = output / f"{cost_weight:g}"
        if (folder / "trim.zip").exists():
            console.print(f"{folder / 'trim.zip'}: is trained; nothing is left.")
            continue
        env.task.cost_weight = float(cost_weight)
        console.print(f"training at {cost_weight:g} per token of the large model")
        trim.train(env, cfg.total_steps, cfg.seed, folder)
    engine.run(engine.close())


if __name__ == "__main__":
    main()
