"""``stepwise chat``: a conversation on the terminal, with the knob as a command."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.text import Text

from stepwise import load_pair
from stepwise.cli.chain import print_cost, print_purpose, print_step
from stepwise.cli.options import Commands, add_routing
from stepwise.cli.terminal import plain
from stepwise.cli.waiting import wait_for_servers
from stepwise.engine.engine import Engine, check_question
from stepwise.errors import ConfigError, StepwiseError
from stepwise.models.overrides import with_options
from stepwise.models.pair import Pair
from stepwise.routers.named import named_router, promised
from stepwise.types import Problem, Router, Trace, Turn

HELP = """\
/budget 0.3      at most 30% of what the large model alone would cost
/threshold 1.0   the router's threshold; higher = cheaper
/loss 0.05       at most 5% of all answers lost against the large model
/router NAME     a policy's folder, a model's name, or module:Class; a rule with its threshold: confidence 1.0
/new             forget the conversation
/quit            or Ctrl-D"""
KNOBS = {"/budget": "budget", "/threshold": "threshold", "/loss": "max_accuracy_loss"}


def add_parser(commands: Commands) -> None:
    summary = "a conversation on the terminal: who wrote each step, and what it cost"
    command = commands.add_parser("chat", help=summary, description=f"{summary}. /help lists its commands.")
    add_routing(command)
    command.set_defaults(run=run)


@dataclass(frozen=True)
class Setting:
    """Which router answers, and its knob."""

    router: str
    budget: float | None = None
    threshold: float | None = None
    max_accuracy_loss: float | None = None

    def told(self, command: str, value: str) -> Setting:
        """The setting after a command.

        Raises:
            ConfigError: if it is no command, or not used as one.
        """
        if command == "/router" and value:
            name, _, threshold = value.partition(" ")
            return Setting(name, threshold=_number("/router NAME", threshold) if threshold else None)
        if command not in KNOBS:
            raise ConfigError(f"there is no {command}.")
        knob: dict[str, Any] = {KNOBS[command]: _number(command, value)}
        return Setting(self.router, **knob)

    def shown(self) -> str:
        knobs = {name: getattr(self, name) for name in KNOBS.values()}
        return ", ".join([self.router, *(f"{name} {at:g}" for name, at in knobs.items() if at is not None)])

    def open(self, pair: Pair, unit: str) -> Router:
        """Its router.

        Raises:
            StepwiseError: if there is none.
        """
        return named_router(
            self.router, pair, budget=self.budget, max_accuracy_loss=self.max_accuracy_loss,
            threshold=self.threshold, unit=unit,
        )  # fmt: skip


def run(options: argparse.Namespace, console: Console) -> int:
    """Answer line after line until the input ends.

    Raises:
        StepwiseError: if an option is unusable.
    """
    pair, backend = with_options(load_pair(options.pair), options.backend, options.backend_option)
    setting = Setting(options.router, options.budget, options.threshold, options.max_accuracy_loss)
    router = setting.open(pair, pair.cost_model(options.cost).unit)  # what is wrong with it is said at once
    with console.status("loading the models"):
        engine = pair.engine(backend=backend, cost=options.cost)
    try:
        chat = Chat(pair, engine, console, setting, router)
        chat.greet()
        while (line := _line(console)) is not None:
            chat.hear(line)
            if chat.over:
                break
    finally:
        engine.run(engine.close())
    return 0


def _number(command: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{command} takes a number, not {text!r}.") from None


def _line(console: Console) -> str | None:
    try:
        return console.input("[bold]> [/bold]").strip()
    except EOFError:
        return None


@dataclass
class Chat:
    """A conversation, or one question after another where the models take no conversation."""

    pair: Pair
    engine: Engine
    console: Console
    setting: Setting
    router: Router
    turns: list[Turn] = field(default_factory=list)
    over: bool = False

    def greet(self) -> None:
        kind = "a conversation" if self.pair.conversation else "each line is a question of its own"
        self.console.print(
            f"{self.pair.name}: {', '.join(self.engine.models)}; {kind}. /help lists the commands.",
            markup=False,
        )
        print_purpose(self.pair, self.console)

    def hear(self, line: str) -> None:
        """Do what a line says; what cannot be done is said."""
        command, _, value = line.partition(" ")
        if not line:
            return
        if command in ("/quit", "/exit"):
            self.over = True
        elif command == "/new":
            self.turns.clear()
        elif command.startswith("/"):
            self._set(command, value.strip())
        else:
            self._answer(line)

    def _set(self, command: str, value: str) -> None:
        if command == "/help":
            self.console.print(HELP, markup=False, highlight=False)
            return
        try:
            setting = self.setting.told(command, value)
            self.router, self.setting = setting.open(self.pair, self.engine.cost.unit), setting
        except StepwiseError as error:
            self.console.print(Text(f"{plain(str(error))} /help lists the commands.", style="red"))
            return
        self.console.print(self.setting.shown(), markup=False, highlight=False)

    def _answer(self, line: str) -> None:
        try:
            check_question(line)
            trace = self.engine.run(self._solved(Problem("chat", line, turns=tuple(self.turns))))
        except StepwiseError as error:
            self.console.print(Text(plain(str(error)), style="red"))
            return
        asked = self.setting
        budget = promised(self.router, asked.budget, asked.max_accuracy_loss, asked.threshold)
        print_cost(trace, self.engine, self.console, budget)
        if self.pair.conversation and trace.stop != "error":
            text = "".join(step.text for step in trace.steps)
            self.turns += [Turn("user", line), Turn("assistant", text.strip())]

    async def _solved(self, problem: Problem) -> Trace:
        await wait_for_servers(self.engine, self.console)
        solution = self.engine.solve(problem, self.router)
        async for step in solution:
            print_step(step, self.engine, self.console)
        return await solution
