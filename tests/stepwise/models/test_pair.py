"""Pairs: what ships, what is refused, and that the shipped one is what it claims to be."""

from __future__ import annotations

from pathlib import Path

import pytest

import stepwise
from stepwise import Model, Pair, load_dataset, load_pair, load_router
from stepwise.backends import checkpoint
from stepwise.errors import ConfigError
from stepwise.routers import Always
from stepwise.store.sqlite import SqliteStore


def test_the_public_surface_is_deliberate() -> None:
    errors = {"StepwiseError", "ConfigError", "BackendError", "ContextOverflow"}
    errors |= {"InfeasibleTarget", "VerificationError"}
    values = {"Problem", "Trace", "Step", "Decision", "Usage", "Signals", "Router"}
    parts = {"Engine", "Model", "Pair", "load_pair", "load_router", "load_dataset"}
    assert set(stepwise.__all__) == errors | values | parts
    assert all(hasattr(stepwise, name) for name in stepwise.__all__)


def test_nano_is_small_and_its_models_differ_in_size() -> None:
    pair = load_pair("nano")
    sizes = [checkpoint.parameters(model.path) for model in pair.models]
    assert sizes == sorted(sizes) and sizes[-1] >= 15 * sizes[0]
    files = [f for model in pair.models for f in Path(model.path).iterdir()]
    assert sum(file.stat().st_size for file in files) < 12e6


def test_the_example_of_the_documentation_runs() -> None:
    engine = load_pair("nano").engine()
    router = load_router("nano-ppo", budget=0.4)
    problem = load_dataset("nano", limit=1)[0]
    trace = engine.solve_sync(problem.question, router=router)
    assert trace.stop == "answered" and trace.answer and trace.cost > 0
    assert all(step.model in ("small", "large") and step.text for step in trace.steps)
    engine.run(engine.close())


def test_pools_of_more_than_two_models_run() -> None:
    engine = load_pair("nano").engine(models=["small", "middle", "large"])
    assert engine.models == ("small", "middle", "large")
    assert engine.solve_sync(load_dataset("nano", limit=1)[0], Always("middle")).steps
    engine.run(engine.close())


def test_a_store_that_is_given_is_used() -> None:
    store = SqliteStore(":memory:")
    engine = load_pair("nano").engine(store=store)
    engine.solve_sync(load_dataset("nano", limit=1)[0], Always("small"))
    assert len(store) > 0
    engine.run(engine.close())


def test_unknown_names_are_refused_before_anything_loads() -> None:
    with pytest.raises(ConfigError, match="pair must be nano or the path of a YAML file .*, not 'mega'"):
        load_pair("mega")
    pair = load_pair("nano")
    with pytest.raises(ConfigError, match="backend: name must be one of chat, .*transformers, vllm"):
        pair.engine(backend="tgi")
    with pytest.raises(ConfigError, match="model 'small' has no price"):
        pair.engine(cost="dollars")
    with pytest.raises(ConfigError, match="prompt must contain"):
        Pair("p", pair.models, "no place")
    with pytest.raises(ConfigError, match="cost must be one of flops"):
        pair.engine(cost="euros")
    with pytest.raises(ConfigError, match="model must be one of small, middle, large"):
        pair.engine(models=["tiny"])
    with pytest.raises(ConfigError, match="need distinct names"):
        Pair("p", (Model("a", "x"), Model("a", "y")), "{question}")
    with pytest.raises(ConfigError, match="'/no/such' is neither a folder"):
        Pair("p", (Model("a", "/no/such"),), "{question}").engine()


def test_a_fingerprint_sees_weights_prompt_and_steps() -> None:
    pair = load_pair("nano")
    fewer = Pair("nano", pair.models[:2], pair.prompt)
    other = Pair("nano", pair.models, "Q: {question}\n")
    longer = Pair("nano", pair.models, pair.prompt, max_steps=64)
    assert len({pair.identity, fewer.identity, other.identity, longer.identity}) == 4
    assert load_pair("nano").identity == pair.identity
