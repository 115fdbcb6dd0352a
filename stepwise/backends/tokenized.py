"""What backends share that hold a Hugging Face tokenizer: text to token ids and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from stepwise.backends import gguf
from stepwise.engine import signals
from stepwise.engine.backend import Completion, Sampling
from stepwise.engine.lookahead import OVERLAP
from stepwise.errors import ConfigError
from stepwise.types import Finish, Turn, Usage

if TYPE_CHECKING:
    from stepwise.backends.chat_template import ChatTemplate


class Tokenized:
    """Encodes and decodes with the ``tokenizer.json`` in a folder, and with nothing else: what
    `checkpoint.tokenizer_id` hashes is what runs, and a client of a server needs no transformers. (Only the
    tokenizer in a GGUF file is read by them.)

    Raises:
        ConfigError: if there is none, or it is damaged.
    """

    def __init__(self, place: Path) -> None:
        self._tokenizer = gguf.tokenizer(place) if place.is_file() else _load(place)
        self._folder = place
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._pieces: dict[int, str] = {}

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=first).ids)

    def converse(self, turns: Sequence[Turn]) -> tuple[int, ...]:
        """A conversation by the checkpoint's chat template, which writes the special tokens itself."""
        return self.encode(self._chat_template.render(turns), first=False)

    @cached_property
    def _chat_template(self) -> ChatTemplate:
        from stepwise.backends.chat_template import ChatTemplate  # only conversations need Jinja

        return ChatTemplate(self._folder)

    def text(self, before: Sequence[int], token_ids: Sequence[int]) -> str:
        """What ``token_ids`` add to the text; a character cut in half is left to the next completion."""
        both = [self._tokenizer.decode([*before, *ids]) for ids in ((), token_ids)]
        head, whole = (text.removesuffix("\ufffd") for text in both)
        return whole[len(head) :]

    def completion(
        self,
        prefix: Sequence[int],
        sampling: Sampling,
        generated: tuple[int, ...],
        finish: Finish,
        usage: Usage,
        logprobs: Sequence[float],
        top: Sequence[Sequence[float]],
    ) -> Completion:
        """What was generated as far as it belongs to the completion; the rest is discarded.

        Args:
            prefix: what it continues.
            sampling: says where it ends.
            generated: ids of the tokens, that which ends the answer among them.
            finish: how the generation ended.
            usage: what it took.
            logprobs: of the tokens.
            top: log-probabilities of the likeliest tokens at each.
        """
        written = generated[:-1] if finish == "end" else generated
        pieces = map(self.piece, written)
        count, ended = sampling.ends.cut(pieces, finish, sampling.max_tokens)
        ids, kept = written[:count], count + (ended == "end")
        measured = signals.measure(logprobs[:kept], top[:kept])
        text = self.text(prefix[-OVERLAP:], ids)
        return Completion(text, ids, usage.discard(usage.completion - kept), measured, ended)

    def piece(self, token: int) -> str:
        if token not in self._pieces:
            self._pieces[token] = self._tokenizer.decode([token])
        return self._pieces[token]


def _load(folder: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises nothing more special
        raise ConfigError(f"the tokenizer in {folder} could not be loaded: {error}.") from error
