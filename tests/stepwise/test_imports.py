"""A client of servers: what it imports, and that it works where nothing else is installed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.characters import save_tokenizer
from tests.faulty_server import Server

HEAVY = ("torch", "transformers", "matplotlib", "jinja2", "scipy", "sklearn")
LIST_HEAVY = f"print([name for name in {HEAVY} if sys.modules.get(name)])"
BLOCK_HEAVY = f"for name in {HEAVY}: sys.modules[name] = None"
ONE_LINE = "in a checkout, run pip install -e "


def write_pair(folder: Path, backend: str, base_url: str) -> Path:
    """A pair behind HTTP."""
    options: dict[str, object] = {"name": backend, "base_url": base_url}
    if backend == "chat":
        options |= {"logprobs": True, "continues": True}
    else:
        options |= {"tokenizer": str(save_tokenizer(folder / "tokenizer")), "context": 2000}
    models = [{"name": name, "parameters": 1, "backend": options} for name in ("small", "large")]
    file = folder / "pair.yaml"
    file.write_text(json.dumps({"name": "served", "prompt": "{question}\n", "models": models}))
    return file


def run(*lines: str) -> subprocess.CompletedProcess[str]:
    """A program in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)


def heavy_modules(*lines: str) -> str:
    """The heavy modules that a program has imported."""
    ended = run("import sys", *lines, LIST_HEAVY)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_the_package_and_the_command_line_import_nothing_heavy() -> None:
    assert heavy_modules("import stepwise") == "[]"
    assert heavy_modules("import stepwise.cli.main as command", "command.parser()") == "[]"


@pytest.mark.parametrize("backend", ["chat", "vllm-server"])
def test_a_pair_behind_http_and_a_gateway_over_it_import_nothing_heavy(tmp_path: Path, backend: str) -> None:
    pair = write_pair(tmp_path, backend, "http://127.0.0.1:9/v1")
    program = ["import stepwise", f"engine = stepwise.load_pair({str(pair)!r}).engine()"]
    assert heavy_modules(*program) == "[]"
    program += ["from stepwise.gateway import create_app", "from stepwise.routers import Always"]
    assert heavy_modules(*program, "create_app(engine, {'default': Always('small')})") == "[]"


@pytest.mark.parametrize("backend", ["chat", "vllm-server"])
async def test_a_question_is_solved_where_nothing_heavy_is_installed(tmp_path: Path, backend: str) -> None:
    served = Server(tmp_path / "log.jsonl", 0.0)
    app = web.Application()
    app.router.add_get("/v1/models", served.list_models)
    app.router.add_post("/v1/completions", served.completions)
    app.router.add_post("/v1/chat/completions", served.chat)
    async with TestServer(app) as server:
        pair = write_pair(tmp_path, backend, str(server.make_url("/v1")))
        options = ["--pair", str(pair), "--router", "confidence", "--threshold", "0.5", "--cost", "tokens"]
        arguments = ["solve", "1 2 3", *options]
        program = [
            "import sys",
            BLOCK_HEAVY,
            "from stepwise.cli.main import main",
            f"sys.exit(main({arguments}))",
        ]
        ended = await asyncio.to_thread(run, *program)
    assert ended.returncode == 0, ended.stderr
    assert "answer: 6" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [(["solve", "1 + 1"], "local"), (["demo"], "report"), (["serve"], "gateway")],
)
def test_a_missing_extra_is_one_sentence_that_names_it(
    tmp_path: Path, arguments: list[str], extra: str
) -> None:
    output = {"demo": ["--output", str(tmp_path)], "serve": ["--state", str(tmp_path / "state.json")]}
    command = [*arguments, *output.get(arguments[0], [])]
    program = ["import sys", BLOCK_HEAVY.replace("'scipy', 'sklearn'", "'fastapi'")]
    ended = run(*program, "from stepwise.cli.main import main", f"sys.exit(main({command}))")
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.endswith(f"needs the extra '{extra}'; {ONE_LINE}'.[{extra}]'.\n")
    assert ended.stderr.count("\n") == 1
