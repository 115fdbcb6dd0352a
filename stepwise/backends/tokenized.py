"""What backends share that hold a Hugging Face tokenizer: text to token ids and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from stepwise.engine.backend import Sampling
from stepwise.errors import ConfigError
from stepwise.types import Finish


class Tokenized:
    """Encodes and decodes with the ``tokenizer.json`` in a folder, and with nothing else: what
    `checkpoint.tokenizer_id` hashes is what runs, and a client of a server needs no transformers.

    Raises:
        ConfigError: if there is none, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises nothing more special
            raise ConfigError(f"the tokenizer in {folder} could not be loaded: {error}.") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._pieces: dict[int, str] = {}

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=first).ids)

    def text(self, before: Sequence[int], token_ids: Sequence[int]) -> str:
        """What ``token_ids`` add to the text; a character cut in half is left to the next completion."""
        both = [self._tokenizer.decode([*before, *ids]) for ids in ((), token_ids)]
        head, whole = (text.removesuffix("\ufffd") for text in both)
        return whole[len(head) :]

    def cut(self, ids: Sequence[int], finish: Finish, sampling: Sampling) -> tuple[int, Finish]:
        """How many of the tokens that were generated are the completion, and how it ended."""
        return sampling.ends.cut(map(self.piece, ids), finish, sampling.max_tokens)

    def piece(self, token: int) -> str:
        if token not in self._pieces:
            self._pieces[token] = self._tokenizer.decode([token])
        return self._pieces[token]
