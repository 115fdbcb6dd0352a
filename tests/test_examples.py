"""The examples run, and print the numbers that they promise."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

from docs.hooks import on_page_markdown
from stepwise import load_pair, load_router
from stepwise.gateway import create_app
from stepwise.routers import Confidence, ThresholdRouter
from stepwise.routers.features import GROUPS, table
from tests.servers import free_port
from tests.stepwise.backends.chat_server import chat, upstream
from tests.stepwise.backends.test_turns import by_model, call
from tests.stepwise.gateway.serving import serving

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
PROMISED = re.compile(r"# ```text\n(.*?)# ```", re.S)


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "tutorials").glob("*.md")), ids=lambda page: page.stem
)
def test_a_tutorial_s_page_leads_to_its_text_and_the_site_shows_it(page: Path) -> None:
    stub = page.read_text(encoding="utf-8")
    first = stub.splitlines()[0]
    links = re.findall(r"\]\(([^)#]+)", first)
    assert links[0].endswith(".py") and all((page.parent / link).is_file() for link in links)
    shown = on_page_markdown(stub)
    assert shown.startswith("# ") and "In a checkout the text" not in shown
    assert "This page is the program" in shown and "This page is the program" not in stub
    paragraphs = [part for part in shown.split("\n\n") if part]
    assert len(paragraphs) == len(set(paragraphs)), "nothing is said twice"


def test_the_page_on_training_has_a_table_of_every_feature() -> None:
    shown = on_page_markdown((ROOT / "docs" / "training.md").read_text(encoding="utf-8"))
    assert all(table(feature.name for feature in group) in shown for group in GROUPS.values())


def printed(name: str, *arguments: str, **environment: str) -> list[str]:
    """The lines that an example prints, run as its text says."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"examples.{name}", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=600, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def promised(name: str) -> list[str]:
    """The lines that an example says it prints."""
    [block] = PROMISED.findall((EXAMPLES / f"{name}.py").read_text())
    return [line.removeprefix("#").removeprefix(" ") for line in block.splitlines()]


@pytest.mark.parametrize(
    "name", ["own_dataset", "guarantee", "paper_table", "scope_from_table", "my_backend"]
)
def test_it_prints_what_it_promises(name: str) -> None:
    lines = printed(name)
    assert [line for line in promised(name) if line not in lines] == []


def test_openenv_s_client_plays_the_recording() -> None:
    pytest.importorskip("openenv")
    assert printed("openenv_server") == promised("openenv_server")


def test_an_openenv_server_shows_the_draft_and_refuses_a_model_that_there_is_not() -> None:
    pytest.importorskip("openenv")
    from examples.openenv_server import Choice, Routing

    env = Routing()
    first = env.reset(problem=0)
    assert first.draft and not first.steps and first.correct is None and not first.done
    second = env.step(Choice(model="small"))
    assert second.steps == [f"[small] {first.draft}"] and env.state.step_count == 1
    with pytest.raises(ValueError, match="model must be one of small, large, not 'huge'"):
        env.step(Choice(model="huge"))


def test_the_idea_fits_in_a_hundred_lines_and_prints_what_it_promises() -> None:
    source = (EXAMPLES / "minimal.py").read_text()
    assert len(source.splitlines()) <= 110
    lines = [line.split(", last chain")[0] for line in printed("minimal")]
    assert lines == re.findall(r"^    (\w.*cost \d+%)$", source, re.M)


@pytest.mark.parametrize("name", ["own_pair", "own_dataset"])
def test_its_notebook_is_the_same(name: str) -> None:
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    program: Any = jupytext.read(EXAMPLES / f"{name}.py")
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in program.cells
    ]


