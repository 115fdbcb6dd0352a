"""What a recording holds: one kind of record a table. No text of a question or of a gold answer is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from stepwise.engine.backend import Completion, only_read
from stepwise.engine.prefix import Prefix
from stepwise.types import Finish, Signals, Usage, normalised


class Question(msgspec.Struct, frozen=True, tag="question"):
    """A problem whose chains are recorded.

    Attributes:
        problem: its id in the data set.
        split: of the data set.
        hash: of the normalised question, to tell whether a data set's problem is this one.
        prompt: by model, tokens of the prompt with the question.
    """

    problem: str
    split: str
    hash: str
    prompt: dict[str, int]


class Node(msgspec.Struct, frozen=True, tag="node"):
    """One step that a model wrote after one prefix.

    Attributes:
        prefix: digest of the chain's tokens between the prompt and this step.
        opening: characters of its first token.
        sent: tokens of the prompt and the chain before it.
        generated: tokens that it took, the end of the answer included.
        discarded: tokens that were written behind its end.
        missing: the model gave no probabilities.
    """

    problem: str
    model: str
    prefix: int
    text: str
    token_ids: tuple[int, ...]
    opening: int
    finish: Finish
    sent: int
    generated: int
    mean_logprob: float
    min_logprob: float
    first_entropy: float
    margin: float
    discarded: int = 0
    missing: bool = False

    @classmethod
    def of(cls, problem: str, model: str, prefix: int, step: Completion, opening: int) -> Node:
        """A completion as a record."""
        signals = step.signals
        return cls(
            problem, model, prefix, step.text, step.token_ids, opening, step.finish,
            step.usage.prompt, step.usage.completion,
            signals.mean_logprob, signals.min_logprob, signals.first_entropy, signals.margin,
            step.usage.discarded, signals.missing,
        )  # fmt: skip

    @property
    def completion(self) -> Completion:
        """What the model answered; its whole prompt counts as cached, as with `stepwise.store`."""
        usage = Usage(self.sent, self.sent, self.generated, self.discarded)
        return Completion(self.text, self.token_ids, usage, self._signals(self.generated), self.finish)

    @property
    def probe(self) -> Completion:
        """Its first token alone. What was recorded of the whole step stands for the token's own
        log-probability, which was not; the entropy is the token's."""
        if self.generated == 1:
            return self.completion
        usage = Usage(self.sent, self.sent, 1)
        text = self.text[: self.opening]
        return Completion(text, self.token_ids[:1], usage, self._signals(1), "length")

    @property
    def rest(self) -> Completion:
        """What follows the first token."""
        usage = Usage(self.sent + 1, self.sent + 1, self.generated - 1, self.discarded)
        signals = self._signals(self.generated - 1)
        return Completion(self.text[self.opening :], self.token_ids[1:], usage, signals, self.finish)

    def _signals(self, length: int) -> Signals:
        return Signals(
            self.mean_logprob, self.min_logprob, self.first_entropy, self.margin, length, self.missing
        )


class Read(msgspec.Struct, frozen=True, tag="read"):
    """What one model thought of tokens that it read, and did not write.

    Attributes:
        prefix: digest of the chain's tokens after the prompt, those that it was asked about at the end.
        tokens: how many it was asked about.
        sent: tokens of the prompt and the chain, in all.
    """

    problem: str
    model: str
    prefix: int
    tokens: int
    sent: int
    mean_logprob: float
    min_logprob: float
    first_entropy: float
    margin: float
    missing: bool = False

    @classmethod
    def of(cls, problem: str, model: str, prefix: int, read: Completion) -> Read:
        """What came of a call that only reads."""
        signals = read.signals
        return cls(
            problem, model, prefix, signals.length, read.usage.prompt,
            signals.mean_logprob, signals.min_logprob, signals.first_entropy, signals.margin, signals.missing,
        )  # fmt: skip

    @property
    def completion(self) -> Completion:
        """The same call, with its whole prompt cached; what a server wrote because it must is left out."""
        measured = Signals(
            self.mean_logprob, self.min_logprob, self.first_entropy, self.margin, self.tokens, self.missing
        )
        return only_read(Usage(self.sent, self.sent), measured)


class Outcome(msgspec.Struct, frozen=True, tag="outcome"):
    """Whether an answer that some chain came to is right."""

    problem: str
    answer: str
    correct: bool


class Chain(msgspec.Struct, frozen=True, tag="chain"):
    """A chain that was recorded whole: who wrote it, how it ended, and what it came to."""

    problem: str
    router: str
    threshold: float | None
    stop: str
    answer: str
    correct: bool
    steps: int
    tokens: dict[str, int]


Record = Question | Node | Read | Outcome | Chain
TABLES: dict[str, type[Question] | type[Node] | type[Read] | type[Outcome] | type[Chain]] = {
    "questions": Question,
    "nodes": Node,
    "reads": Read,
    "outcomes": Outcome,
    "chains": Chain,
}


def place(token_ids: Sequence[int]) -> int:
    """Digest of a chain's tokens after the prompt: where in the tree its next step hangs."""
    return int.from_bytes(Prefix(token_ids).digest()[:8], "little", signed=True)


def question_hash(question: str) -> str:
    """Of the question's normalised text (16 hexadecimal digits)."""
    return hashlib.blake2b(normalised(question).encode(errors="surrogatepass"), digest_size=8).hexdigest()
