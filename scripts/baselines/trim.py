"""Train TRIM-Agg, one policy for every cost weight of a large token, for comparison.

python -m scripts.baselines.trim pair.judge=outputs/prm/model
python -m scripts.evaluate pair.judge=outputs/prm/model +router@routers.trim_agg=trim_agg
"""

from __future__ import annotations

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from envs import RoutingVectorEnv
from policies import trim
from scripts import console, program
from stepwise.errors import ConfigError
from stepwise.evaluation import provenance
from stepwise.store.sqlite import SqliteStore


@program("train_trim")
def main(cfg: DictConfig) -> None:
    output = provenance.writable(cfg.output)
    OmegaConf.save(cfg, output / "config.yaml", resolve=True)
    pair = instantiate(cfg.pair)
    if pair.judge is None:
        raise ConfigError("pair.judge must name a process reward model: TRIM sees nothing else.")
    problems = instantiate(cfg.dataset, split="train", limit=cfg.problems)
    engine = pair.engine(backend=cfg.backend, store=SqliteStore(cfg.store))
    env = RoutingVectorEnv(engine, problems, cfg.num_envs, "judged", observer=trim.observer(cfg.good))
    for cost_weight in cfg.cost_weights:
        folder = output / f"{cost_weight:g}"
        if (folder / "trim.zip").exists():
            continue
        env.task.cost_weight = float(cost_weight)
        console.print(f"training at {cost_weight:g} per token of the large model")
        trim.train(env, cfg.total_steps, cfg.seed, folder)
    engine.run(engine.close())


if __name__ == "__main__":
    main()
