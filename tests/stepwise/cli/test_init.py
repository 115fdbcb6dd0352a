"""From two servers to a pair file that works."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console

from stepwise import load_pair
from stepwise.backends.http.local import Served
from stepwise.backends.http.probe import Finding
from stepwise.cli.init import PROMPT, _described, parameters
from stepwise.cli.main import main
from stepwise.verify import extract_answer
from tests.stepwise.backends.chat_server import chat, upstream


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("Qwen/Qwen2.5-Math-1.5B-Instruct", 1_500_000_000),
        ("qwen2.5:0.5b", 500_000_000),
        ("gemma-3-270m-it", 270_000_000),
        ("gpt-4.1-mini", None),
        ("Mixtral-8x7B", None),
    ],
)
def test_sizes_are_read_from_names(name: str, size: int | None) -> None:
    assert parameters(name) == size


def test_a_file_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pair.yaml"
    file.write_text("mine")
    assert main(["init", "--output", str(file)]) == 2
    assert "is there already" in capsys.readouterr().err and file.read_text() == "mine"


async def test_two_servers_become_a_pair_that_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        said = chat("He makes 96 rolls.\n\nThe answer is 26.")
        return (
            said | {"model": body["model"]} if "messages" in body else {"error": {"message": "no such path"}}
        )

    file = tmp_path / "pair.yaml"
    async with upstream(answer) as server:
        code = await asyncio.to_thread(
            main,
            [
                "init",
                "--small",
                f"{server.url}#small",
                "--large",
                f"{server.url}#large",
                "--output",
                str(file),
            ],
        )
        out = capsys.readouterr().out
        assert code == 0, out
        assert "answer: 26" in out and f"stepwise serve --pair {file} --router small --cost tokens" in out
        assert f'stepwise solve "YOUR QUESTION" --pair {file} --router small' in out
        assert "tells no log-probabilities" in out
        pair = load_pair(file)
        assert [model.name for model in pair.models] == ["small", "large"]
        assert (
            await asyncio.to_thread(main, ["init", "--small", server.url, "--output", str(tmp_path / "b")])
            == 2
        )
        assert "serves m, small, large; name one as" in capsys.readouterr().err


def test_no_server_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def nobody() -> list[Any]:
        return []

    monkeypatch.setattr("stepwise.cli.init.local_models", nobody)
    assert main(["init", "--output", str(tmp_path / "pair.yaml")]) == 2
    said = capsys.readouterr().err
    assert "small and large: no model server is answering" in said and "--small URL and --large URL." in said


def test_one_server_does_not_stand_for_both_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "http://127.0.0.1:8000/v1"

    async def one() -> list[Served]:
        return [Served(url, "mine")]

    monkeypatch.setattr("stepwise.cli.init.local_models", one)
    assert main(["init", "--small", f"{url}#mine", "--output", str(tmp_path / "pair.yaml")]) == 2
    said = capsys.readouterr().err
    assert "large: no other model server is answering" in said and "or give --large URL." in said


def test_an_address_where_nothing_listens_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
        assert main(["init", "--small", url, "--large", url, "--output", str(tmp_path / "pair.yaml")]) == 2
    said = capsys.readouterr().err
    assert url.removesuffix("/v1") in said and "onnect" in said and "serves none" not in said


async def test_a_llama_server_is_asked_for_token_ids_and_its_own_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own interface at its root, as `doctor` says; the prompt is in the template of its GGUF file."""
    findings = [
        Finding("token ids in both directions", True, "backend llama-server, base_url http://there"),
        Finding("chat", True, "backend chat"),
    ]

    async def examined(*_: Any) -> list[Finding]:
        return findings

    async def applied(request: web.Request) -> web.Response:
        said = (await request.json())["messages"][0]["content"]
        return web.json_response({"prompt": f"<user>{said}<assistant>"})

    monkeypatch.setattr("stepwise.backends.http.probe.examine", examined)
    app = web.Application()
    app.router.add_post("/apply-template", applied)
    (tmp_path / "model-0.5b.gguf").touch()
    async with TestServer(app) as server:
        root = str(server.make_url("")).rstrip("/")
        served = Served(f"{root}/v1", str(tmp_path / "model-0.5b.gguf"))
        entry = await _described("small", served, "", Console(quiet=True))
    assert entry["backend"] == {
        "name": "llama-server", "base_url": root, "served_name": served.model
    }  # fmt: skip
    assert entry["prompt"] == f"<user>{PROMPT}<assistant>" and entry["parameters"] == 500_000_000


async def test_a_pair_that_does_not_answer_is_not_recommended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with upstream(lambda body: chat("Hm.") | {"model": body["model"]}) as server:
        file = str(tmp_path / "pair.yaml")
        command = [
            "init",
            "--small",
            f"{server.url}#small",
            "--large",
            f"{server.url}#large",
            "--output",
            file,
        ]
        assert await asyncio.to_thread(main, command) == 1
    out = capsys.readouterr().out
    assert "does not answer yet" in out and "stepwise doctor" in out and "stepwise serve" not in out


def test_the_prompt_shows_an_answer_that_is_found_and_no_letter_to_copy() -> None:
    assert extract_answer(PROMPT) == "42" and not re.search(r"\b[A-Z]\b|boxed", PROMPT)
