"""What docs/integration.md shows works as it stands there, and the dashboard asks for what there is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from stepwise import load_dataset, load_pair, load_router
from stepwise.backends.http.breaker import Breaker
from stepwise.calibration import OnlineThreshold
from stepwise.gateway import Spending, create_app
from stepwise.gateway.knob import record_of
from tests.stepwise.gateway.serving import app_of, chat, client, serving
from tests.worlds import engine

DOCS = Path(__file__).parents[3] / "docs"
TOLD = (DOCS / "integration.md").read_text()
SECTIONS = {part.split("\n")[0]: part for part in TOLD.split("\n## ")[1:]}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    world = load_pair("nano").engine()
    with serving(create_app(world, {"nano-ppo": load_router("nano-ppo", budget=0.4)})) as url:
        yield url
    world.run(world.close())


@pytest.mark.parametrize("section", ["The openai client", "LangChain", "The Responses API", "As a library"])
def test_the_examples_run(section: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", SECTIONS[section], re.S)
    assert blocks
    for block in blocks:
        exec(block.replace("http://127.0.0.1:8700", url), {})
        assert "The answer is 72." in capsys.readouterr().out


def test_the_example_is_answered_rightly_at_every_budget_that_is_shown(url: str) -> None:
    (question,) = set(re.findall(r'"(Ben planted [^"]*)"', TOLD))
    budgets = sorted(set(re.findall(r"budget(?:=|\": )(0\.\d+)", TOLD)))
    assert len(budgets) > 1
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as user:
        for model in ("stepwise", *(f"stepwise:budget={budget}" for budget in budgets)):
            answer = user.chat.completions.create(
                model=model, messages=[{"role": "user", "content": question}]
            )
            assert "The answer is 72." in str(answer.choices[0].message.content), model


@pytest.mark.slow
def test_lm_eval_runs_a_task_of_one_s_own_by_both_interfaces(url: str, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    section = SECTIONS["lm-evaluation-harness"]
    [commands], [task] = (re.findall(rf"```{kind}\n(.*?)```", section, re.S) for kind in ("sh", "yaml"))
    (tmp_path / "sums.yaml").write_text(task)
    problems = load_dataset("nano", split="test", limit=100)
    rows = [json.dumps({"question": each.question, "answer": each.answer}) for each in problems]
    (tmp_path / "problems.jsonl").write_text("\n".join(rows))
    for told, here in {
        "lm-eval run": f"{sys.executable} -m lm_eval run --include_path .",
        "TASK": "sums",
        "http://127.0.0.1:8700": url,
    }.items():
        assert told in commands
        commands = commands.replace(told, here)
    done = subprocess.run(
        ["bash", "-ec", commands], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.findall(r"exact_match\|[^|]*\|\s*([\d.]+)", done.stdout) == ["0.95", "0.95"]


def test_every_code_that_is_listed_exists() -> None:
    sources = "".join(path.read_text() for path in (DOCS.parent / "stepwise" / "gateway").glob("*.py"))
    listed = re.findall(
        r"`([a-z_]+)`", "".join(re.findall(r"^\| \d.*$", SECTIONS["What is supported"], re.M))
    )
    assert len(listed) > 10
    for code in listed:
        assert f'"{code}"' in sources, code


async def test_the_dashboard_shows_what_is_measured() -> None:
    policy = load_router("nano-ppo", budget=0.4)
    world = engine()
    world.backends["large"].breaker = Breaker(failures=3, rest_s=1.0)  # type: ignore[attr-defined]
    spending = Spending(OnlineThreshold(record_of(policy), 0.4))
    async with client(app_of(world, policy, spending=spending)) as http:
        await http.post("/v1/chat/completions", json=chat("1 7"))
        await http.post("/v1/chat/completions", json=chat("1", "nothing"))
        measured = set(re.findall(r"^(stepwise_\w+)", (await http.get("/metrics")).text, re.M))
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for one in panel["targets"]
        for name in re.findall(r"stepwise_\w+", one["expr"])
    }
    assert len(asked) > 12 and asked <= measured
