"""Fresh problems as batches of tokens, without end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from transformers import PreTrainedTokenizerFast

from stepwise.data.nano.problems import NanoProblem, problems
from stepwise.data.nano.story import Mix

PROMPT = "{question}\n"
CHUNK = 4096  # problems drawn at a time; batches are sorted by length within a chunk
SHORT = 5  # steps, the closing line included
IGNORED = -100

Example = tuple[list[int], int]
"""Token ids of a problem with its solution, and the length of the prompt."""


def encode(tokenizer: PreTrainedTokenizerFast, batch: list[NanoProblem]) -> list[Example]:
    prompts = tokenizer([PROMPT.format(question=p.question) for p in batch])["input_ids"]
    solutions = tokenizer([p.solution for p in batch], add_special_tokens=False)["input_ids"]
    eos = tokenizer.eos_token_id
    return [(a + b + [eos], len(a)) for a, b in zip(prompts, solutions, strict=True)]


def batches(
    tokenizer: PreTrainedTokenizerFast, tokens_per_batch: int, mix: Mix, seed: int, short_first: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of (inputs [B, T], targets [B, T]); right-padded, prompt targets ignored.

    The first ``short_first`` problems have few steps: looking a quantity up is learnt much sooner
    where there are few to choose from.
    """
    every = problems("train", seed + 1, mix)
    short = itertools.islice((p for p in every if len(p.steps) <= SHORT), short_first)
    stream = itertools.chain(short, every)
    generator = torch.Generator().manual_seed(seed)
    while True:
        chunk = sorted(encode(tokenizer, list(itertools.islice(stream, CHUNK))), key=lambda e: len(e[0]))
        groups: list[list[Example]] = [[]]
        for example in chunk:
            if (len(groups[-1]) + 1) * len(example[0]) > tokens_per_batch:
                groups.append([])
            groups[-1].append(example)
        for index in torch.randperm(len(groups), generator=generator).tolist():
            yield collate(groups[index])


def collate(group: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(ids) for ids, _ in group) - 1
    inputs = torch.zeros(len(group), width, dtype=torch.long)
    targets = torch.full((len(group), width), IGNORED)
    for row, (ids, prompt) in enumerate(group):
        inputs[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        targets[row, prompt - 1 : len(ids) - 1] = torch.tensor(ids[prompt:])
    return inputs, targets
