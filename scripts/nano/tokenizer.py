"""The nano models' tokenizer."""

from __future__ import annotations

import itertools

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from scripts.nano.data import PROMPT
from stepwise.data.nano.problems import problems
from stepwise.data.nano.story import BRIDGE

PAIRS_OF_DIGITS = r" ?\d{1,2}(?=(?:\d{2})*(?!\d))"
NAME_HAS = r" ?\p{L}+ has(?!\p{L})"
REST = (r"\n", r" ?\p{L}+", r" ?[^\s\p{L}\d]+")


def train_tokenizer(
    vocab_size: int, sample_size: int, seed: int, superwords: bool = True
) -> PreTrainedTokenizerFast:
    """A byte-level BPE with newlines on their own and numbers cut in pairs of digits from the right.

    With ``superwords`` a name and its "has" may form one token (tokens across spaces: Liu et al. 2025,
    SuperBPE, arXiv 2503.13423): then looking up what a person has is plain induction, one token to the next.
    """
    pieces = (PAIRS_OF_DIGITS, *([NAME_HAS] if superwords else []), *REST)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex("|".join(pieces)), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    sample = itertools.islice(problems("train", seed, BRIDGE), sample_size)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((PROMPT.format(question=p.question) + p.solution for p in sample), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=AddedToken("<s>", special=True),
        eos_token=AddedToken("</s>", special=True),
        clean_up_tokenization_spaces=False,
    )
