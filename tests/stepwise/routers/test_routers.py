"""Routers: what they choose, what they refuse, and the artifact that carries a trained one."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs import RoutingEnv
from stepwise import load_pair, load_router
from stepwise.calibration import calibrate
from stepwise.errors import ConfigError, InfeasibleTarget, RouterError, StepwiseError
from stepwise.routers import (
    Always,
    Confidence,
    FirstTokenEntropy,
    LargeFirst,
    PolicyArtifact,
    PolicyRouter,
    Random,
    SmallFirst,
    ThresholdRouter,
)
from stepwise.routers.features import SIGNALS, bounds, observe
from stepwise.routers.judged import ProcessReward
from stepwise.routers.threshold import Scorer
from stepwise.types import Look, Signals, Step, Trace, Verdict
from tests.records import spread_record
from tests.worlds import engine, problem, writers


def share(router: Random, problems: int) -> float:
    world = engine()
    traces = [world.solve_sync(problem(1, 2, 3, n), router) for n in range(problems)]
    models = [step.model for trace in traces for step in trace.steps]
    return models.count("large") / len(models)


def test_fixed_routers_follow_their_rule() -> None:
    world = engine()
    first = world.solve_sync(problem(1, 2, 3), LargeFirst(2))
    assert [step.model for step in first.steps] == ["large", "large", "small", "small"]
    last = world.solve_sync(problem(1, 2, 3), SmallFirst(3))
    assert [step.model for step in last.steps] == ["small", "small", "small", "large"]


def test_random_mixes_at_its_rate_and_repeats_itself() -> None:
    assert share(Random(0.3), 200) == pytest.approx(0.3, abs=0.06)
    assert share(Random(0.3, per="problem"), 200) == pytest.approx(0.3, abs=0.1)
    assert share(Random(0.5, seed=1), 20) == share(Random(0.5, seed=1), 20)
    by_problem = engine().solve_sync(problem(1, 2, 3), Random(0.5, per="problem"))
    assert len({step.model for step in by_problem.steps}) == 1


def test_bad_knobs_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"p must lie in \[0, 1\]"):
        Random(1.5)
    with pytest.raises(ConfigError, match="of must be 'min' or 'mean'"):
        Confidence("max")  # type: ignore[arg-type]


def test_a_scorer_that_needs_a_draft_says_so() -> None:
    with pytest.raises(StepwiseError, match="looks at a draft"):
        ThresholdRouter(Confidence(), 0.5, "confidence").decide(Trace(problem(1)))


def artifact(**changes: object) -> PolicyArtifact:
    """A policy that asks for the large model exactly when the draft has an unlikely token."""
    rng = np.random.default_rng(0)
    n, width = len(SIGNALS), 4
    w0 = np.zeros((width, n), np.float32)
    w0[0, SIGNALS.index("draft_worst")] = 4.0
    weights = {
        "w0": w0,
        "b0": np.array([-2, 0, 0, 0], np.float32),
        "w1": np.eye(width, dtype=np.float32),
        "b1": np.zeros(width, np.float32),
        "gain_w": np.array([[-1.0, 0, 0, 0]], np.float32),
        "gain_b": np.array([0.2], np.float32),
        "cost_w": np.zeros((1, width), np.float32),
        "cost_b": np.array([rng.uniform(-0.1, 0.1)], np.float32),
    }
    made = PolicyArtifact("world", "abc", ("small", "large"), "after_draft", SIGNALS, weights)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_policy_routes_and_its_threshold_is_a_cost_weight() -> None:
    world = engine()
    light, heavy = PolicyRouter(artifact(), 0.1), PolicyRouter(artifact(), 100.0)
    trace = world.solve_sync(problem(1, 9, 2), light)
    assert [step.model for step in trace.steps] == ["small", "large", "small", "small"]
    assert trace.answer == "12"
    assert {step.model for step in world.solve_sync(problem(1, 9, 2), heavy).steps} == {"small"}
    decision = trace.steps[1].decision
    assert decision is not None and decision.score is not None and decision.score >= 0.1


def test_an_artifact_survives_its_files(tmp_path: Path) -> None:
    record = spread_record(n=400)
    artifact(record=record, card={"seed": 0}).save(tmp_path)
    loaded = PolicyArtifact.load(tmp_path)
    assert loaded.record is not None and loaded.record.summary() == record.summary()
    assert loaded.card == {"seed": 0} and loaded.models == ("small", "large")
    assert json.loads((tmp_path / "policy.json").read_text())["calibration"]["n"] == 400


def test_targets_choose_the_threshold(tmp_path: Path) -> None:
    record = spread_record(n=400)
    artifact(record=record).save(tmp_path)
    wanted: list[dict[str, Any]] = [{"budget": 0.5}, {"max_accuracy_loss": 0.1}]
    for targets in [*wanted, {**wanted[0], "max_accuracy_loss": 0.4}]:
        expected = calibrate(record, **targets).threshold
        assert load_router(str(tmp_path), **targets).threshold == pytest.approx(expected)
    with pytest.raises(InfeasibleTarget, match="budget 0.05 cannot be promised") as caught:
        load_router(str(tmp_path), budget=0.05)
    assert load_router(str(tmp_path), budget=caught.value.best).threshold == record.thresholds[-1]


def test_the_card_tells_how_a_policy_was_trained_and_what_calibration_found(tmp_path: Path) -> None:
    curve = [(0, 0.51234), (4096, 0.7)]
    policy = {"ppo": {"gamma": 1.0, "n_steps": 64}, "budget": None, "cost_weight": [0.03, 3.0]}
    measured = {"best": 0.7, "curve": curve}
    trained = artifact(card={"dataset": "sums", "seed": 3, "validation": measured, "policy": policy})
    trained.save(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "- ppo: gamma 1, n_steps 64\n- budget: none\n- cost_weight: 0.03, 3\n" in card
    assert "- dataset: sums" in card and "| 0 | 0.5123 |" in card and "| 4,096 | 0.7000 |" in card
    assert "None yet: `python -m scripts.calibrate`." in card
    record = spread_record(n=50)
    replace(trained, record=record).save(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "None yet" not in card
    assert card.count("%") == 2 * len(record.thresholds)


def test_unusable_artifacts_are_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="router must be one of nano-ppo or the folder"):
        load_router("nano-pop", budget=0.4)
    with pytest.raises(ConfigError, match="either a threshold, or a budget"):
        load_router("nano-ppo")
    artifact().save(tmp_path)
    with pytest.raises(ConfigError, match="has no calibration"):
        load_router(str(tmp_path), budget=0.4)
    with pytest.raises(ConfigError, match="was trained on pair 'world'"):
        PolicyRouter(artifact(), 1.0).check(load_pair("nano"))
    pair = load_pair("nano")
    three = PolicyRouter(replace(artifact(), models=("small", "middle", "large")), 1.0)
    three.check(pair, ["small", "middle", "large"], transfer=True)
    with pytest.raises(ConfigError, match="models must contain small, middle, large, which the policy"):
        three.check(pair, transfer=True)
    record = json.loads((tmp_path / "policy.json").read_text())
    (tmp_path / "policy.json").write_text(json.dumps({**record, "features": ["other"]}))
    with pytest.raises(ConfigError, match="features that this version does not have: .*not 'other'"):
        load_router(str(tmp_path), threshold=1.0)
    (tmp_path / "policy.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ConfigError, match="is damaged"):
        load_router(str(tmp_path), threshold=1.0)


@pytest.mark.parametrize("budget", [0.0, -1.0, 1.5, float("nan")])
def test_budgets_lie_in_the_unit_interval(budget: float) -> None:
    with pytest.raises(ConfigError, match=r"budget must lie in \(0, 1\]"):
        load_router("nano-ppo", budget=budget)


def test_observations_stay_in_their_ranges_and_see_the_draft() -> None:
    world = engine()

    async def walk() -> list[Trace]:
        chain = world.start(problem(9, 1, 9, 2))
        seen = []
        for model in ("small", "large", "small", "large", "small"):
            await world.look(chain, "after_draft")
            seen.append(chain.trace)
            await world.advance(chain, model)
        return seen

    low, high = bounds(SIGNALS)
    for trace in world.run(walk()):
        seen = observe(trace, "small", "large")
        assert seen.shape == (len(SIGNALS),) and seen.dtype == np.float32
        assert np.all(seen >= low) and np.all(seen <= high)
        assert seen[SIGNALS.index("position")] == pytest.approx(len(trace.steps) / 16)
        assert trace.draft is not None
        worst = np.exp(trace.draft.signals.min_logprob)
        assert seen[SIGNALS.index("draft_worst")] == pytest.approx(worst)
    # What the large model must still read: everything before it first writes, then what it missed.
    unread = [observe(t, "small", "large")[SIGNALS.index("unread")] * 512 for t in world.run(walk())]
    lengths = [len(s.text) for s in world.solve_sync(problem(9, 1, 9, 2), Always("small")).steps]
    question = len("9 1 9 2\n")
    assert unread[0] == pytest.approx(question)
    assert unread[1] == pytest.approx(question + lengths[0])
    assert unread[2] == pytest.approx(0)


def test_a_policy_is_served_with_the_mask_that_it_was_trained_with() -> None:
    """At a threshold where it always wants the large model, whose context has no room after two steps."""
    world = engine()
    question = problem(*range(9))
    policy = load_router("nano-ppo", threshold=-5.0)
    assert writers(world.solve_sync(question, policy)) == {"large"}
    world.backends["large"].context = 18 + 64
    trace = world.solve_sync(question, policy)
    assert trace.stop == "answered" and writers(trace) == {"small", "large"}
    env = RoutingEnv(world, [question])
    _, info = env.reset(seed=0)
    ended = False
    while not ended:
        _, _, ended, _, info = env.step(1 if info["action_mask"][1] else 0)
    assert [step.model for step in info["trace"].steps] == [step.model for step in trace.steps]
    full = [step.decision.reason for step in trace.steps if step.decision and step.model == "small"]
    assert full[0] == "no room left for large"


@pytest.mark.parametrize("scorer", [Confidence("min"), Confidence("mean"), FirstTokenEntropy()])
def test_a_draft_without_a_signal_is_not_a_confident_one(scorer: Scorer) -> None:
    draft = Step("x", (1,), "small", {}, Signals(length=1, missing=True))
    decision = ThresholdRouter(scorer, 1e9, "rule").decide(Trace(problem(1), draft=draft))
    assert decision.model == "large" and decision.score is None
    assert decision.reason == "no signal: the draft of model 'small' came without log-probabilities"


def test_a_policy_without_a_signal_asks_the_large_model() -> None:
    draft = Step("x", (1,), "small", {}, Signals(length=1, missing=True))
    router = load_router("nano-ppo", threshold=1e9)
    decision = router.decide(Trace(problem(1), draft=draft))
    assert decision.model == "large" and decision.reason.startswith("no signal: ")
    known = replace(draft, signals=Signals(-0.1, -0.1, 0.1, 0.9, 1))
    assert router.decide(Trace(problem(1), draft=known)).model == "small"
    unsure = observe(Trace(problem(1), steps=(draft,)), "small", "large")
    assert unsure[SIGNALS.index("worst_accepted")] == unsure[SIGNALS.index("trust")] == 0.0


def test_a_verdict_without_a_probability_is_no_approval() -> None:
    draft = Step("x", (1,), "small", {}, Signals(length=1), verdict=Verdict("+", None))
    decision = ThresholdRouter(ProcessReward(), 1e9, "prm").decide(Trace(problem(1), draft=draft))
    assert decision.model == "large" and "without a probability" in decision.reason


def test_a_policy_keeps_down_the_cost_that_it_was_trained_for() -> None:
    router = load_router("nano-ppo", threshold=1.0)
    trained = replace(router, artifact=replace(router.artifact, card={"cost_unit": "FLOPs"}))
    trained.check(load_pair("nano"), unit="FLOPs")
    with pytest.raises(ConfigError, match="cost: the policy was trained to keep down FLOPs, not dollars"):
        trained.check(load_pair("nano"), unit="dollars")


@pytest.mark.parametrize("threshold", ["high", None, float("nan")])
def test_a_threshold_is_a_number(threshold: Any) -> None:
    with pytest.raises(ConfigError, match="threshold must be a number, not "):
        ThresholdRouter(Confidence(), threshold, "confidence")
    with pytest.raises(ConfigError, match="threshold must be a number, not "):
        load_router("nano-ppo", threshold=0.5).at(threshold)


@dataclass(frozen=True)
class Scored:
    """A scorer of somebody's own."""

    returned: Any
    look: Look = "before"

    def score(self, trace: Trace) -> Any:
        return self.returned


@pytest.mark.parametrize("score", [None, "0.7", float("nan"), [0.7]])
def test_a_score_that_is_no_number_names_the_scorer_and_its_line(score: Any) -> None:
    line = Scored.score.__code__.co_firstlineno
    sentence = rf"'mine' at step 1 .*: score of Scored \(test_routers\.py:{line}\) must return a number, not"
    with pytest.raises(RouterError, match=sentence):
        engine().solve_sync(problem(1), ThresholdRouter(Scored(score), 0.5, "mine"))


@pytest.mark.parametrize("score", [1, np.float32(1), True])
def test_numbers_of_every_kind_are_scores(score: Any) -> None:
    trace = engine().solve_sync(problem(1), ThresholdRouter(Scored(score), 0.5, "mine"))
    assert writers(trace) == {"large"}


def test_what_is_no_scorer_is_refused() -> None:
    with pytest.raises(RouterError, match="scorer Always has no 'score'; it needs look, score"):
        ThresholdRouter(Always("small"), 0.5, "mine")  # type: ignore[arg-type]
