"""The seam between the engine and whatever runs a model.

A backend continues a prefix of token ids. It knows nothing of steps, chains, routers or costs.

What a call took comes with its completion. Tokens that end up in no completion, because an attempt failed,
was retried or was cancelled, are reported through ``lost`` as soon as they are known. Where no server
counted them they are estimated, and `Usage.estimated` says how many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from stepwise.engine.boundaries import Boundaries
from stepwise.errors import ConfigError, ContextOverflow
from stepwise.types import Finish, Form, Signals, Turn, Usage


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to continue a prefix.

    Attributes:
        max_tokens: at most this many new tokens.
        temperature: 0 is greedy.
        top_p: nucleus mass, in (0, 1].
        seed: of this one call; the same call with the same seed gives the same tokens.
        stop: generation ends with the token that completes one of these strings; the token is
            part of the completion.
        boundaries: where exactly the step ends that is asked for, if it is one; ``stop`` then says the same
            as far as strings can. What is written behind is no part of the completion, and is discarded.
        read: the model writes nothing: it reads the prefix, and the completion's signals are of the last so
            many tokens of it. Only for backends with ``reads``.
        form: of a turn that is written whole, for backends that have ``forms``; the completion's text is then
            the message as JSON. (The prefix says it too, so it is no part of what identifies a call.)

    Raises:
        ConfigError: if a value is out of range.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    boundaries: Boundaries | None = None
    read: int = field(default=0, repr=False)
    form: Form | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature must be a number, at least 0, not {self.temperature}.")
        if not 0.0 < self.top_p <= 1.0:
            raise ConfigError(f"top_p must be more than 0 and at most 1, not {self.top_p}.")

    def call(self, max_tokens: int, seed: int, boundaries: Boundaries | None = None) -> Sampling:
        """The same for one call. (Once a step: `dataclasses.replace` takes four times as long.)"""
        return Sampling(max_tokens, self.temperature, self.top_p, seed, self.stop, boundaries)

    @property
    def ends(self) -> Boundaries:
        """Where the completion ends."""
        return self.boundaries or Boundaries(self.stop)


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote after a prefix, and what it took."""

    text: str
    token_ids: tuple[int, ...]
    usage: Usage
    signals: Signals
    finish: Finish


Wait = Literal["deadline", "restart", "handover"]
WAIT: ContextVar[Wait] = ContextVar("wait", default="deadline")
"""How long a backend goes on trying. In a run, to its deadline. Where somebody waits for the answer, the
same, but only as long as a restart takes if its server cannot be reached. Where another model would take
over, briefly. (It concerns how long one task waits, and no result: so it is in no signature.)"""

TRACE: ContextVar[Mapping[str, str]] = ContextVar("trace", default={})  # noqa: B039 - never written to
"""Headers that tell a server which trace a call belongs to (W3C Trace Context). They concern no result."""

TEXT = "text"
"""The ``tokenizer`` of backends whose state is text: what stands for a token id is a character."""
CHARACTERS = 4
"""A token of a text, where no server has counted."""

Lost = Callable[[Usage], None]
"""Told what an attempt took whose tokens are in no completion; every attempt is told once."""


def unaccounted(usage: Usage) -> None:
    """A `Lost` for callers that keep no account."""


