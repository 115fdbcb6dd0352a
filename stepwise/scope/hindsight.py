"""Rationales written in hindsight: why a model did on a question what it is known to have done.

They are what an estimator is first trained on (SCOPE, arXiv 2601.22323, stage 1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from statistics import mean
from typing import Protocol

from stepwise.engine.backend import Backend, Sampling
from stepwise.scope.prompt import Example, ask, performance


class Teacher(Protocol):
    """Writes one rationale per case (question, model, examples, correct, tokens)."""

    def explain(self, cases: Sequence[Case]) -> list[str]: ...


Case = tuple[str, str, Sequence[Example], bool, int]


class TemplateTeacher:
    """Fills in a sentence, where no model is at hand to write one."""

    def explain(self, cases: Sequence[Case]) -> list[str]:
        return [self._explain(*case) for case in cases]

    def _explain(
        self, question: str, model: str, examples: Sequence[Example], correct: bool, tokens: int
    ) -> str:
        right = sum(example.correct for example in examples)
        usual = mean(example.tokens for example in examples) if examples else tokens
        length = "longer" if tokens > 1.15 * usual else "shorter" if tokens < 0.87 * usual else "as long"
        verdict = "easy enough" if correct else "too hard"
        return f"{right} of {len(examples)} right. This one is {length} and {verdict}."


class ModelTeacher:
    """Asks a language model.

    Args:
        backend: runs it.
        template: chat template around the request, with ``{prompt}``.
    """

    def __init__(self, backend: Backend, *, template: str = "{prompt}", max_tokens: int = 160) -> None:
        self._backend, self._template, self._max = backend, template, max_tokens

    def explain(self, cases: Sequence[Case]) -> list[str]:
        async def every() -> list[str]:
            return list(await asyncio.gather(*(self._explain(*case) for case in cases)))

        return asyncio.run(every())

    async def _explain(
        self, question: str, model: str, examples: Sequence[Example], correct: bool, tokens: int
    ) -> str:
        request = (
            f"{ask(question, model, examples)}\nWhat really happened: {performance(correct, tokens)}. Write "
            "the analysis, two sentences at most, that leads there from the examples and the question. Do "
            "not say that you know the outcome.\nAnalysis:"
        )
        prompt = self._backend.encode(self._template.replace("{prompt}", request))
        written = await self._backend.generate(prompt, Sampling(self._max, stop=("\n",)))
        return written.text.strip()
