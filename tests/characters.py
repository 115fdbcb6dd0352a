"""A Hugging Face tokenizer with a token per printable character, for servers that are not models."""

from __future__ import annotations

import string
from pathlib import Path

VOCABULARY = ["<end>", *string.printable]
"""Token ids are places in it, also for `tests.faulty_server`, which starts without transformers."""


def save_tokenizer(folder: Path) -> Path:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {character: i for i, character in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    return folder
