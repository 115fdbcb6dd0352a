"""A backend dies under load and comes back: what the gateway's clients see."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import uvicorn
from msgspec.structs import replace

from scripts.bench.load import Tally, load
from stepwise import load_pair, load_router
from stepwise.engine.engine import Engine
from stepwise.gateway import create_app
from stepwise.models.pair import Pair
from stepwise.types import Problem

PATIENCE = {"deadline_s": 2.0, "call_s": 10.0, "first_wait_s": 0.1, "failures": 3, "rest_s": 2.0}
BEFORE, DOWN, AFTER = 15.0, 10.0, 15.0
"""Seconds of load with the server there, with it gone, and after it is back."""
STREAMS = 16


@dataclass
class Server:
    """vLLM's own server with nano's large model, in a process that can be killed."""

    path: str
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it answers."""
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", self.path]
        command += ["--served-model-name", "large", "--port", str(self.port), "--host", "127.0.0.1"]
        command += ["--max-model-len", "512", "--enforce-eager", "--dtype", "float32"]
        little = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"}
        nowhere = subprocess.DEVNULL
        self.process = subprocess.Popen(
            command, env=little, start_new_session=True, stdout=nowhere, stderr=nowhere
        )
        until = time.monotonic() + 180
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("vLLM's server did not start.")
            time.sleep(0.2)

    def kill(self) -> None:
        """With the processes that it has started."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _answers(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False


@dataclass
class Story:
    """When which model wrote a step, and whether it stood in for the other."""

    steps: list[tuple[float, str, bool]] = field(default_factory=list)

    def hear(self, step: dict[str, Any]) -> None:
        self.steps.append((time.monotonic(), step["model"], "takes over" in step["reason"]))


def measure(problems: Sequence[Problem]) -> dict[str, Any]:
    """Kill the large model's server under load, start it again, and count."""
    pair = load_pair("nano")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server, story, times = Server(pair.models[-1].path, port), Story(), dict[str, float]()
    server.start()
    engine = _behind(pair, port)

    def outage() -> None:
        time.sleep(BEFORE)
        server.kill()
        times["killed"] = time.monotonic()
        time.sleep(DOWN)
        server.start()
        times["back"] = time.monotonic()

    try:
        with _serving(engine) as url:
            tally = asyncio.run(_loaded(url, problems, story, outage))
    finally:
        server.kill()
        engine.run(engine.close())
    return _told(tally, story, times)


async def _loaded(url: str, problems: Sequence[Problem], story: Story, outage: Callable[[], None]) -> Tally:
    """Load until a while after the server is back."""
    stopped = asyncio.Event()
    loading = asyncio.create_task(
        load(
            url,
            problems,
            {},
            model="stepwise:threshold=0.5",
            streams=STREAMS,
            stopped=stopped,
            hear=story.hear,
        )
    )
    await asyncio.to_thread(outage)
    await asyncio.sleep(AFTER)
    stopped.set()
    return await loading


def _told(tally: Tally, story: Story, times: dict[str, float]) -> dict[str, Any]:
    killed, back = times["killed"], times["back"]
    by_large = [at for at, model, _ in story.steps if model == "large"]
    recovered = [at for at in by_large if at > back]
    unclean = [error for error in tally.errors if not error.startswith("Refused")]
    return {
        "outage_answers": tally.answers,
        "outage_failed_cleanly": len(tally.errors) - len(unclean),
        "outage_failed_otherwise": len(unclean),
        "outage_first_error": tally.errors[0] if tally.errors else "",
        "steps_taken_over": sum(stood_in for _, _, stood_in in story.steps),
        "large_steps_before": sum(at < killed for at in by_large),
        "large_steps_after": len(recovered),
        "recovered_s": recovered[0] - back if recovered else float("nan"),
    }


def _behind(pair: Pair, port: int) -> Engine:
    """nano with its large model behind HTTP."""
    small, large = pair.select()
    served = {"base_url": f"http://127.0.0.1:{port}/v1", "served_name": "large", "patience": PATIENCE}
    remote = replace(large, backend={"name": "vllm-server", **served})
    return replace(pair, models=(small, remote)).engine(failover=True)


@contextmanager
def _serving(engine: Engine) -> Iterator[str]:
    app = create_app(engine, {"nano-ppo": load_router("nano-ppo", threshold=0.5)})
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=10)
    )
    thread = threading.Thread(target=lambda: engine.run(server.serve([listening])), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listening.close()
