"""The text that a language model reads to estimate another, and how its answer is read (arXiv 2601.22323)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

TASK = "Task: predict how a language model will do on a question before it answers."
REQUIREMENTS = (
    "Requirements: compare the question with the examples, then say if the answer will be correct and how "
    "many tokens it takes."
)
FORMAT = (
    "Output format:\nAnalysis: [your analysis]\nPredicted Performance: {len: [integer], correct: [yes/no]}"
)
BLOCK = re.compile(r"\{\s*len:\s*(\d+)\s*,\s*correct:\s*(yes|no)\s*\}", re.IGNORECASE)
MARKER = "Predicted Performance:"


@dataclass(frozen=True, slots=True)
class Example:
    """An anchor with what the target model did on it."""

    question: str
    correct: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """An estimate as a language model gave it."""

    correct: bool
    tokens: int
    analysis: str


def performance(correct: bool, tokens: int) -> str:
    return f"{{len: {tokens}, correct: {'yes' if correct else 'no'}}}"


def ask(question: str, model: str, examples: Sequence[Example]) -> str:
    """The prompt: task, target model, examples, target question, requirements, output format."""
    blocks = [
        f"Example {i}:\nQuestion: {shown.question}\nPerformance: {performance(shown.correct, shown.tokens)}"
        for i, shown in enumerate(examples, 1)
    ]
    target = f"Target question: {question}"
    return "\n".join([TASK, f"Target model: {model}", *blocks, target, REQUIREMENTS, FORMAT, ""])


def write(analysis: str, correct: bool, tokens: int) -> str:
    """An answer in the asked-for format."""
    return f"Analysis: {analysis}\n{MARKER} {performance(correct, tokens)}"


def seed_of(prompt: str, sample: int, seed: int) -> int:
    """Of one sample; equal seeds for all prompts would let chance fall alike for all of them."""
    digest = hashlib.blake2b(f"{seed} {sample} {prompt}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def read(text: str) -> Answer | None:
    """The *last* ``Predicted Performance`` block; None if there is none or it is malformed."""
    before, marker, block = text.rpartition(MARKER)
    match = BLOCK.match(block.strip()) if marker else None
    if not match or int(match[1]) == 0:
        return None
    return Answer(match[2].lower() == "yes", int(match[1]), before.partition("Analysis:")[2].strip())
