"""Train a routing policy with PPO and export it.

    python -m scripts.train                              # for the nano pair
    python -m scripts.train pair=mine.yaml dataset=problems.jsonl output=outputs/mine
    python -m scripts.train 'models=[small,middle,large]' output=outputs/three
    python -m scripts.train cluster=ray store=redis://HOST:6379/0  # rollouts on many machines
    python -m scripts.train -m policy.width=32,64 'output=outputs/widths/${hydra:job.num}' --yes

Before it begins, a preflight solves five problems with each model alone, refuses what cannot work, says what
the training may take, and asks; ``--yes`` answers.

Progress goes to TensorBoard (``tensorboard --logdir outputs/train``). A run that is killed
continues from its last checkpoint to the identical result, and training ends early when the frontier
on the validation problems no longer rises. The policy lands in ``<output>/policy``, ready for
`stepwise.load_router` once `scripts.calibrate` has given it a calibration. The program returns the best
frontier on the validation problems, for sweepers that look for the best settings.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf

from envs import RoutingVectorEnv
from envs.observer import Observer
from envs.task import Task
from policies.reference import Reference, measure_ends
from policies.trackers import Tracked
from policies.train import train
from scripts.cluster import environment_of
from scripts.preflight import consent, preflight
from scripts.prior import with_prior
from scripts.program import console, program, save_config, typed
from scripts.settings import Routing, check_counts, engine_of
from stepwise.data.splits import fingerprints
from stepwise.errors import BackendError, ConfigError
from stepwise.evaluation import provenance
from stepwise.evaluation.provenance import same_run
from stepwise.routers import PolicyArtifact
from stepwise.routers.features import ESTIMATES, expand


@dataclass
class Policy:
    """The kinds of a policy's settings; ``configs/policy`` has them with what they mean."""

    total_steps: int = MISSING
    look: str = MISSING
    features: list[str] = MISSING
    cost_weight: Any = MISSING
    budget: float | None = MISSING
    patience: int | None = MISSING
    imitation: Any = MISSING
    num_envs: int = MISSING
    verify: bool = False
    width: int = MISSING
    ppo: dict[str, int | float] = MISSING


@dataclass
class Train(Routing):
    """The settings of a training."""

    policy: Policy = field(default_factory=Policy)
    scope: Any = None
    output: str = "outputs/train"
    seed: int = 0
    cluster: Any = None  # where the rollouts are made
    yes: bool = False  # or --yes: train whatever the preflight says
    problems: int = 3000  # of the train split
    validation_problems: int = 300  # the frontier on them picks the weights and ends the training
    reference_problems: int = 300  # solved by large-only first, to know what one unit of cost is
    patience_s: float = 600.0  # to wait for a model that cannot be run for now
    checkpoint_every: int = 5  # rollouts; the frontier is measured as often
    tracker: str | None = None  # wandb or mlflow, beside TensorBoard
    callbacks: list[Any] = field(default_factory=list)  # SB3's: [{_target_: mine.Callback}]


@program("train", Train)
def main(cfg: DictConfig) -> float:
    features = expand(cfg.policy.features)
    check_counts(
        cfg, "policy.total_steps", "policy.num_envs", "problems", "validation_problems", "reference_problems",
        "checkpoint_every",
    )  # fmt: skip
    output = provenance.writable(cfg.output)
    pair = instantiate(cfg.pair)
    problems = instantiate(cfg.dataset, split="train", limit=cfg.problems)
    validation = instantiate(cfg.dataset, split="validation", limit=cfg.validation_problems)
    _same_run(output, cfg, pair.identity)  # once the data is there: a mistyped name begins no run
    save_config(cfg, output)
    engine = engine_of(cfg, pair)
    engine, estimates = with_prior(engine, cfg)
    _check_estimates(estimates, features)
    if not (output / "reference.json").exists():  # else the run has begun
        ahead = preflight(engine, problems, cfg.policy.look, cfg.policy.total_steps)
        consent(ahead, console, yes=cfg.yes)
    reference = _reference(output, engine, problems[: cfg.reference_problems], features)
    reference.check(cfg.policy.budget, engine.cost.unit)
    observer = Observer.of(features, tuple(reference.scales.items()))
    policy: Any = OmegaConf.to_container(cfg.policy, resolve=True)
    tracked = [Tracked(cfg.tracker, output, {**policy, "seed": cfg.seed})] if cfg.tracker else []
    env = environment_of(
        cfg,
        pair,
        engine,
        problems,
        num_envs=cfg.policy.num_envs,
        look=cfg.policy.look,
        cost_weight=_cost_weight(cfg.policy.cost_weight),
        verify=cfg.policy.verify,
        cost_scale=reference.large_cost,
        observer=observer,
        patience_s=cfg.patience_s,
    )
    artifact = _trained(
        env, pair, policy, output=output, seed=cfg.seed, every=cfg.checkpoint_every, reference=reference,
        validation=Task(
            engine, validation, cfg.policy.look, observer=observer, patience_s=cfg.patience_s,
            verify=cfg.policy.verify,
        ),
        about={
            "dataset": cfg.dataset.name, "problems": len(problems), "validated_on": len(validation),
            "seen": {"train": fingerprints(problems), "validation": fingerprints(validation)},
        },
        callbacks=[*tracked, *(instantiate(callback) for callback in cfg.callbacks)],
    )  # fmt: skip
    artifact = as_calibrated(artifact, output / "policy")
    artifact.save(output / "policy")
    env.close()
    engine.run(engine.close())
    same = [word for word in typed if word.lstrip("+").startswith(("pair", "dataset", "cost="))]
    console.print(verdict(artifact, output / "policy", same), soft_wrap=True)
    return float(artifact.card["validation"]["best"])


