"""What is seen before a training begins."""

from __future__ import annotations

import io
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from scripts.preflight import Preflight, consent, preflight
from stepwise.engine import signals
from stepwise.engine.cost import Tokens
from stepwise.engine.engine import Engine
from stepwise.errors import BackendError, ConfigError
from stepwise.types import Problem, Signals
from tests.worlds import engine, problem

PROBLEMS = [problem(1, 9, 2), problem(3, 1), problem(8, 8, 1, 0)]
QUIET = Console(file=io.StringIO())


def look(world: Engine, problems: list[Problem] = PROBLEMS) -> Preflight:
    return preflight(world, problems, "after_draft", steps=1000)


def test_it_says_what_a_training_may_take() -> None:
    ahead = look(engine())
    assert not ahead.doubts and ahead.calls == 2000
    assert ahead.tokens > 10_000 and ahead.cost > 0 and ahead.hours > 0
    assert "at most 2,000 generations" in str(ahead) and f"{ahead.cost:.3g} FLOPs and" in str(ahead)
    assert "at this pace, 30 minutes;" in str(replace(ahead, hours=0.5))
    assert "at this pace, 2.5 hours;" in str(replace(ahead, hours=2.5))


def test_nothing_to_gain_is_said() -> None:
    ahead = look(engine(hard=99), [problem(*[1] * 20)])
    assert "large-only is right on 100% of 1 problems and small-only on 100%" in ahead.doubts[0]


def test_what_cannot_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="nothing to save in this unit"):
        look(engine(cost=Tokens()))
    with monkeypatch.context() as patch:
        patch.setattr(signals, "measure", lambda logprobs, _: Signals(length=len(logprobs), missing=True))
        with pytest.raises(ConfigError, match="after_draft reads log-probabilities, which model 'small'"):
            look(engine())

    async def down(_: str) -> None:
        raise BackendError("refused the connection.")

    dead = engine()
    dead.backends["large"]._before = down  # type: ignore[attr-defined]
    with pytest.raises(BackendError, match="refused the connection"):
        look(dead)


def test_doubts_need_a_yes_where_nobody_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    sure = Preflight((), 1.0, 1.0, 1.0, 1.0, "FLOPs")
    unsure = replace(sure, doubts=("Nothing to gain.",))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    consent(sure, QUIET, yes=False)
    consent(unsure, QUIET, yes=True)
    with pytest.raises(ConfigError, match="preflight: Nothing to gain. Pass --yes"):
        consent(unsure, QUIET, yes=False)


def test_a_person_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = Preflight((), 1.0, 1.0, 1.0, 1.0, "FLOPs")
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr("builtins.input", lambda _: "y")
    consent(ahead, QUIET, yes=False)
    monkeypatch.setattr("builtins.input", lambda _: "")
    with pytest.raises(ConfigError, match="not confirmed"):
        consent(ahead, QUIET, yes=False)
