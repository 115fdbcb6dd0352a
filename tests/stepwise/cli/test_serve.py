"""``stepwise serve`` as an operator meets it: a process, signals, bad options."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from stepwise import load_dataset, load_pair
from stepwise.cli.main import main

PROBLEMS = load_dataset("nano", limit=24)


@contextmanager
def serve(*options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command in a process of its own, ready to be asked."""
    command = [str(Path(sys.executable).parent / "stepwise"), "serve", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found, process.stderr.read() if process.stderr else ""
        yield found[0], process
    finally:
        process.kill()
        process.wait()


def ask(url: str, question: str) -> httpx.Response:
    body = {"model": "stepwise", "prompt": question}
    return httpx.post(f"{url}/v1/completions", json=body, timeout=60)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
def test_a_stop_finishes_what_is_in_flight_and_keeps_the_state(end: signal.Signals, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with serve("--state", str(state), "--budget", "0.3") as (url, process):
        assert httpx.get(f"{url}/ready", timeout=60).json()["ready"]
        assert "stepwise" in httpx.get(url).text
        with ThreadPoolExecutor(len(PROBLEMS)) as pool:
            asked = [pool.submit(ask, url, problem.question) for problem in PROBLEMS]
            while "stepwise_running_chains 24.0" not in httpx.get(f"{url}/metrics").text:
                assert not all(one.done() for one in asked)
            process.send_signal(end)
            answers = [one.result() for one in asked]
        _, log = process.communicate(timeout=30)
    assert [answer.status_code for answer in answers] == [200] * len(PROBLEMS)
    assert process.returncode == 0
    lines = [json.loads(line) for line in log.splitlines()]
    chains = [line for line in lines if line["event"] == "chain"]
    assert len(chains) == len(PROBLEMS) and all(line["outcome"] == "finished" for line in chains)
    assert PROBLEMS[0].question[:20] not in log
    kept = json.loads(state.read_text())
    assert kept["online"]["count"] == len(PROBLEMS) and kept["online"]["target"] == 0.3
    assert kept["spent"]["anyone"] == pytest.approx(sum(line["cost"] for line in chains))


def test_a_second_server_on_a_state_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = str(tmp_path / "state.json")
    with serve("--state", state):
        assert main(["serve", "--port", "0", "--state", state]) == 2
    shown = capsys.readouterr().err
    assert "belongs to a server that runs; pass another --state" in shown and shown.count("\n") == 1


def test_a_pair_of_ones_own_is_served_and_streamed_token_by_token(tmp_path: Path) -> None:
    small, _, large = load_pair("nano").models
    models = [{"name": "tiny", "path": small.path}, {"name": "big", "path": large.path}]
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps({"name": "mine", "prompt": "{question}\n", "models": models}))
    rule = ("--pair", str(file), "--router", "confidence", "--threshold", "0.01")
    with serve(*rule, "--state", str(tmp_path / "state.json")) as (url, _):
        whole = ask(url, PROBLEMS[0].question).json()["choices"][0]
        body = {"model": "stepwise", "prompt": PROBLEMS[0].question, "stream": True}
        lines = httpx.post(f"{url}/v1/completions", json=body, timeout=60).text.splitlines()
        refused = httpx.post(f"{url}/v1/completions", json={**body, "model": "stepwise:budget=0.3"})
    chunks = [json.loads(line[6:])["choices"][0] for line in lines if line.startswith("data: {")]
    assert "".join(chunk["text"] for chunk in chunks) == whole["text"]
    writers = [step["model"] for step in whole["stepwise"]["steps"]]
    assert set(writers) == {"tiny", "big"}
    pieces = [chunk for chunk in chunks if chunk["text"] and chunk["stepwise"]["model"] == "big"]
    assert len(pieces) > 3 * writers.count("big")
    assert refused.status_code == 400 and "not calibrated" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--host", "0.0.0.0"], "host 0.0.0.0 can be reached from other machines, and there are no keys"),
        (["--host", "::"], "can be reached from other machines"),
        (["--host", "nowhere.invalid", "--insecure"], "nowhere.invalid:8700 cannot be bound"),
        (["--port", "123456"], "port must lie between 0 and 65535, not 123456"),
        (["--keys", "missing.toml"], "keys: missing.toml cannot be read"),
        (["--key-env", "NOT_SET_AT_ALL"], "NOT_SET_AT_ALL must hold a key"),
        (["--budget", "0.01"], "budget 0.01 cannot be promised"),
        (["--router", "oracle"], "router must be one of nano-ppo"),
        (["--anchors", "anchors.json"], "anchors and fingerprints: pass both"),
        (["--anchors", "anchors.json", "--fingerprints", "f.db"], "anchors.json"),
        (["--pair", "mega"], "pair must be nano or the path"),
        (["--concurrency", "0"], "concurrency must be more than 0"),
        (["--max-tokens", "0"], "tokens must be more than 0"),
        (["--timeout", "0"], "seconds must be more than 0"),
        (["--router", "scope"], "router 'scope' needs --anchors and --fingerprints"),
        (["--alpha", "0.5"], "alpha: the router 'nano-ppo' has none; use scope or seeded"),
        (
            ["--router", "seeded", "--anchors", "a", "--fingerprints", "f", "--alpha", "2"],
            "alpha must lie in [0, 1], not 2",
        ),
        (
            ["--router", "scope", "--anchors", "a", "--fingerprints", "f", "--budget", "0.4"],
            "budget: the router 'scope' takes an alpha",
        ),
        (["--alias", "gpt-4o"], "alias must be NAME=MODEL, gpt-4o=stepwise for example, not 'gpt-4o'"),
        (["--alias", "=stepwise"], "alias must be NAME=MODEL"),
        (["--alias", "gpt-4o=gpt-5"], "alias 'gpt-4o': there is no model 'gpt-5' here"),
        (["--state", "/dev/null/state.json"], "state: /dev/null/state.json cannot be"),
    ],
)
def test_bad_options_are_one_sentence_and_exit_code_2(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    state = [] if "--state" in options else ["--state", str(tmp_path / "state.json")]
    assert main(["serve", *state, *options]) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1


def test_a_port_that_is_taken_is_said_before_models_load(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("models are loaded")

    monkeypatch.setattr("stepwise.models.pair.Pair.engine", load)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--port", port, "--state", str(tmp_path / "state.json")]) == 2
    assert "cannot be bound" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['fastapi'] = None; "
        "from stepwise.cli.main import main; sys.exit(main(['serve']))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == (
        "stepwise: the gateway needs the extra 'gateway'; in a checkout, run pip install -e '.[gateway]'.\n"
    )
