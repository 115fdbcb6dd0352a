"""The text that a language model reads to estimate another, and how its answer is read (arXiv 2601.22323).

Two forms of the prompt: the *released* one has the headings, labels and order that the published weights were
trained on (the sentences under them are ours); the *short* one says the same to models with little context.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stepwise.errors import ConfigError

Form = Literal["released", "short"]
TASK = "Task: predict how a language model will do on a question before it answers."
REQUIREMENTS = (
    "Requirements: compare the question with the examples, then say if the answer will be correct and how "
    "many tokens it takes."
)
MARKER = "Predicted Performance:"
BLANK = f"{MARKER} {{len: [integer], correct: [yes/no]}}"
FORMAT = f"Output format:\nAnalysis: [your analysis]\n{BLANK}"
RELEASED = """\
### Task
You predict how well an AI model performs. You are given a target question, {count} anchor questions with \
the target model's results on them, and the name of the target model. Reason about them, then predict for \
the target question how long the model's output is and whether it is correct.

### Target Model
{model}

{examples}### Target Question
{question}

### Prediction Requirements
1. **Analyze Anchor Patterns**: look at what the model did on the similar questions
2. **Assess Question Difficulty**: weigh what kind of question the target is and how complex
3. **Compare with Anchors**: relate the target to the anchors and their results
4. **Predict Performance**: conclude the output length and the correctness

### Output Format (STRICT)
Analysis: [Your analysis of the anchors, the target question, and your reasoning. Keep under 800 words.]
{blank}

### Important Notes
- Base the analysis on the anchors; their results are your points of reference
- Consider what is particular about the target question
- Put no symbols such as ** or __ around "Analysis:" or "Predicted Performance:"
- Keep exactly to the format above

### Output:"""
MOST_TOKENS = 10_000_000
"""A longer answer than this is no estimate."""
MARK = re.compile(r"predicted[ _]+performance", re.IGNORECASE)
LABEL = re.compile(r"analysis[*_`\s]*:[*_`\s]*", re.IGNORECASE)
MARKUP = str.maketrans("", "", "*`[](){}\"'#")
BLOCK = re.compile(
    r"[\s:_]*len(?:gth)?_*\s*[:=]\s*([0-9]{1,3}(?:[,_ ][0-9]{3})+(?![0-9])|[0-9]+)(?:\s*tokens)?"
    r"\s*[,;]?\s*correct(?:ness)?_*\s*[:=]\s*(yes|no)\b(?!\s*/)",
    re.IGNORECASE,
)


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
    """What a model did on an anchor, as the prompt shows it; ``tokens`` is the answer's length."""
    return f"{{len: {tokens}, correct: {'yes' if correct else 'no'}}}"


def ask(question: str, model: str, examples: Sequence[Example], form: Form = "short") -> str:
    """The prompt: task, target model, examples, target question, requirements, output format.

    Raises:
        ConfigError: if there is no such form.
    """
    if form not in ("released", "short"):
        raise ConfigError(f"form must be released or short, not {form!r}.")
    blocks = [
        f"Example {i}:\nQuestion: {shown.question}\nPerformance: {performance(shown.correct, shown.tokens)}"
        for i, shown in enumerate(examples, 1)
    ]
    if form == "released":
        listed = "".join(f"{block}\n\n" for block in blocks)
        return RELEASED.format(
            count=len(blocks), model=model, examples=listed, question=question, blank=BLANK
        )
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
    """The *last* ``Predicted Performance`` block; None if there is none or it is malformed.

    Markup around labels and values (bold, backticks, brackets, quotes) and thousands separators are
    tolerated, as in the released parser. That one takes the first ``len:`` and ``correct:`` of the whole
    text, which are an example's where the analysis quotes one.
    """
    marks = list(MARK.finditer(text))
    match = BLOCK.match(text[marks[-1].end() :].translate(MARKUP)) if marks else None
    if not match:
        return None
    digits = re.sub("[^0-9]", "", match[1])
    if len(digits) > len(str(MOST_TOKENS)) or not 0 < int(digits) <= MOST_TOKENS:
        return None
    before = text[: marks[-1].start()]
    label = LABEL.search(before)
    analysis = before[label.end() :].strip(" *_`#\n") if label else ""
    return Answer(match[2].lower() == "yes", int(digits), analysis)
