"""Replay: backends that answer from a recording, so that a router is tried without models.

A prompt's tokens were not recorded, their number was: a problem is a prompt of so many placeholders, and the
engine counts what it sends as it would on the live models. Models must share a tokenizer. Problems come out
of the recording, by id, or out of their data set, with their questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from stepwise.engine.backend import Completion, Lost, Sampling, only_read, unaccounted
from stepwise.engine.cost import CostModel, Flops
from stepwise.engine.engine import Engine
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import BackendError, ConfigError, RouterError
from stepwise.recording.folder import Recording
from stepwise.recording.records import question_hash
from stepwise.recording.tree import Tree
from stepwise.types import Problem, Signals, Usage


class NotRecorded(BackendError):
    """A chain left the recording: nobody knows what the model would have written there."""


CONTEXT = 1_000_000
"""Tokens: the models that were recorded had less, and what they did not write is not recorded."""


NOBODY = "unknown"
"""The answer of a chain that left the recording, where it is not to fail: no right one."""
UNKNOWN = "no recorded answer is right"
"""In the place of the gold answer of a problem that no recorded chain has solved."""


@dataclass(frozen=True, slots=True)
class RecordedProblem(Problem):
    """A problem without its data set: models know it by its id, and whoever reads its question is refused,
    since a recording holds none.

    Attributes:
        question: never set.
        dataset: that has it, as the recording names it.
    """

    question: str = field(init=False, repr=False, compare=False)
    dataset: str = field(default="", kw_only=True)

    @property
    def asked(self) -> str:
        return self.id

    def __getattr__(self, name: str) -> str:
        """Of what is not set.

        Raises:
            RouterError: if that is the question.
        """
        if name != "question":
            raise AttributeError(f"a recorded problem has no {name!r}.")
        known = self.dataset or "its data set"
        raise RouterError(
            f"a recording holds no questions; pass dataset={known} for a router that reads them "
            f"(stepwise bench: --dataset {known}; in Python: the problems of that data set)."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the question, which pickling would read."""
        return partial(RecordedProblem, self.id, self.answer, dataset=self.dataset), ()


def replay_engine(
    recording: Recording, *, preamble: bool = True, cost: CostModel | None = None, bounded: bool = False
) -> Engine:
    """An engine over the models of a recording, by their recorded steps.

    Args:
        preamble: charge each chain for reading what all prompts begin with; False where a server's prefix
            cache holds it for all of them.
        cost: FLOPs unless given.
        bounded: a step that is not recorded ends the chain without an answer, and takes what the most
            expensive model's whole chain took. Otherwise it fails.
    """
    about, tree = recording.about, recording.tree
    prompted = next(iter(tree.questions.values())).prompt if tree.questions else {}
    models = {name: model for name, model in about["models"].items() if name in prompted}
    unread = {name: 0 if preamble else about["shared"][name] for name in models}
    backends = {
        name: ReplayBackend(tree, name, model["weights"], model["parameters"], unread[name], bounded)
        for name, model in models.items()
    }
    sizes = {name: model["parameters"] for name, model in models.items()}
    return Engine(
        backends,
        prompt="{question}",
        rule=StepRule(
            about["separator"],
            about["max_step_tokens"],
            about["max_steps"],
            max_tokens=about.get("max_tokens"),
            sentences_after=about.get("sentences_after"),
        ),
        cost=cost or Flops(sizes),
        stops={name: model["stop"] for name, model in models.items() if model["stop"]},
    )


def problems(recording: Recording, split: str) -> list[Problem]:
    """The recorded problems of a split, without their questions. A model's right answer stands for the gold
    answer."""
    tree, dataset = recording.tree, str(recording.about.get("dataset", ""))
    return [
        RecordedProblem(name, tree.right_answer(name) or UNKNOWN, dataset=dataset)
        for name, question in tree.questions.items()
        if question.split == split
    ]


def recorded(tree: Tree, problem: Problem, split: str) -> bool:
    """Whether a data set's problem is a recorded one.

    Raises:
        ConfigError: if the recorded problem of that id asks something else.
    """
    question = tree.questions.get(problem.id)
    if question is None or question.split != split:
        return False
    if question.hash != question_hash(problem.question):
        raise ConfigError(f"dataset: problem {problem.id!r} does not ask what the recorded one asks.")
    return True


class ReplayBackend:
    """Answers as a model did, from the recorded tree.

    Args:
        model: its name in the recording.
        revision, parameters: as a backend's.
        unread: tokens at the beginning of every prompt that are left out.
        bounded: see `replay_engine`.
    """

    context = CONTEXT
    reads = True

    def __init__(
        self, tree: Tree, model: str, revision: str, parameters: int, unread: int = 0, bounded: bool = False
    ) -> None:
        self.revision = revision
        self.tokenizer = "recorded"
        self.parameters = parameters
        self._tree = tree
        self._model = model
        self._unread = unread
        self._bounded = bounded
        self._numbers = {name: number for number, name in enumerate(tree.questions, 1)}
        self._names = list(tree.questions)
        self._hashes = {question.hash: name for name, question in tree.questions.items()}

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        """The prompt of the problem with this id or this question: as many placeholders as it had tokens.

        Raises:
            NotRecorded: if there is no such problem.
        """
        problem = text if text in self._numbers else self._hashes.get(question_hash(text), "")
        if not problem or not first:
            raise NotRecorded(f"{text[:60]!r} is no recorded problem.")
        return (-self._numbers[problem],) * self._length(problem)

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        problem = self._names[-prefix[0] - 1]
        chain = tuple(prefix[self._length(problem) :])
        if sampling.read:
            known, does = self._tree.reading(problem, self._model, chain, sampling.read), "thinks of"
        else:
            known, does = (
                self._tree.completion(problem, self._model, chain, sampling.max_tokens),
                "writes after",
            )
        if known is None and self._bounded:
            known = self._bound(problem, sampling)
        if known is None:
            raise NotRecorded(f"{problem}: what {self._model} {does} {len(chain)} tokens is not recorded.")
        usage = replace(known.usage, prompt=len(prefix), cached=len(prefix))  # without what is left unread
        return replace(known, usage=usage)

    def _bound(self, problem: str, sampling: Sampling) -> Completion:
        """The worst that may stand for what is not recorded: nothing is written, at the price of a whole
        chain. What a model would have thought of a draft is nothing, too."""
        if sampling.read:
            return only_read(Usage(), Signals(length=sampling.read))
        whole = max(
            sum(chain.tokens.values())
            for (name, router, _), chain in self._tree.chains.items()
            if name == problem and router in self._tree.questions[problem].prompt
        )
        return Completion(f"\\boxed{{{NOBODY}}}", (), Usage(discarded=whole), Signals(length=1), "end")

    def _length(self, problem: str) -> int:
        return self._tree.questions[problem].prompt[self._model] - self._unread

    async def close(self) -> None:
        """Nothing to free."""