def test_a_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    notebook = nbformat.read(EXAMPLES / "own_dataset.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    ran = NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [output for cell in ran.cells for output in cell.get("outputs", [])]
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert [line for line in promised("own_dataset") if line not in said.splitlines()] == []


@contextmanager
def vllm_server(model: str, log: Path) -> Iterator[str]:
    """A server of vLLM over one of nano's models, as the tutorial starts it."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--port", str(port)),
        *("--model", f"stepwise/assets/nano/{model}", "--served-model-name", model),
        *("--enforce-eager", "--dtype", "float32", "--enable-prompt-tokens-details"),
    ]
    settings = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("w") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=settings, stdout=said, stderr=said)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def test_a_pair_behind_http_prints_what_it_promises(tmp_path: Path) -> None:
    with vllm_server("small", tmp_path / "small") as small, vllm_server("large", tmp_path / "large") as large:
        for url in (small, large):
            until_healthy(url.removesuffix("/v1"))
        lines = printed("own_pair", SMALL_URL=small, LARGE_URL=large)
    assert [line for line in promised("own_pair") if line not in lines] == []


def until_healthy(url: str) -> None:
    for _ in range(3000):
        with suppress(OSError):
            urllib.request.urlopen(f"{url}/health", timeout=10)
            return
        time.sleep(0.1)
    pytest.fail(f"{url} did not come up")


def test_a_router_of_ones_own_is_scored_on_the_recording_that_ships() -> None:
    shown = printed("my_router")
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown if line.startswith("│")]
    assert [line[2] for line in lines if line[2]] == ["0.8", "1.05", "1.35"]
    accuracy = {line[0]: line[4] for line in lines if line[0] in ("small", "large")}
    assert accuracy == {"small": "22.7%", "large": "44.3%"}  # docs/real_models.md
    assert "leaves the recording in" in " ".join(shown)


def test_a_policy_is_trained_calibrated_and_compared() -> None:
    shutil.rmtree(ROOT / "outputs" / "examples" / "policy", ignore_errors=True)
    lines = printed("train_policy")
    area = {line.split()[0]: float(line.split()[1]) for line in lines if re.match(r"\w+ +\d\.\d+ \(", line)}
    assert area["ppo"] > area["random_query"] + 0.1


def test_a_cluster_gives_the_same_rows() -> None:
    shutil.rmtree(ROOT / "outputs" / "examples" / "cluster", ignore_errors=True)
    assert printed("ray_cluster")[-1].endswith("rows, all the same")


def test_ppo_in_one_file_learns_more_than_any_fixed_rule() -> None:
    from examples.cleanrl_loop import main

    results = main()
    assert results["learned"] > max(results["small"], results["large"], results["random"]) + 0.05


def test_the_openai_client_talks_to_the_gateway() -> None:
    engine = load_pair("nano").engine()
    app = create_app(engine, {"nano-ppo": load_router("nano-ppo", budget=0.4)})
    with serving(app, engine.run) as url:
        lines = printed("openai_client", f"{url}/v1")
    assert lines[0].startswith("models: stepwise")
    shares = {line.split()[0]: line.split()[1] for line in lines if "of large-only:" in line}
    assert 95 < float(shares["stepwise:large"].rstrip("%")) < 110
    assert float(shares["stepwise:small"].rstrip("%")) < 15
    assert "72" in lines[-1]


def test_inspect_scores_what_the_gateway_answers(tmp_path: Path) -> None:
    pytest.importorskip("inspect_ai")
    engine = load_pair("nano").engine()
    app = create_app(engine, {"nano-ppo": load_router("nano-ppo", budget=0.4)})
    with serving(app, engine.run) as url:
        environment = {"STEPWISE_BASE_URL": f"{url}/v1", "STEPWISE_API_KEY": "none"}
        done = subprocess.run(
            [sys.executable, "-m", "inspect_ai", "eval", "examples/inspect_task.py", "--display", "plain",
             "--model", "openai-api/stepwise/stepwise:budget=0.4", "--log-dir", str(tmp_path),
             "--log-format", "json"],
            cwd=ROOT, capture_output=True, text=True, timeout=300, env=os.environ | environment,
        )  # fmt: skip
    engine.run(engine.close())
    assert done.returncode == 0, done.stdout + done.stderr
    [log] = tmp_path.glob("*.json")
    results = json.loads(log.read_text())["results"]
    assert results["completed_samples"] == 20
    assert results["scores"][0]["metrics"]["accuracy"]["value"] == 1.0  # docs/integration.md


async def test_the_agent_uses_its_tool() -> None:
    def upstream_answer(body: dict[str, Any]) -> Any:
        if body["messages"][-1]["role"] == "tool":
            return by_model(*[chat(f"There are {body['messages'][-1]['content']} rolls.")] * 2)(body)
        return by_model(*[call("calculator", '{"left": 96, "operation": "-", "right": 70}')] * 2)(body)

    async with upstream(upstream_answer) as served:
        models = [served.model(name, logprobs=True) for name in ("small", "large")]
        engine = await served.engine(*models)
        app = create_app(engine, {"confidence": ThresholdRouter(Confidence("mean"), 1.0, "confidence")})
        with serving(app, engine.run) as url:
            lines = await asyncio.to_thread(printed, "langchain_agent", f"{url}/v1")
        await asyncio.to_thread(engine.run, engine.close())
    assert lines[0].endswith("= 26.0") and lines[-1] == "There are 26.0 rolls."
