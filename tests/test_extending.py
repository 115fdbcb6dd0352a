"""The page on extending stepwise says what is true: its code is run, and does what it says."""

from __future__ import annotations

import asyncio
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from scripts.evaluate import settings_of
from stepwise import Engine, Model, Pair, Problem
from stepwise.backends.options import _installed
from stepwise.engine.cost import Tokens
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import ConfigError
from stepwise.models.files import read_pair
from stepwise.routers import Always, Confidence, ThresholdRouter, features
from stepwise.routers.own import own_router
from stepwise.scope import AnchorSet, Scope
from stepwise.types import Signals, Step, Trace
from tests.stepwise.scope import worlds as scope_worlds
from tests.worlds import engine, problem, writers

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
SECTIONS = {part.split("\n")[0]: part for part in PAGE.split("\n## ")[1:]}


def code(section: str, language: str = "python") -> str:
    return "".join(re.findall(rf"```{language}\n(.*?)```", SECTIONS[section], re.S))


def run(section: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": __name__}
    exec(compile(code(section), section, "exec", dont_inherit=True), names)
    return names


def test_a_backend_is_about_sixty_lines() -> None:
    assert len(code("A backend").splitlines()) <= 65


def test_the_backend_works_through_an_installed_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_package.py").write_text(code("A backend"))
    info = tmp_path / "echo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: echo\nVersion: 1.0\n")
    declared = tomllib.loads(code("A backend", "toml"))["project"]["entry-points"]["stepwise.backends"]
    lines = [f"{name} = {value}" for name, value in declared.items()]
    (info / "entry_points.txt").write_text("\n".join(["[stepwise.backends]", *lines]))
    monkeypatch.syspath_prepend(str(tmp_path))
    _installed.cache_clear()
    try:
        file = tmp_path / "pair.yaml"
        file.write_text(
            'name: echoes\nprompt: "{question}\\n"\nmodels:\n'
            '  - {name: m, parameters: 1, backend: {name: echo, answer: "The answer is 7."}}\n'
        )
        pair = read_pair(file)
        assert pair.engine().solve_sync("3 + 4?", Always("m")).answer == "7"
        assert isinstance(pair, Pair) and isinstance(pair.models[0], Model)
    finally:
        _installed.cache_clear()


async def test_the_backend_reports_what_a_cancelled_call_took() -> None:
    backend = run("A backend")["EchoBackend"]("m", "The answer is 4.")
    world = Engine({"m": backend}, prompt="{question}\n", rule=StepRule(), cost=Tokens())
    solution = world.solve(Problem("p", "2 + 2?"), Always("m"))
    task = asyncio.ensure_future(solution.finish())
    for _ in range(6):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert solution.trace is not None
    usage = solution.trace.usage["m"]
    assert usage.prompt == len("2 + 2?\n") and 0 < usage.discarded < len("The answer is 4.")


def test_the_feature_is_observed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "FEATURES", dict(features.FEATURES))
    run("A feature")
    names = features.expand(["signals", "draft_short"])
    step = Step("ab\n", (1, 2, 3), "small", {}, Signals(-0.1, -0.2, length=3))
    seen = features.observe(Trace(problem(1), draft=step), "small", "large", names)
    assert seen[-1] == pytest.approx(3 / 8) and features.bounds(names)[1][-1] == 1.0
    assert "draft_short" in features.table(names)
    with pytest.raises(ConfigError, match="'draft_short' is declared already"):
        run("A feature")


def test_the_router_routes() -> None:
    router = run("A router")["ShortDrafts"]
    assert writers(engine().solve_sync(problem(1, 2), router(limit=100))) == {"small"}
    assert writers(engine().solve_sync(problem(1, 2), router(limit=1))) == {"large"}


def test_the_scorer_is_a_router_in_a_file_and_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_numbers.py").write_text(code("A router"))
    monkeypatch.syspath_prepend(str(tmp_path))
    file = next(text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.S) if "scorer:" in text)
    cheap, *_, dear = reversed(settings_of([OmegaConf.create(file)]))
    assert {contender.router.name for contender in (cheap, dear)} == {"numbers"}
    assert writers(engine().solve_sync(problem(1, 2), cheap.router)) == {"small"}
    assert writers(engine().solve_sync(problem(1, 2), dear.router)) == {"large"}
    typed = own_router("my_numbers:NumbersDoubt", 1.0, ["small", "large"])
    assert typed == replace(dear.router, name="NumbersDoubt")  # type: ignore[type-var]


def test_the_estimator_estimates() -> None:
    anchors = AnchorSet(scope_worlds.problems(40))
    store = scope_worlds.store(anchors)
    scope = Scope(anchors=anchors, fingerprints=store, estimator=run("An estimator")["NearestAnchor"]())
    for place in range(3):
        for estimate in scope.estimate(anchors.questions[place]):
            outcome = store.get(estimate.model).correct[place]
            assert estimate.p_correct == pytest.approx(0.99 if outcome else 0.01)


def test_what_a_router_sees_is_there() -> None:
    trace = engine().solve_sync(problem(1, 7), ThresholdRouter(Confidence(), 0.5, "confidence"))
    trace = replace(trace, draft=trace.steps[1].draft)
    names = re.findall(r"^\| (`trace.*?) \|", SECTIONS["A router"], re.M)
    assert len(names) == 8
    for line in names:
        whole, *more = re.findall(r"`(.*?)`", line)
        values = [
            whole.replace("[i]", "[1]"),
            *(whole.rpartition(".")[0].replace("[i]", "[1]") + m for m in more),
        ]
        for value in values:
            eval(value, {"trace": trace})  # raises where there is no such thing
    for name in re.findall(r"`\.(\w+)`", next(line for line in PAGE.splitlines() if "mean_logprob" in line)):
        assert hasattr(trace.steps[0].signals, name) or hasattr(trace.steps[0], name)
