"""Learning: the network's shape, PPO on a world where the best policy is known, and the export."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from envs import RoutingVectorEnv
from envs.episode import OBSERVATION_LOW, price_feature
from policies.network import GainCost, price_of
from policies.train import Reference, measure_reference, train
from stepwise.features import observe
from stepwise.routers import PolicyRouter
from stepwise.routers.artifact import gain_and_cost
from tests.worlds import engine, problem

PROBLEMS = [problem(a, b, c) for a in (1, 7) for b in (2, 8, 9) for c in (0, 3, 6)]


class World:
    """Stands for a pair: training asks only for its name and fingerprint."""

    name: ClassVar[str] = "world"
    fingerprint: ClassVar[str] = "abc"


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


def run(output: Path, steps: int, reference: Reference, **changes: Any) -> Any:
    world = engine()
    env = RoutingVectorEnv(world, PROBLEMS, 32, price=(0.05, 3.0), cost_scale=reference.large_cost)
    settings = {**POLICY, "total_steps": steps, **changes}
    pair: Any = World()
    return train(env, pair, settings, output=output, seed=0, every=1, reference=reference)


def test_prices_survive_the_observation() -> None:
    for price in (0.0, 0.03, 1.0, 10.0):
        assert price_of(torch.tensor(price_feature(price))).item() == pytest.approx(price, abs=1e-5)


def test_a_higher_price_never_makes_the_large_model_likelier() -> None:
    torch.manual_seed(0)
    body = GainCost(len(OBSERVATION_LOW), 3, 16)
    trace = torch.rand(1, len(OBSERVATION_LOW))
    logits = []
    for price in (0.0, 0.1, 1.0, 10.0):
        trace[0, -1] = price_feature(price)
        logits.append(body.forward_actor(trace)[0])
    assert all((b[1:] < a[1:]).all() and b[0] == 0 for a, b in pairwise(logits))


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


def test_training_goes_on_from_a_checkpoint_and_exports_what_it_learnt(tmp_path: Path) -> None:
    reference = Reference(1e3, 1.0, 1)
    first = run(tmp_path, 4096, reference)
    assert (tmp_path / "checkpoint.zip").exists()
    second = run(tmp_path, 8192, reference)
    assert first.card["steps"] == 4096 and second.card["steps"] == 8192
    again = run(tmp_path, 8192, reference)
    for name, weights in second.weights.items():
        assert np.array_equal(weights, again.weights[name])
        assert not np.array_equal(weights, first.weights[name])


def test_a_budget_finds_its_price_and_a_resumed_run_goes_on_from_it(tmp_path: Path) -> None:
    reference = Reference(engine().run(measure_reference(engine(), PROBLEMS)).large_cost, 1.0, 1)
    prices = {
        budget: run(tmp_path / str(budget), 6144, reference, budget=budget).card["price"]
        for budget in (0.3, 1.2)
    }
    assert prices[0.3] > 2 * prices[1.2]
    rollout = POLICY["ppo"]["n_steps"] * 32
    run(tmp_path / "0.3", 6144 + rollout, reference, budget=0.3)
    resumed: Any = PPO.load(tmp_path / "0.3" / "checkpoint.zip", device="cpu")
    assert resumed.dual["count"] == 6144 // rollout + 1


def test_the_exported_network_is_the_trained_one(tmp_path: Path) -> None:
    artifact = run(tmp_path, 2048, Reference(1e3, 1.0, 1))
    body: Any = PPO.load(tmp_path / "checkpoint.zip", device="cpu").policy.mlp_extractor
    world = engine()
    trace = world.run(world.look(world.start(PROBLEMS[0]), "after_draft"))
    features = observe(trace, "small", "large")
    gain, cost = gain_and_cost(artifact.weights, features)
    hidden = body.trunk(torch.from_numpy(features)[None])
    assert gain == pytest.approx(body.gain(hidden).detach().numpy()[0], abs=1e-5)
    expected = torch.nn.functional.softplus(body.cost(hidden)).detach().numpy()[0]
    assert cost == pytest.approx(expected, abs=1e-5)
