"""Learning: the network's shape, PPO on a world where the best policy is known, and the export."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from envs import RoutingVectorEnv
from envs.episode import Episode, cost_weight_feature
from envs.observer import Observer
from envs.task import Task
from policies.network import GainCost, cost_weight_of
from policies.reference import Reference, measure_reference
from policies.train import Watch, train
from policies.validation import outcomes
from stepwise import load_router
from stepwise.routers import Always, Confidence, PolicyRouter, ThresholdRouter
from stepwise.routers.features import SIGNALS, observe
from stepwise.routers.policy import gain_and_cost
from stepwise.verify import is_correct
from tests.worlds import engine, problem

PROBLEMS = [problem(a, b, c) for a in (1, 7) for b in (2, 8, 9) for c in (0, 3, 6)]


class World:
    """Stands for a pair: training asks only for its name and identity."""

    name: ClassVar[str] = "world"
    identity: ClassVar[str] = "abc"


POLICY: dict[str, Any] = {
    "total_steps": 16_384,
    "look": "after_draft",
    "width": 32,
    "ppo": {
        "n_steps": 64,
        "batch_size": 512,
        "n_epochs": 6,
        "learning_rate": 0.003,
        "gamma": 1.0,
        "ent_coef": 0.003,
    },
}


def run(
    output: Path, steps: int, reference: Reference, every: int = 1, validated: bool = True, **changes: Any
) -> Any:
    world = engine()
    env = RoutingVectorEnv(world, PROBLEMS, 32, cost_weight=(0.05, 3.0), cost_scale=reference.large_cost)
    settings = {**POLICY, "total_steps": steps, **changes}
    pair: Any = World()
    return train(
        env, pair, settings, output=output, seed=0, every=every, reference=reference,
        validation=Task(world, PROBLEMS[::2]) if validated else None,
    )  # fmt: skip


def test_cost_weights_survive_the_observation() -> None:
    for cost_weight in (0.0, 0.03, 1.0, 10.0):
        observed = torch.tensor(cost_weight_feature(cost_weight))
        assert cost_weight_of(observed).item() == pytest.approx(cost_weight, abs=1e-5)


def test_a_higher_cost_weight_never_makes_the_large_model_likelier() -> None:
    torch.manual_seed(0)
    body = GainCost(len(SIGNALS) + 3 + 1, 3, 16)
    trace = torch.rand(1, len(SIGNALS) + 3 + 1)
    trace[0, -4:-1] = 1.0
    logits = []
    for cost_weight in (0.0, 0.1, 1.0, 10.0):
        trace[0, -1] = cost_weight_feature(cost_weight)
        logits.append(body.forward_actor(trace)[0])
    assert all((b[1:] < a[1:]).all() and b[0] == 0 for a, b in pairwise(logits))


def test_an_action_that_makes_no_sense_is_never_likely() -> None:
    body = GainCost(len(SIGNALS) + 3 + 1, 3, 16)
    seen = torch.rand(1, len(SIGNALS) + 3 + 1)
    seen[0, -4:-1] = torch.tensor([1.0, 0.0, 1.0])
    chances = body.forward_actor(seen).softmax(1)[0]
    assert chances[1] == 0.0 and chances[0] > 0.0 and chances[2] > 0.0


def test_ppo_learns_to_call_the_large_model_where_the_small_one_fails(tmp_path: Path) -> None:
    world = engine()
    reference = world.run(measure_reference(world, PROBLEMS))
    assert reference.large_accuracy == 1.0 and reference.n == len(PROBLEMS)
    artifact = run(tmp_path, POLICY["total_steps"], reference)
    router = PolicyRouter(artifact, 0.1)
    traces = [world.solve_sync(p, router) for p in PROBLEMS]
    right = np.mean([t.answer == t.problem.answer for t in traces])
    cost = np.mean([t.cost for t in traces]) / reference.large_cost
    assert right >= 0.9
    assert cost < 1.0
    free = [world.solve_sync(p, router.at(1e6)) for p in PROBLEMS]
    assert {step.model for trace in free for step in trace.steps} == {"small"}
    assert artifact.card["steps"] >= POLICY["total_steps"]


def test_training_goes_on_from_a_checkpoint_says_so_and_exports_what_it_learnt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said() -> str:
        return "".join(capsys.readouterr().out.split())  # however the terminal breaks its lines

    reference = Reference(1e3, 1.0, 1)
    first = run(tmp_path, 4096, reference, validated=False)
    assert (tmp_path / "checkpoint.zip").exists() and "stepsaredone" not in said()
    second = run(tmp_path, 8192, reference, validated=False)
    assert "checkpoint.zip:4,096of8,192stepsaredone,4,096areleft." in said()
    assert first.card["steps"] == 4096 and second.card["steps"] == 8192
    again = run(tmp_path, 8192, reference, validated=False)
    assert "8,192of8,192stepsaredone,nothingisleft" in said()
    for name, weights in second.weights.items():
        assert np.array_equal(weights, again.weights[name])
        assert not np.array_equal(weights, first.weights[name])


class Killed(Exception):
    """Stands for kill -9: nothing after it runs."""


def test_a_run_that_is_killed_resumes_to_the_identical_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = Reference(1e3, 1.0, 1)
    whole = run(tmp_path / "whole", 10_240, reference, every=2)

    def die(self: Watch) -> None:
        if self.num_timesteps >= 8192:  # the last checkpoint is two rollouts back
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Watch, "_on_rollout_end", die)
        run(tmp_path / "killed", 10_240, reference, every=2)
    resumed = run(tmp_path / "killed", 10_240, reference, every=2)
    assert resumed.card["validation"] == whole.card["validation"]
    for name, weights in whole.weights.items():
        assert np.array_equal(weights, resumed.weights[name])


def test_the_best_weights_on_validation_are_exported_and_training_stops_when_they_get_no_better(
    tmp_path: Path,
) -> None:
    reference = Reference(engine().run(measure_reference(engine(), PROBLEMS)).large_cost, 1.0, 1)
    artifact = run(tmp_path, 200_000, reference, patience=3)
    assert artifact.card["steps"] < 200_000
    last: Any = PPO.load(tmp_path / "checkpoint.zip", device="cpu")
    assert last.validation["since"] >= 3
    best = last.validation["weights"]["mlp_extractor.trunk.0.weight"].numpy()
    assert np.array_equal(artifact.weights["w0"], best)
    measured = artifact.card["validation"]
    assert artifact.card["exported_step"] == next(at for at, v in measured["curve"] if v == measured["best"])
    assert 0.0 < measured["random_mix"] < measured["best"] and artifact.card["cost_unit"] == "FLOPs"
    assert measured["best"] == last.validation["best"] == max(value for _, value in measured["curve"]) > 0.5


def test_a_walk_measures_what_solving_does() -> None:
    world = engine()
    task = Task(world, PROBLEMS)
    correct, cost = world.run(outcomes(task.tree, PROBLEMS, [0.5], lambda seen: [1] * len(seen)))
    drafts = ThresholdRouter(Confidence(), -1e9, "always large, after a draft")
    traces = [world.solve_sync(problem, drafts) for problem in PROBLEMS]
    assert correct[0].tolist() == [is_correct(trace) for trace in traces]
    assert cost[0] == pytest.approx([trace.cost for trace in traces])


def test_a_budget_finds_its_multiplier_and_a_resumed_run_goes_on_from_it(tmp_path: Path) -> None:
    reference = Reference(engine().run(measure_reference(engine(), PROBLEMS)).large_cost, 1.0, 1)
    settled = {
        budget: run(tmp_path / str(budget), 6144, reference, budget=budget).card["settled_cost_weight"]
        for budget in (0.3, 1.2)
    }
    assert settled[0.3] > 2 * settled[1.2]
    rollout = POLICY["ppo"]["n_steps"] * 32
    run(tmp_path / "0.3", 6144 + rollout, reference, budget=0.3)
    resumed: Any = PPO.load(tmp_path / "0.3" / "checkpoint.zip", device="cpu")
    assert resumed.dual["count"] == 6144 // rollout + 1


def test_a_policy_is_served_what_it_was_trained_to_see(tmp_path: Path) -> None:
    names, scales = ("draft_worst", "question_3", "position"), (("position", 2.0),)
    env = RoutingVectorEnv(engine(), PROBLEMS, 32, cost_scale=1e3, observer=Observer.of(names, scales))
    pair: Any = World()
    artifact = train(
        env, pair, {**POLICY, "total_steps": 2048}, output=tmp_path, seed=0, every=1,
        reference=Reference(1e3, 1.0, 1),
    )  # fmt: skip
    artifact.save(tmp_path / "policy")
    router = load_router(str(tmp_path / "policy"), threshold=0.5)
    assert router.artifact.features == names and router.artifact.weights["w0"].shape[1] == 3
    assert router.artifact.scales == scales and router.artifact != replace(router.artifact, scales=())
    trace = engine().solve_sync(PROBLEMS[0], Always("small", "after_draft"))
    once = replace(trace, steps=trace.steps[:1], draft=trace.steps[1], stop=None)
    seen = observe(once, "small", "large", names, scales)
    gain, cost = gain_and_cost(artifact.weights, seen)
    assert seen[2] == 0.5 and router.decide(once).score == pytest.approx(float(gain[0] / cost[0]))
    assert engine().solve_sync(PROBLEMS[0], router).stop == "answered"


def test_the_exported_network_is_the_trained_one(tmp_path: Path) -> None:
    artifact = run(tmp_path, 2048, Reference(1e3, 1.0, 1), validated=False)
    body: Any = PPO.load(tmp_path / "checkpoint.zip", device="cpu").policy.mlp_extractor
    world = engine()
    chain = world.start(PROBLEMS[0])
    world.run(world.look(chain, "after_draft"))
    features = observe(chain.trace, "small", "large")
    gain, cost = gain_and_cost(artifact.weights, features)
    hidden = body.trunk(torch.from_numpy(features)[None])
    assert gain == pytest.approx(body.gain(hidden).detach().numpy()[0], abs=1e-5)
    expected = torch.nn.functional.softplus(body.cost(hidden)).detach().numpy()[0]
    assert cost == pytest.approx(expected, abs=1e-5)


def finished(output: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each of a short and a long problem was finished, checkpoints every 8 steps of a slot."""
    short, long = problem(1), problem(*[1] * 20)
    counts = {short.id: 0, long.id: 0}
    arrive = Episode._arrive

    def count(self: Episode, *arguments: Any) -> Any:
        result = arrive(self, *arguments)
        if result.terminated:
            counts[self.trace.problem.id] += 1
        return result

    monkeypatch.setattr(Episode, "_arrive", count)
    env = RoutingVectorEnv(engine(), [short, long], 8, look="before", cost_scale=1e3)
    settings = {**POLICY, "total_steps": 8 * 200, "ppo": {**POLICY["ppo"], "n_steps": 4, "batch_size": 32}}
    pair: Any = World()
    train(env, pair, settings, output=output, seed=0, every=2, reference=Reference(1e3, 1.0, 1))
    return counts


def test_chains_longer_than_the_interval_of_checkpoints_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = finished(tmp_path, monkeypatch).values()
    assert (
        long > 30 and abs(short - long) < 0.35 * short
    )  # the long one is in flight in most slots at the end


def test_a_run_that_ended_early_goes_on_if_it_is_given_more_steps(tmp_path: Path) -> None:
    reference = Reference(1e3, 1.0, 1)
    ended = run(tmp_path, 60_000, reference, patience=1).card["steps"]
    assert ended < 60_000 and run(tmp_path, 60_000, reference, patience=1).card["steps"] == ended
    assert run(tmp_path, 62_000, reference, patience=1).card["steps"] > ended
