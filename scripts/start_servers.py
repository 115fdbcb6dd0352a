"""The vLLM servers of a pair: their commands, the memory they need, and the servers themselves.

python -m scripts.start_servers pair=qwen_math             # prints a command a model
python -m scripts.start_servers pair=qwen_math run=true    # starts them; Ctrl-C ends them
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig

from scripts.program import console, program
from stepwise import Model, Pair
from stepwise.backends.http.chat import Options as ChatOptions
from stepwise.backends.http.completions import Options as CompletionsOptions
from stepwise.errors import ConfigError

GIB = 2**30


@dataclass(frozen=True)
class Server:
    """One model's server: its command and what it takes of the GPU."""

    model: str
    command: tuple[str, ...]
    weights_gib: float
    needs_gib: float


@dataclass
class Servers:
    """The GPU that the servers share, and what to do with their commands."""

    pair: Any = MISSING
    gpu_gib: float = 80.0  # memory of the GPU that the models share
    cache_gib: float = 4.0  # for each model's key-value cache and activations, at least
    run: bool = False  # start the servers instead of printing the commands; Ctrl-C ends them
    options: list[str] = field(default_factory=list)  # more of vLLM's server, e.g. [--enforce-eager]


@program("start_servers", Servers)
def main(cfg: DictConfig) -> None:
    servers = plan(
        instantiate(cfg.pair), gpu_gib=cfg.gpu_gib, cache_gib=cfg.cache_gib, options=list(cfg.options)
    )
    for server in servers:
        print(
            f"# {server.model}: bf16 weights {server.weights_gib:.1f} GiB, "
            f"at least {server.needs_gib:.1f} GiB with its cache"
        )
        print(shlex.join(("python", *server.command)), flush=True)
    if cfg.run:
        serve(servers)


def plan(pair: Pair, *, gpu_gib: float, cache_gib: float, options: Sequence[str] = ()) -> list[Server]:
    """A server for every model that is expected on this machine; the GPU is shared out by need.

    Raises:
        ConfigError: if no model of the pair is served from here, or they do not fit.
    """
    local = [model for model in pair.everyone if _expected_here(model)]
    if not local:
        raise ConfigError(f"pair {pair.name!r} has no model with a base_url on localhost: nothing to serve.")
    weights = [2 * model.size / GIB for model in local]
    needs = [weight * 1.05 + cache_gib for weight in weights]
    if sum(needs) > 0.95 * gpu_gib:
        raise ConfigError(
            f"gpu_gib: {pair.name} needs about {sum(needs):.0f} GiB, more than 95% of {gpu_gib:g}; serve the "
            "models on GPUs of their own (CUDA_VISIBLE_DEVICES) and give each command its own gpu_gib."
        )
    return [
        Server(model.name, _command(model, 0.95 * need / sum(needs), options), weight, need)
        for model, weight, need in zip(local, weights, needs, strict=True)
    ]


def _expected_here(model: Model) -> bool:
    """Whether vLLM would serve it, on this machine."""
    here = _address(model).hostname in ("localhost", "127.0.0.1")
    return here and isinstance(model.options, CompletionsOptions | ChatOptions)


def _command(model: Model, share: float, options: Sequence[str]) -> tuple[str, ...]:
    served, context = _option(model, "served_name"), _option(model, "context")
    port = str(_address(model).port or 8000)
    command = ["-m", "vllm.entrypoints.openai.api_server", "--model", model.path, "--port", port]
    command += ["--served-model-name", served or model.path, "--dtype", "bfloat16"]
    command += ["--max-model-len", str(context)] if context else []
    return (*command, "--gpu-memory-utilization", f"{share:.2f}", "--enable-prefix-caching", *options)


def _address(model: Model) -> SplitResult:
    return urlsplit(_option(model, "base_url") or "")


def _option(model: Model, name: str) -> Any:
    """Of its backend, where that has such an option."""
    return getattr(model.options, name, None)


def serve(servers: Sequence[Server]) -> None:
    """Run the servers until one ends or the user interrupts; none outlives this program."""
    running = [subprocess.Popen([sys.executable, *server.command]) for server in servers]
    try:
        while all(process.poll() is None for process in running):
            for process in running:
                try:
                    process.wait(timeout=1)
                except subprocess.TimeoutExpired:
                    continue
    except KeyboardInterrupt:
        console.print("stopping")
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


if __name__ == "__main__":
    main()