def text_tokens(characters: int) -> int:
    """About how many tokens a text of so many characters has."""
    return -(-characters // CHARACTERS)


def tokens_in(backend: Backend, ids: int) -> int:
    """How many tokens so many ids of a backend are; an estimate where its state is text."""
    return text_tokens(ids) if backend.tokenizer == TEXT else ids


def reads(backend: Backend) -> bool:
    """Whether a backend can tell how likely its model thinks text that it is given (`Sampling.read`)."""
    return bool(getattr(backend, "reads", False))


def only_read(usage: Usage, measured: Signals) -> Completion:
    """What comes of a call that only reads; a token that the server had to write all the same is thrown
    away."""
    return Completion("", (), usage.rejected(), measured, "length")


def room(prefix: Sequence[int], context: int) -> int:
    """How many tokens a context still holds after ``prefix``.

    Raises:
        ContextOverflow: if there are none.
    """
    left = context - len(prefix)
    if left < 1:
        raise ContextOverflow(
            f"the chain has {len(prefix)} tokens, the model's context is {context}; "
            "shorten the question or use a model with a longer context."
        )
    return left


class Backend(Protocol):
    """Runs one model.

    Attributes:
        revision: identifies the weights and the tokenizer; part of every store key.
        tokenizer: identifies the tokenizer; backends that share it exchange token ids.
        parameters: number of parameters of the model.
        context: largest number of tokens, prefix and completion together.
    """

    revision: str
    tokenizer: str
    parameters: int
    context: int

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        """Token ids of a text; where it comes ``first``, with the special tokens that start a sequence."""
        ...

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        """Continue ``prefix``. Cancelling the awaiting task stops the generation, and ``lost`` is told what
        it took before the cancellation goes on.

        The end-of-sequence token counts as generated but is not part of the completion's ids.

        Raises:
            ContextOverflow: if the prefix leaves no room for a token.
            BackendError: if the model cannot be run.
        """
        ...

    async def close(self) -> None:
        """Free the model. Calls in flight fail with `BackendError`."""
        ...


def converse(backend: Backend, turns: Sequence[Turn]) -> tuple[int, ...]:
    """A conversation as a backend's model reads it, up to where its answer begins. Backends that can do that
    have a method ``converse(turns)``.

    Raises:
        ConfigError: if the backend cannot, or its model takes no such conversation.
    """
    render = getattr(backend, "converse", None)
    if render is None:
        raise ConfigError("it has no chat template")
    ids: tuple[int, ...] = render(turns)
    return ids


def forms(backend: Backend) -> bool:
    """Whether a backend can write a turn of a given form (``Sampling.form``)."""
    return bool(getattr(backend, "forms", False))


async def reachable(backend: Backend) -> bool:
    """Whether a model's server can be reached now. Backends with a server have a method ``reachable()``."""
    ask = getattr(backend, "reachable", None)
    return ask is None or bool(await ask())


def restarting(backend: Backend) -> bool:
    """Whether a model's server cannot be reached, as far as is known, for no longer than a restart takes."""
    return bool(getattr(backend, "restarting", False))


class Around:
    """What a backend over another one passes on: who the model is and what it can do."""

    def __init__(self, backend: Backend) -> None:
        self.revision = backend.revision
        self.tokenizer = backend.tokenizer
        self.parameters = backend.parameters
        self.context = backend.context
        self.answer_tokens = getattr(backend, "answer_tokens", 0)
        self.reads = reads(backend)
        self.forms = forms(backend)
        self.backend = backend

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return self.backend.encode(text, first=first)

    def converse(self, turns: Sequence[Turn]) -> tuple[int, ...]:
        return converse(self.backend, turns)

    async def reachable(self) -> bool:
        return await reachable(self.backend)

    @property
    def restarting(self) -> bool:
        return restarting(self.backend)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a generation in progress has added.

    Attributes:
        token_ids: new tokens; the end-of-sequence token is among them.
        logprobs: log-probability of each of them.
        top: for each of them the largest log-probabilities, in falling order (see `signals.measure`).
        finish: how the generation ended, with its last chunk.
    """

    token_ids: tuple[int, ...]
    logprobs: Sequence[float]
    top: Sequence[Sequence[float]]
    finish: Finish | None = None


class Generation(Protocol):
    """A generation that is read while it goes on.

    Attributes:
        prompt: tokens of the prefix, and how many of them the server had cached, known from the first
            chunk on; with every attempt's, where the generation had to be begun anew.
        unread: tokens that were generated and that nobody has read, as far as is known.
    """

    @property
    def prompt(self) -> Usage: ...

    @property
    def unread(self) -> int: ...

    async def read(self, mark: str = "", limit: int = 1) -> Chunk:
        """Wait for what is new. Not to be called again after a chunk with a ``finish``.

        Args:
            mark, limit: the reader has no use for less than a token with ``mark`` in its text, or
                ``limit`` tokens; a backend that gains nothing by waiting may hand over less.

        Raises:
            BackendError: if the model cannot be run.
        """
        ...

    async def stop(self) -> None:
        """End it; then ``prompt`` and ``unread`` are final. Stopping twice is harmless."""
        ...


@runtime_checkable
class StreamingBackend(Backend, Protocol):
    """A backend whose generations can be read while they go on."""

    def begin(self, prefix: Sequence[int], sampling: Sampling) -> Generation:
        """Start continuing ``prefix``, as `generate` would.

        Raises:
            ContextOverflow: if the prefix leaves no room for a token.
        """
        ...

    def text(self, before: Sequence[int], token_ids: Sequence[int]) -> str:
        """What ``token_ids`` add to the text, given a few tokens ``before`` them."""
        ...

    def piece(self, token: int) -> str:
        """The text of one token, good enough to find a separator in a few of them joined."""
        ...
