"""How often a model writes the right next step, by skill."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from scripts.nano.data import encode
from stepwise.data.nano.problems import NanoProblem


@torch.no_grad()
def step_accuracy(
    model: Any, tokenizer: PreTrainedTokenizerFast, sample: list[NanoProblem]
) -> tuple[dict[str, tuple[int, int]], float]:
    """(right, seen) by skill, and the share of chains with every step right.

    A step is right when greedy decoding after the gold steps before it writes the gold line. All
    steps of a problem are checked in one pass over the gold solution.
    """
    table: dict[str, tuple[int, int]] = {}
    whole = 0
    for problem, (ids, prompt) in zip(sample, encode(tokenizer, sample), strict=True):
        guesses = model(torch.tensor([ids[:-1]], device=model.device)).logits[0].argmax(-1).tolist()
        at, chain = prompt, True
        for step in problem.steps:
            length = len(tokenizer(step.text, add_special_tokens=False)["input_ids"])
            right = guesses[at - 1 : at - 1 + length] == ids[at : at + length]
            hits, seen = table.get(step.skill, (0, 0))
            table[step.skill] = (hits + right, seen + 1)
            at, chain = at + length, chain and right
        whole += chain
    return table, whole / len(sample)
