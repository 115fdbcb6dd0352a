"""Recorded trees in memory: what each model wrote after each prefix, and which answers are right."""

from __future__ import annotations

from collections.abc import Iterable

from stepwise.engine.backend import Completion
from stepwise.recording.records import Chain, Node, Outcome, Question, Read, Record, place


class Tree:
    """The recorded chains of many problems. The first record of a thing counts; others are dropped.

    Attributes:
        questions: by problem.
        chains: by problem, router and threshold.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.questions: dict[str, Question] = {}
        self.chains: dict[tuple[str, str, float | None], Chain] = {}
        self._nodes: dict[tuple[str, str, int], Node] = {}
        self._begun: dict[tuple[str, str, int, int], Node] = {}
        self._reads: dict[tuple[str, str, int, int], Read] = {}
        self._outcomes: dict[tuple[str, str], bool] = {}
        for record in records:
            self.add(record)

    def __len__(self) -> int:
        """Steps."""
        return len(self._nodes)

    @property
    def nodes(self) -> Iterable[Node]:
        return self._nodes.values()

    @property
    def reads(self) -> Iterable[Read]:
        return self._reads.values()

    def add(self, record: Record) -> bool:
        """Whether the record was new."""
        match record:
            case Question():
                return self.questions.setdefault(record.problem, record) is record
            case Outcome():
                key = record.problem, record.answer
                new = key not in self._outcomes
                self._outcomes.setdefault(key, record.correct)
                return new
            case Chain():
                setting = record.problem, record.router, record.threshold
                return self.chains.setdefault(setting, record) is record
            case Read():
                asked = record.problem, record.model, record.prefix, record.tokens
                return self._reads.setdefault(asked, record) is record
            case Node():
                here = record.problem, record.model, record.prefix
                if self._nodes.setdefault(here, record) is not record:
                    return False
                if record.generated > 1 and record.token_ids:
                    self._begun[(*here, record.token_ids[0])] = record
                return True

    def completion(self, problem: str, model: str, chain: tuple[int, ...], tokens: int) -> Completion | None:
        """What a model wrote after a chain, whole or (``tokens`` = 1) its first token; None if that is not
        recorded. The chain's last token may be a probe's."""
        node = self._nodes.get((problem, model, place(chain)))
        if node is not None:
            return node.probe if tokens == 1 else node.completion
        begun = self._begun.get((problem, model, place(chain[:-1]), chain[-1])) if chain else None
        return begun.rest if begun is not None else None

    def reading(self, problem: str, model: str, chain: tuple[int, ...], tokens: int) -> Completion | None:
        """What a model thought of the last so many tokens of a chain; None if that is not recorded."""
        read = self._reads.get((problem, model, place(chain), tokens))
        return None if read is None else read.completion

    def right_answer(self, problem: str) -> str:
        """An answer that is right, as a model gave it; "" if none gave any."""
        right = (answer for (name, answer), correct in self._outcomes.items() if name == problem and correct)
        return next(right, "")

    def correct(self, problem: str, answer: str) -> bool | None:
        """Whether an answer is right; None if no recorded chain came to it."""
        return self._outcomes.get((problem, answer))
