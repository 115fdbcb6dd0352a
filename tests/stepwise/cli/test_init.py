"""From two servers to a pair file that works."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from stepwise import load_pair
from stepwise.cli.init import parameters
from stepwise.cli.main import main
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
        assert "tells no log-probabilities" in out
        pair = load_pair(file)
        assert [model.name for model in pair.models] == ["small", "large"]
        assert (
            await asyncio.to_thread(main, ["init", "--small", server.url, "--output", str(tmp_path / "b")])
            == 2
        )
        assert "it serves m, small, large" in capsys.readouterr().err


def test_no_server_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def nobody() -> list[Any]:
        return []

    monkeypatch.setattr("stepwise.cli.init.local_models", nobody)
    assert main(["init", "--output", str(tmp_path / "pair.yaml")]) == 2
    assert "no server of models answers on this machine" in capsys.readouterr().err
