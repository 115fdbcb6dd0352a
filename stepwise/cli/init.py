"""``stepwise init``: from two servers to a pair file, one answer, and the commands that come next."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.prompt import IntPrompt

from stepwise.backends import checkpoint
from stepwise.backends.http.endpoint import Endpoint
from stepwise.backends.http.local import PORTS, Served, local_models, models_of
from stepwise.cli.chain import print_cost, print_step
from stepwise.cli.options import Commands
from stepwise.errors import BackendError, ConfigError
from stepwise.models.files import load_pair
from stepwise.routers.named import named_router
from stepwise.types import Turn

QUESTION = "A baker makes 12 trays of 8 rolls and sells 70 of them. How many rolls are left?"
PROMPT = (
    "{question}\n\nReason step by step in short paragraphs, and end with a line like this one, with the "
    "number that you found: The answer is 42."
)
"""With a number as an example: a letter in its place is copied by small models."""
SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", re.I)


def add_parser(commands: Commands) -> None:
    summary = "write a pair file for two model servers of your own, and test it"
    command = commands.add_parser("init", help=summary, description=summary)
    add = command.add_argument
    add(
        "--small", metavar="URL[#MODEL]", help="the server of the small model (.../v1); looked for by default"
    )
    add(
        "--large", metavar="URL[#MODEL]", help="the server of the large model (.../v1); looked for by default"
    )
    add("--api-key-env", default="", help="environment variable that holds the large model's key")
    add("--output", type=Path, default=Path("pair.yaml"), help="the file to write (default: %(default)s)")
    add("--question", default=QUESTION, help="to try the pair on")
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Choose two models, ask their servers what they can do, write the file, and answer a question.

    Raises:
        ConfigError: if the file is there already, no two models were found, or a server is of no use.
    """
    if options.output.exists():
        raise ConfigError(f"output: {options.output} is there already; name another file.")
    small, large = _chosen(options, console)
    models = [
        asyncio.run(_described("small", small, "", console)),
        asyncio.run(_described("large", large, options.api_key_env, console)),
    ]
    pair = {"name": options.output.stem, "prompt": PROMPT, "separator": "\n\n", "models": models}
    options.output.write_text(yaml.safe_dump(pair, sort_keys=False, allow_unicode=True))
    console.print(f"\nwrote {options.output}\n", markup=False)
    return _tried(options.output, options.question, models, console)


def _chosen(options: argparse.Namespace, console: Console) -> tuple[Served, Served]:
    named = [_named(options, role) for role in ("small", "large")]
    if None not in named:
        return named[0], named[1]  # type: ignore[return-value]
    here = asyncio.run(local_models())
    missing = [role for role, served in zip(("small", "large"), named, strict=True) if served is None]
    if not set(here) - set(named):
        give = " and ".join(f"--{role} URL" for role in missing)
        raise ConfigError(
            f"{' and '.join(missing)}: no {'other ' if here else ''}model server is answering on this "
            f"machine (ports {', '.join(map(str, PORTS))}); start one, or give {give}."
        )
    for number, model in enumerate(here, 1):
        console.print(f"{number}  {model.model}  ({model.base_url})", markup=False, highlight=False)
    small, large = (
        chosen or here[_asked(role, default, len(here), console) - 1]
        for role, chosen, default in zip(("small", "large"), named, (1, len(here)), strict=True)
    )
    return small, large


def _named(options: argparse.Namespace, role: str) -> Served | None:
    """What an option says: a server's only model, or the one behind the ``#``."""
    given = getattr(options, role)
    if given is None:
        return None
    url, _, model = given.partition("#")
    if model:
        return Served(url, model)
    key = options.api_key_env if role == "large" else ""
    try:
        models = asyncio.run(models_of(url, key, timeout_s=30.0))
    except BackendError as error:
        raise ConfigError(f"{role}: {error}") from error
    if len(models) != 1:
        names = ", ".join(served.model for served in models) or "none"
        raise ConfigError(f"{role}: {url} serves {names}; name one as {url}#MODEL.")
    return models[0]


def _asked(role: str, default: int, most: int, console: Console) -> int:
    if not sys.stdin.isatty():
        raise ConfigError(f"{role}: there are {most} models to choose from; name one by --{role} URL#MODEL.")
    choices = [str(number) for number in range(1, most + 1)]
    return IntPrompt.ask(f"the {role} model", choices=choices, default=default, console=console)


