"""llama-servers for benchmarks: real processes, which are gone when the benchmark ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from stepwise.errors import StepwiseError

START_S = 180.0


class Served(NamedTuple):
    """A server that runs."""

    url: str
    process: int


@contextmanager
def llama_server(
    binary: str, weights: str, *, slots: int, context: int, options: Sequence[str] = ()
) -> Iterator[Served]:
    """A server of one GGUF file, once it answers.

    Args:
        slots: calls that it works on side by side.
        context: tokens of each slot.
        options: more of its command line: a draft model, for example.

    Raises:
        StepwiseError: if it does not start.
    """
    port = free_port()
    command = [binary, "-m", weights, "--port", str(port), "--host", "127.0.0.1", "-np", str(slots)]
    command += ["-c", str(slots * context), "--cache-ram", "0", "--no-webui", *options]
    nowhere = subprocess.DEVNULL
    try:
        process = subprocess.Popen(command, start_new_session=True, stdout=nowhere, stderr=nowhere)
    except OSError as error:
        raise StepwiseError(f"llama-server: {binary} cannot be run: {error}.") from error
    try:
        wait_for(f"http://127.0.0.1:{port}", process)
        yield Served(f"http://127.0.0.1:{port}", process.pid)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Return once the server is healthy.

    Raises:
        StepwiseError: if its process ends, or it takes too long.
    """
    until = time.monotonic() + START_S
    while not healthy(url):
        if process.poll() is not None or time.monotonic() > until:
            raise StepwiseError(f"llama-server did not start: {' '.join(map(str, process.args))}")  # type: ignore[arg-type]
        time.sleep(0.2)


def healthy(url: str) -> bool:
    try:
        with urlopen(f"{url}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
