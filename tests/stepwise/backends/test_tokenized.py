"""The tokenizer of a checkpoint, read without transformers, does what transformers does with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from stepwise import load_pair
from stepwise.backends.tokenized import Tokenized
from stepwise.errors import ConfigError

FOLDER = Path(load_pair("nano").models[0].path)
OURS = Tokenized(FOLDER)
THEIRS = PreTrainedTokenizerFast.from_pretrained(FOLDER)


@given(st.text(st.characters(codec="utf-8"), max_size=60), st.booleans())
def test_texts_are_encoded_alike(text: str, first: bool) -> None:
    assert list(OURS.encode(text, first=first)) == THEIRS(text, add_special_tokens=first)["input_ids"]


@given(st.lists(st.integers(0, len(THEIRS) - 1), max_size=20))
def test_token_ids_are_decoded_alike(ids: list[int]) -> None:
    plain = THEIRS.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert OURS.text((), ids) == plain.removesuffix("\ufffd")


def test_a_damaged_tokenizer_is_refused_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=f"the tokenizer in {tmp_path} could not be loaded"):
        Tokenized(tmp_path)
    with pytest.raises(ConfigError, match="could not be loaded"):
        Tokenized(tmp_path / "missing")