async def _described(role: str, model: Served, key: str, console: Console) -> dict[str, Any]:
    """A model's entry in the pair file, by what its server can do."""
    from stepwise.backends.http.probe import examine

    findings = {finding.what: finding for finding in await examine(model.base_url, model.model, key)}
    backend: dict[str, Any] = {"base_url": model.base_url, "served_name": model.model}
    if key:
        backend["api_key_env"] = key
    entry: dict[str, Any] = {"name": role}
    tokens = findings["token ids in both directions"].backend
    if tokens and _has_tokenizer(model.model):
        entry["path"] = model.model
        if tokens == "llama-server":
            backend["base_url"] = _root(model)
        backend = {"name": tokens, **backend}
        if prompt := await _prompt(tokens, model, key):
            entry["prompt"] = prompt
    elif findings["chat"].works:
        options = {"continues": "continues the assistant's message", "logprobs": "log-probabilities of chat"}
        backend = {
            "name": "chat",
            **backend,
            **{name: True for name, what in options.items() if findings[what].works},
        }
    else:
        raise ConfigError(f"{role}: {model.base_url} neither takes token ids nor chats with {model.model}.")
    if size := parameters(model.model):
        entry["parameters"] = size
    console.print(f"{role}: {escape(model.model)}, backend {backend['name']}")
    return entry | {"backend": backend}


async def _prompt(backend: str, model: Served, key: str) -> str | None:
    """`PROMPT` in the model's own chat template; None where none is known, and it is used as it is."""
    from stepwise.backends.chat_template import ChatTemplate  # which needs Jinja, as no other command does

    try:
        if backend == "llama-server":
            return await _applied(model, key)
        template = ChatTemplate(checkpoint.locate(model.model))
        return template.render([Turn("user", PROMPT)])
    except (BackendError, ConfigError):
        return None


def _root(model: Served) -> str:
    """Where llama-server has its own interface, beside OpenAI's."""
    return model.base_url.removesuffix("/").removesuffix("/v1")


async def _applied(model: Served, key: str) -> str | None:
    """By the server, which has the template of its GGUF file."""
    root = Endpoint(_root(model), api_key_env=key, timeout_s=30.0)
    try:
        answer = await root.post("/apply-template", {"messages": [{"role": "user", "content": PROMPT}]})
    finally:
        await root.close()
    prompt = answer.get("prompt") if isinstance(answer, dict) else None
    return prompt if isinstance(prompt, str) and "{question}" in prompt else None


def _has_tokenizer(name: str) -> bool:
    try:
        checkpoint.locate(name)
    except ConfigError:
        return False
    return True


def parameters(name: str) -> int | None:
    """How many parameters a model has by its name: 7B, 0.5b, 270m."""
    sizes = SIZE.findall(name.replace("-", " ").replace("_", " ").replace(":", " ").replace("/", " "))
    if not sizes:
        return None
    number, unit = sizes[-1]
    return round(float(number) * (1e9 if unit.lower() == "b" else 1e6))


def _tried(file: Path, question: str, models: Sequence[dict[str, Any]], console: Console) -> int:
    """One question by the rule that needs no training, or by the small model where that sees nothing."""
    pair = load_pair(file)
    sure = models[0]["backend"]["name"] != "chat" or "logprobs" in models[0]["backend"]
    rule = ("confidence", 1.0) if sure else ("small", None)
    sized = all("parameters" in model for model in models)
    engine = pair.engine(cost="flops" if sized else "tokens")
    trace = engine.solve_sync(question, named_router(rule[0], pair, threshold=rule[1]))
    for step in trace.steps:
        print_step(step, engine, console)
    print_cost(trace, engine, console)
    engine.run(engine.close())
    if not trace.answer:
        why = trace.error or "the chain ended without an answer."
        remedy = "`stepwise doctor --base-url URL` shows what a server can do."
        console.print(f"\n{file} does not answer yet: {why} {remedy}", markup=False, soft_wrap=True)
        return 1
    _next(file, rule[0], sized, console)
    return 0


def _next(file: Path, rule: str, sized: bool, console: Console) -> None:
    knob = "--router confidence --threshold 1.0" if rule == "confidence" else "--router small"
    cost = "" if sized else " --cost tokens"
    if rule == "small":
        console.print("\nThe small model's server tells no log-probabilities: a rule has nothing to go by.")
    console.print("\nNext:")
    for command in (
        f'stepwise solve "YOUR QUESTION" --pair {file} {knob}{cost}',
        f"stepwise chat --pair {file} {knob}{cost}",
        f"stepwise serve --pair {file} {knob}{cost}",
        f"python -m scripts.train pair={file} dataset=YOUR_PROBLEMS.jsonl",
    ):
        console.print(f"  {command}", markup=False, highlight=False, soft_wrap=True)
