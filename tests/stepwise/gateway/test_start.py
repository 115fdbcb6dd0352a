"""The gateway listens before its models are there, whatever is down."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from stepwise.cli.main import main
from stepwise.gateway.server import Door, note_open_files
from tests.stepwise.cli.test_serve import serve
from tests.stepwise.gateway.serving import app_of


async def test_the_door_answers_for_an_app_that_is_being_built() -> None:
    door = Door()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://gateway") as http:
        early = await http.get("/health")
        refused = await http.get("/v1/models")
        door.app = app_of()
        later = await http.get("/health")
        models = await http.get("/v1/models")
    assert early.status_code == 200 and early.json() == later.json()
    assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["code"] == "starting" and models.status_code == 200


async def test_a_browser_is_shown_a_page_while_models_are_loaded() -> None:
    door = Door()
    browser, script = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}, {"accept": "*/*"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://gateway") as http:
        shown = await http.get("/", headers=browser)
        told = await http.get("/", headers=script)
        called = await http.get("/v1/models", headers=browser)
    assert shown.status_code == 503 and shown.headers["content-type"].startswith("text/html")
    assert "models are being loaded" in shown.text and 'http-equiv="refresh"' in shown.text
    assert shown.headers["cache-control"] == "no-store"
    assert told.json()["error"]["code"] == called.json()["error"]["code"] == "starting"


def pair_file(folder: Path, **model: Any) -> str:
    models = [{"name": name, "parameters": 1, **model} for name in ("small", "large")]
    file = folder / "pair.yaml"
    file.write_text(json.dumps({"name": "mine", "prompt": "{question}\n", "models": models}))
    return str(file)


def test_health_answers_while_every_server_hangs(tmp_path: Path) -> None:
    """They take connections and never answer. The warm-up waits for them, the gateway does not."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        file = pair_file(tmp_path, backend={"name": "chat", "base_url": url})
        options = ("--pair", file, "--router", "large", "--state", str(tmp_path / "state.json"))
        with serve(*options) as (address, process):
            assert httpx.get(f"{address}/health", timeout=60).json()["status"] == "ok"
            assert process.poll() is None


def test_a_model_that_cannot_be_loaded_ends_the_gateway_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = pair_file(tmp_path, path=str(tmp_path / "nothing"))
    state = str(tmp_path / "state.json")
    assert main(["serve", "--pair", file, "--router", "large", "--port", "0", "--state", state]) == 2
    shown = capsys.readouterr().err
    assert "nothing" in shown and shown.count("\n") == 1


@pytest.mark.parametrize("limit, said", [(1024, 0), (500, 1), (-1, 0)])
def test_too_few_open_files_are_said_in_the_log(
    limit: int, said: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("resource.getrlimit", lambda _: (limit, limit))
    monkeypatch.setattr("stepwise.gateway.server.log", lambda event, error: lines.append(error))
    note_open_files(384)
    assert lines == ["the limit is 500, and 384 chains may need 832: ulimit -n 832."] * said
