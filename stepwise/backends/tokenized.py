"""What backends share that hold a Hugging Face tokenizer: text to token ids and back."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from stepwise.errors import ConfigError

PLAIN = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}


class Tokenized:
    """Encodes and decodes with the tokenizer in a folder.

    Raises:
        ConfigError: if there is none, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        # Not AutoTokenizer: for some model types (Qwen2) it puts its own rules in the place of the file's.
        load = import_module("transformers").PreTrainedTokenizerFast.from_pretrained
        try:
            self._tokenizer: Any = load(folder)
        except (OSError, ValueError) as error:
            raise ConfigError(f"the tokenizer in {folder} could not be loaded: {error}") from error
        self._pieces: dict[int, str] = {}

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=first)["input_ids"])

    def text(self, before: Sequence[int], token_ids: Sequence[int]) -> str:
        """What ``token_ids`` add to the text; a character cut in half is left to the next completion."""
        both = [self._tokenizer.decode([*before, *ids], **PLAIN) for ids in ((), token_ids)]
        head, whole = (str(text).removesuffix("\ufffd") for text in both)
        return whole[len(head) :]

    def piece(self, token: int) -> str:
        if token not in self._pieces:
            self._pieces[token] = self._tokenizer.decode([token], **PLAIN)
        return self._pieces[token]
