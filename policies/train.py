"""PPO (Stable-Baselines3) over the batched environment, with checkpoints, resume and export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import get_console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback

from envs.task import Task
from envs.vector import RoutingVectorEnv
from policies.grid import thresholds
from policies.imitation import imitate
from policies.multiplier import DualAscent, settle
from policies.network import GainCost, GainCostPolicy
from policies.reference import Reference
from policies.rollouts import RoutingPPO
from policies.sb3_env import SB3Routing
from policies.validation import Validation, greedy
from stepwise.errors import BackendError
from stepwise.models.pair import Pair
from stepwise.routers import PolicyArtifact
from stepwise.routers.artifact import Weights

SERVED = {
    "w0": "trunk.0.weight", "b0": "trunk.0.bias", "w1": "trunk.2.weight", "b1": "trunk.2.bias",
    "gain_w": "gain.weight", "gain_b": "gain.bias", "cost_w": "cost.weight", "cost_b": "cost.bias",
}  # fmt: skip
"""The part of the network that serving needs, under the names of the artifact."""


MAX_FAILED, MIN_FAILED = 0.2, 10
"""Training ends where as large a share, and as many, of a rollout's episodes fail."""


SHOWN = ("best", "random_mix", "curve")


class Watch(BaseCallback):
    """Shows progress, logs finished episodes, and gives up where too many fail."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self._done: list[Mapping[str, Any]] = []
        self._failed = 0
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns)
        self._task = self._progress.add_task("training", total=total)

    def _on_training_start(self) -> None:
        self._progress.start()

    def _on_step(self) -> bool:
        self._done += [info for info in self.locals["infos"] if "correct" in info]
        self._failed += sum(info["TimeLimit.truncated"] for info in self.locals["infos"])
        return True

    def _on_rollout_end(self) -> None:
        self._count_failures()
        if self._done:
            accuracy = float(np.mean([info["correct"] for info in self._done]))
            cost = float(np.mean([info["total_cost"] for info in self._done]))
            self.logger.record("episodes/accuracy", accuracy)
            self.logger.record("episodes/cost", cost)
            self._progress.update(
                self._task,
                completed=self.num_timesteps,
                description=f"accuracy {accuracy:.1%}, cost {cost:.1%} of large-only",
            )
            self._done.clear()

    def _count_failures(self) -> None:
        failed, self._failed = self._failed, 0
        ended = failed + len(self._done)
        self.logger.record("episodes/errors", failed)
        self.model.errors += failed  # type: ignore[attr-defined]
        if failed >= MIN_FAILED and failed > MAX_FAILED * ended:
            self._progress.stop()
            raise BackendError(f"{failed} of {ended} episodes of a rollout failed: models cannot be run.")

    def _on_training_end(self) -> None:
        self._progress.stop()


class Checkpoints(BaseCallback):
    """Saves the run every few rollouts, so that one that is killed goes on to the identical result.

    A checkpoint lies between an update and the next rollout. There the run seeds all randomness anew from
    its seed and its position, whether it has just been resumed or not. Chains that are not finished there go
    on: the checkpoint says where they are, so that long ones end as often as they should.
    """

    def __init__(self, folder: Path, every: int, seed: int) -> None:
        super().__init__()
        self._folder, self._every, self._seed = folder, every, seed
        self._rollouts = 0

    def _on_rollout_start(self) -> None:
        if self._rollouts % self._every == 0:
            save(self.model, self._folder)
            self.model.set_random_seed((self._seed + self.num_timesteps) % 2**32)
        self._rollouts += 1

    def _on_step(self) -> bool:
        return True


def save(model: Any, folder: Path) -> None:
    """Replace the checkpoint in one move, so that a kill leaves a whole one."""
    model.slots = model.env.env.state()
    model.save(folder / "checkpoint.partial.zip")
    (folder / "checkpoint.partial.zip").replace(folder / "checkpoint.zip")


def train(
    env: RoutingVectorEnv,
    pair: Pair,
    policy: Mapping[str, Any],
    *,
    output: Path,
    seed: int,
    every: int,
    reference: Reference,
    validation: Task | None = None,
    about: Mapping[str, Any] | None = None,
    callbacks: Sequence[BaseCallback] = (),
) -> PolicyArtifact:
    """Run PPO to ``policy["total_steps"]`` environment steps and return the exported policy.

    Args:
        policy: the ``policy`` config: total_steps, look, cost_weight, budget, imitation, width, patience, and
            SB3's arguments ``ppo``. With a budget λ is found by dual ascent from the cost weight given. With
            ``imitation`` a warm start precedes (arguments of `policies.imitation.imitate`).
        output: folder for the checkpoint and the TensorBoard log.
        every: rollouts between checkpoints, and between measurements on the validation problems.
        reference: of large-only; recorded in the artifact.
        validation: problems on which the frontier is measured; the best weights are exported, and
            training ends after ``patience`` measurements without a new best. None: the last weights are.
        about: what else the policy's card says, such as its data.
        callbacks: SB3's, called beside those of the training; one that returns False ends it.
    """
    total, budget = int(policy["total_steps"]), policy.get("budget")
    model = _resumed_or_new(env, policy, output, seed)
    left = total - model.num_timesteps
    if model.num_timesteps:
        get_console().print(found(output / "checkpoint.zip", model.num_timesteps, total))
    if left > 0:
        every_one: list[BaseCallback] = [Watch(total), *callbacks]
        if budget is not None:
            every_one.append(DualAscent(env, float(budget)))
        if validation is not None:
            every_one.append(Validation(validation, every, policy.get("patience"), budget))
        every_one.append(Checkpoints(output, every, seed))
        model.learn(left, callback=every_one, reset_num_timesteps=False, tb_log_name="ppo")
        save(model, output)
    measured = getattr(model, "validation", None)
    if measured:
        model.policy.load_state_dict(measured["weights"])
    act, weights = greedy(model.policy), served(model.policy)
    settled = None if budget is None else settle(env.task, act, float(budget))
    card = {
        **(about or {}),
        "seed": seed, "steps": model.num_timesteps, "reference": vars(reference), "policy": dict(policy),
        "exported_step": measured["best_at"] if measured else model.num_timesteps,
        "cost_unit": env.task.engine.cost.unit, "errors": model.errors,
        "settled_cost_weight": settled, "imitation": model.imitation,
        "validation": {name: measured[name] for name in SHOWN} if measured else None,
        "thresholds": thresholds(validation, act, weights) if validation else None,
    }  # fmt: skip
    return export(weights, pair, env, card)


def found(checkpoint: Path, done: int, total: int) -> str:
    """What a run begins with that goes on, in a sentence."""
    left = f"{total - done:,} are left" if done < total else "nothing is left but to export the policy"
    return f"{checkpoint}: {done:,} of {total:,} steps are done, {left}."


def _resumed_or_new(env: RoutingVectorEnv, policy: Mapping[str, Any], output: Path, seed: int) -> RoutingPPO:
    """PPO as the checkpoint has it; without one from the start, or from a warm start."""
    batch, checkpoint = SB3Routing(env), output / "checkpoint.zip"
    if checkpoint.exists():
        model = RoutingPPO.load(checkpoint, env=batch, device="cpu")
        model.go_on()
        return model
    settings = dict(policy["ppo"])
    rate = float(settings.pop("learning_rate"))
    model = RoutingPPO(
        GainCostPolicy,
        batch,
        learning_rate=lambda left: rate * max(left, 0.0),
        policy_kwargs={"width": policy["width"]},
        seed=seed,
        device="cpu",
        tensorboard_log=str(output / "tensorboard"),
        **settings,
    )
    if policy.get("imitation"):
        model.imitation = imitate(model.policy, env.task, seed=seed, **policy["imitation"])
    return model


def served(policy: Any) -> Weights:
    """The actor's weights, under the names of the artifact."""
    body: GainCost = policy.mlp_extractor
    state = {name: tensor.numpy() for name, tensor in body.state_dict().items()}
    return {ours: state[theirs] for ours, theirs in SERVED.items()}


def export(weights: Weights, pair: Pair, env: RoutingVectorEnv, card: Mapping[str, Any]) -> PolicyArtifact:
    """Weights and everything that serving needs to know about them."""
    return PolicyArtifact(
        pair=pair.name,
        fingerprint=pair.identity,
        models=env.task.engine.models,
        look=env.task.look,
        features=env.task.observer.features,
        weights=weights,
        card=card,
        scales=env.task.observer.scales,
    )
