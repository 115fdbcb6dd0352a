"""The idea in a hundred lines, without stepwise's engine: python -m examples.minimal

A small model drafts each step. If one of the draft's tokens was less likely than e^-THRESHOLD, the draft is
thrown away and a large model writes the step. Both read each other's steps. What it costs is every token
that a model computes, read or written, times its size. It prints, beside who wrote the last chain (s or L):

    large model alone  39 of 40 right, cost 100%
    routed             36 of 40 right, cost 31%
    small model alone  24 of 40 right, cost 7%
"""

from __future__ import annotations

import sys
from importlib.resources import files
from itertools import takewhile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from stepwise import load_dataset
from stepwise.verify import equivalent, extract_answer

MODELS = files("stepwise") / "assets" / "nano"
TOKENIZER = AutoTokenizer.from_pretrained(str(MODELS / "small"))
LINE_END = TOKENIZER.convert_tokens_to_ids("Ċ")
THRESHOLD = 1.0  # nats
MAX_STEPS = 32


class Writer:
    """A model and its key-value cache, which keeps what the model has read of the current chain."""

    def __init__(self, name: str) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(str(MODELS / name), dtype=torch.float32).eval()
        self.size = self.model.num_parameters()
        self.flops = 0
        self.cache = DynamicCache()
        self.read: list[int] = []

    @torch.inference_mode()
    def next_logprobs(self, chain: list[int]) -> torch.Tensor:
        """Reads what it has not read of the chain: log-probabilities of the next token [vocabulary]."""
        shared = sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self.read, chain, strict=False))
        )
        shared = min(shared, len(chain) - 1)
        if forgotten := len(self.read) - shared:
            self.cache.crop(-forgotten)
        unread = torch.tensor([chain[shared:]])
        self.flops += 2 * self.size * unread.numel()
        self.read = list(chain)
        logits: torch.Tensor = self.model(unread, past_key_values=self.cache).logits[0, -1]
        return logits.log_softmax(-1)

    def write_step(self, chain: list[int]) -> tuple[list[int], float]:
        """The step after the chain, up to a line end, and how likely its least likely token was (nats)."""
        step: list[int] = []
        least = 0.0
        while not step or step[-1] not in (LINE_END, TOKENIZER.eos_token_id):
            logprob, token = self.next_logprobs(chain + step).max(-1)
            step.append(int(token))
            least = min(least, float(logprob))
        return step, least


def solve(question: str, small: Writer, large: Writer, threshold: float) -> tuple[str, str]:
    """The chain of thought, and who wrote each of its steps (s or L)."""
    chain = TOKENIZER(question + "\n")["input_ids"]
    start, writers = len(chain), ""
    while chain[-1] != TOKENIZER.eos_token_id and len(writers) < MAX_STEPS:
        step, least = small.write_step(chain)
        rewrite = -least > threshold
        if rewrite:
            step, _ = large.write_step(chain)
        chain = chain + step
        writers += "L" if rewrite else "s"
    return TOKENIZER.decode(chain[start:], skip_special_tokens=True), writers


def main(n: int = 40) -> None:
    problems = load_dataset("nano", split="test", limit=n)
    large_only = None
    for label, threshold in (("large model alone", -1.0), ("routed", THRESHOLD), ("small model alone", 1e9)):
        small, large = Writer("small"), Writer("large")
        right = 0
        for problem in problems:
            text, writers = solve(problem.question, small, large, threshold)
            right += equivalent(extract_answer(text), problem.answer or "")
        flops = large.flops + (small.flops if threshold >= 0 else 0)  # alone, it needs no drafts
        large_only = large_only or flops
        print(f"{label:18} {right} of {n} right, cost {flops / large_only:.0%}, last chain {writers}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
