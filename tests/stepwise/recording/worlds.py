"""Scripted models whose chains are recorded and replayed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from stepwise.engine.engine import Engine
from stepwise.recording.folder import Recording
from stepwise.recording.recorder import Prompts, Recorder
from stepwise.recording.records import Question, question_hash
from stepwise.recording.replay import ReplayBackend
from stepwise.recording.tree import Tree
from tests import worlds

ABOUT = {"pair": "adders", "prompt": "{question}\n"}
PROBLEMS = [worlds.problem(i, 7, 3 * i % 10, i // 2) for i in range(10)]


def open_recording(folder: Path) -> Recording:
    return Recording(folder, ABOUT)


def recording_engine(recording: Recording) -> tuple[Engine, dict[str, Recorder]]:
    """The adders of `tests.worlds`, recorded; with their backends, to see what was generated."""
    prompts = Prompts()
    backends = {
        name: Recorder(worlds.adder(5 if name == "small" else None), name, prompts, recording, 64)
        for name in worlds.SIZES
    }
    for problem in PROBLEMS:
        lengths = {}
        for name, backend in backends.items():
            prompt = backend.encode(f"{problem.question}\n")
            prompts.add(prompt, problem.id)
            lengths[name] = len(prompt)
        recording.add(Question(problem.id, "test", question_hash(problem.question), lengths))
    return over(backends), backends


def replay_engine(tree: Tree) -> Engine:
    return over(
        {name: ReplayBackend(tree, name, name, size) for name, size in worlds.SIZES.items()},
        prompt="{question}",
    )


def over(backends: dict[str, Recorder] | dict[str, ReplayBackend], prompt: str = "{question}\n") -> Engine:
    usual = worlds.engine()
    return Engine(backends, prompt=prompt, rule=usual.rule, cost=usual.cost)


class Killed:
    """A recording whose process dies, without any clean-up, once it has taken so many records."""

    def __init__(self, recording: Recording, after: int) -> None:
        self._add, self._left = recording.add, after

    def __call__(self, record: object) -> None:
        self._add(record)  # type: ignore[arg-type]
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)
