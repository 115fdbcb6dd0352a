"""Routers under observation: drawn decisions, shadows, feedback, and a report on their log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from rich.console import Console

from stepwise.calibration import OnlineThreshold
from stepwise.cli.main import main
from stepwise.errors import ConfigError
from stepwise.evaluation.logged.chains import read_log
from stepwise.evaluation.logged.weighed import usable
from stepwise.gateway import Keys, Spending
from stepwise.gateway.decisions import Decisions
from stepwise.gateway.keys import Tenant, digest
from stepwise.report.logged import show_log
from stepwise.routers import Confidence, ThresholdRouter
from tests.stepwise.gateway.serving import CONFIDENCE, app_of, chat, client

QUESTIONS = [f"{i % 9 + 1} 7 {3 * i % 9 + 1}" for i in range(12)]


async def answers(
    app: FastAPI, model: str = "stepwise", questions: list[str] = QUESTIONS
) -> list[dict[str, Any]]:
    async with app.router.lifespan_context(app), client(app) as http:
        bodies = [chat(question, model) for question in questions]
        return [(await http.post("/v1/chat/completions", json=body)).json() for body in bodies]


def text(answer: Mapping[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


async def test_a_shadow_answers_as_its_model_does_and_logs_what_the_router_wanted(tmp_path: Path) -> None:
    path = tmp_path / "log" / "decisions.jsonl"
    fixed = await answers(app_of(), "stepwise:large")
    routed = await answers(app_of())
    watched = await answers(app_of(decisions=Decisions(path, shadow="large")))
    assert [text(answer) for answer in watched] == [text(answer) for answer in fixed]
    costs = [[answer["stepwise"]["cost"] for answer in group] for group in (watched, fixed)]
    assert costs[0] == costs[1]  # nobody pays for what the router looked at
    chains = read_log(path)
    assert len(usable(chains)) == len(QUESTIONS) and {chain.shadow for chain in chains} == {"large"}
    wanted = {step.decided.wanted for chain in chains for step in chain.steps if step.decided}
    assert wanted == {"small", "large"} and "+" not in path.read_text()
    for chain, answer in zip(sorted(chains, key=lambda chain: chain.time), routed, strict=True):
        if all(step.decided and step.decided.wanted == "large" for step in chain.steps):
            assert chain.cost < answer["stepwise"]["cost"]  # the same steps, and drafts


async def test_what_looking_takes_in_a_shadow_is_what_it_takes_on_the_way(tmp_path: Path) -> None:
    every = ThresholdRouter(Confidence("min"), -1.0, "every")  # drafts, and never takes one
    path = tmp_path / "decisions.jsonl"
    (routed,) = await answers(app_of(router=every), questions=["7 8 9 6"])
    await answers(app_of(router=every, decisions=Decisions(path, shadow="large")), questions=["7 8 9 6"])
    (chain,) = read_log(path)
    assert chain.cost + sum(step.looking for step in chain.steps) == pytest.approx(routed["stepwise"]["cost"])


async def test_explored_decisions_are_logged_with_their_chances(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    routed = await answers(app_of(decisions=Decisions(path, explore=0.5)))
    chains = read_log(path)
    assert [chain.cost for chain in chains] == [answer["stepwise"]["cost"] for answer in routed]
    drawn = [
        step for chain in chains for step in chain.steps if step.decided and step.model != step.decided.wanted
    ]
    assert drawn and all(step.decided and step.decided.chances[step.model] == 0.25 for step in drawn)
    reasons = [step["reason"] for answer in routed for step in answer["choices"][0]["stepwise"]["steps"]]
    assert sum(reason.startswith("drawn at random, 0.25") for reason in reasons) == len(drawn)


async def test_a_model_that_is_named_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    plain = await answers(app_of(), "stepwise:small")
    for decisions in (Decisions(path, shadow="large"), Decisions(path, explore=1.0)):
        named = await answers(app_of(decisions=decisions), "stepwise:small")
        assert [text(answer) for answer in named] == [text(answer) for answer in plain]
    assert path.read_bytes() == b""


async def test_a_shadow_does_not_teach_the_threshold(tmp_path: Path) -> None:
    from stepwise import load_router
    from stepwise.routers import PolicyRouter

    router = load_router("nano-ppo", budget=0.4)
    assert isinstance(router, PolicyRouter) and router.artifact.record is not None
    spending = Spending(OnlineThreshold(router.artifact.record, 0.4))
    decisions = Decisions(tmp_path / "decisions.jsonl", shadow="large")
    await answers(app_of(router=router, spending=spending, decisions=decisions))
    assert spending.online is not None and spending.online.state()["count"] == 0
    assert len(usable(read_log(tmp_path / "decisions.jsonl"))) == len(QUESTIONS)


async def test_feedback_reaches_the_log_of_ones_own_answers(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    keys = Keys([Tenant(name, digest(name * 20)) for name in "ab"])
    app = app_of(keys=keys, decisions=Decisions(path, explore=0.5))
    mine, other = ({"Authorization": f"Bearer {name * 20}"} for name in "ab")
    async with app.router.lifespan_context(app), client(app) as http:
        answer = (await http.post("/v1/chat/completions", json=chat("1 2", n=2), headers=mine)).json()
        given = {"id": answer["id"], "index": 1, "correct": True}
        assert (await http.post("/v1/feedback", json=given, headers=mine)).status_code == 204
        for body, who, status in (
            (given, other, 404),
            ({**given, "id": "chatcmpl-unknown"}, mine, 404),
            ({**given, "correct": 2}, mine, 400),
            ({**given, "index": -1}, mine, 400),
            ({"id": answer["id"]}, mine, 400),
        ):
            refused = await http.post("/v1/feedback", json=body, headers=who)
            assert refused.status_code == status, refused.text
    assert [chain.correct for chain in sorted(read_log(path), key=lambda chain: chain.id)] == [None, 1.0]


async def test_feedback_has_no_place_without_a_log() -> None:
    async with client(app_of()) as http:
        assert (await http.post("/v1/feedback", json={"id": "x", "correct": True})).status_code == 404


async def test_a_full_disk_takes_no_answer_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decisions = Decisions(Path("/dev/full"), explore=0.5)
    said: list[dict[str, Any]] = []
    monkeypatch.setattr("stepwise.gateway.decisions.log", lambda event, **fields: said.append(fields))
    routed = await answers(app_of(decisions=decisions))
    assert all(text(answer) for answer in routed)
    assert "/dev/full cannot be written: No space left on device" in said[0]["error"]
    with pytest.raises(ConfigError, match="decisions: /proc/none/log cannot be written"):
        Decisions(Path("/proc/none/log"))


async def test_questions_are_in_the_log_only_where_they_may_be(tmp_path: Path) -> None:
    for allowed in (False, True):
        path = tmp_path / f"{allowed}.jsonl"
        await answers(
            app_of(decisions=Decisions(path, explore=0.1), log_prompts=allowed), questions=["1 2 3"]
        )
        assert ("1 2 3" in path.read_text()) == allowed


def report(*options: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["report", *options]) == 0
    return " ".join(capsys.readouterr().out.split())


async def test_the_report_of_a_shadow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "decisions.jsonl"
    await answers(app_of(decisions=Decisions(path, shadow="large")))
    said = report("--logged", str(path), capsys=capsys)
    assert "12 chains; 0 more are left aside" in said
    assert "large answered for" in said and "the router would have saved" in said
    assert "No answer has been judged." in said
    labels = tmp_path / "labels.jsonl"
    lines = [{"type": "label", "id": chain.id, "correct": 1} for chain in read_log(path)]
    labels.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "Its accuracy lies between" in report(
        "--logged", str(path), "--labels", str(labels), capsys=capsys
    )


async def test_the_report_on_another_router(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "decisions.jsonl"
    await answers(app_of(decisions=Decisions(path, explore=0.5)))
    few = report("--logged", str(path), "--router", "confidence", "--threshold", "0.5", capsys=capsys)
    assert "cannot say" in few and "fewer than 100" in few
    chains = [chain for chain in read_log(path) for _ in range(60)]
    console = Console(width=200, record=True)
    show_log(chains, CONFIDENCE, console)
    assert "doubly robust" in console.export_text()
    for options, message in (
        (["--logged", str(path)], "name the --router"),
        ([], "give either folders of evaluations, or --logged LOG"),
        (["x", "--logged", str(path)], "give either folders of evaluations, or --logged LOG"),
        (["--logged", "missing.jsonl", "--router", "large"], "missing.jsonl cannot be read"),
    ):
        assert main(["report", *options]) == 2
        assert message in capsys.readouterr().err


def test_a_shadow_that_is_no_model_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "0", "--shadow", "medium"]) == 2
    assert "shadow must be one of small, large, not 'medium'" in capsys.readouterr().err
    assert main(["serve", "--port", "0", "--explore", "2"]) == 2
    assert "explore must lie in [0, 1], not 2" in capsys.readouterr().err