def _trained(env: RoutingVectorEnv, *arguments: Any, output: Path, **settings: Any) -> PolicyArtifact:
    """`train`; where the models can no longer be run, what has been learnt stays in the folder.

    Raises:
        BackendError: saying so.
    """
    try:
        return train(env, *arguments, output=output, **settings)
    except BackendError as error:
        raise BackendError(
            f"{error} The checkpoint in {output} is kept: the same command goes on from there."
        ) from error


def as_calibrated(artifact: PolicyArtifact, folder: Path) -> PolicyArtifact:
    """The artifact, with its calibration where the folder has the very same policy with one: a finished
    training that is repeated exports it again."""
    if not (folder / "calibration.npz").is_file():
        return artifact
    before = PolicyArtifact.load(folder)
    if repr(before) != repr(artifact) or before.record is None:
        return artifact
    seen = {**artifact.card["seen"], "calibration": before.card["seen"]["calibration"]}
    return replace(artifact, record=before.record, card={**artifact.card, "seen": seen})


def verdict(artifact: PolicyArtifact, folder: Path, same: Sequence[str] = ()) -> str:
    """What came of a training, in a sentence; ``same`` settings go with the next command."""
    card = artifact.card
    if card["exported_step"] > 0:
        command = shlex.join(["python", "-m", "scripts.calibrate", *same, f"policy={folder}"])
        return f"policy exported to {folder}; next: {command}"
    start = "the warm start" if card["imitation"] is not None else "the untrained network"
    return (
        f"{card['steps']} steps found nothing better than {start} on the validation problems: what lies in "
        f"{folder} is that, not a learned policy. Train longer, or on more problems."
    )


def _check_estimates(estimates: str, features: Sequence[str]) -> None:
    """Estimates are paid for if and only if the policy observes them."""
    observed = bool(set(ESTIMATES) & set(features))
    if observed != bool(estimates):
        raise ConfigError(
            "scope and policy.features: estimates are observed with scope=fingerprints and "
            "'policy.features=[signals,estimates]', both or neither."
        )


def _same_run(output: Path, cfg: DictConfig, fingerprint: str) -> None:
    """A folder holds one run: going on under other settings would mix two (more steps are fine).

    Raises:
        ConfigError: if the folder was started with another pair or configuration.
    """
    policy: Any = OmegaConf.to_container(cfg.policy, resolve=True)
    policy.pop("total_steps")
    dataset: Any = OmegaConf.to_container(cfg.dataset, resolve=True)
    counts = (cfg.problems, cfg.validation_problems, cfg.reference_problems, cfg.checkpoint_every)
    about: tuple[Any, ...] = (fingerprint, cfg.models, policy, dataset, cfg.seed, cfg.cost, counts)
    if cfg.scope is not None:
        about = (*about, OmegaConf.to_container(cfg.scope, resolve=True))
    same_run(output, about)


def _cost_weight(value: Any) -> float | tuple[float, float]:
    return float(value) if isinstance(value, int | float) else (float(value[0]), float(value[1]))


def _reference(output: Path, engine: Any, problems: Any, features: Sequence[str]) -> Reference:
    """Each model alone on a few training problems, measured once per run folder."""
    file = output / "reference.json"
    if file.exists():
        return Reference(**json.loads(file.read_text()))
    reference = engine.run(measure_ends(engine, problems, features))
    file.write_text(json.dumps(reference.__dict__) + "\n")
    return Reference(**reference.__dict__)


if __name__ == "__main__":
    main()
