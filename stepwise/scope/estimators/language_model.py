"""A language model as the estimator, in SCOPE's format: the published 4B weights, or any other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from stepwise.engine.backend import Backend, Sampling
from stepwise.engine.concurrency import run
from stepwise.errors import BackendError, ConfigError
from stepwise.scope.estimators.base import Array, Beliefs, Charge, Rows, free, row_mean, sigmoid, spread
from stepwise.scope.estimators.mean import sigmoid_of
from stepwise.scope.estimators.neighbours import but_oneself
from stepwise.scope.known import Compared, Known
from stepwise.scope.prompt import Answer, Example, Form, ask, read, seed_of
from stepwise.types import Usage


@dataclass(frozen=True)
class Counts:
    """Of one or more estimates: samples asked for, samples that could not be read and were dropped, and the
    tokens that it took."""

    asked: int = 0
    dropped: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


class LanguageModel:
    """Reads the nearest anchors with their outcomes, writes an analysis and a prediction (arXiv 2601.22323).

    ``samples`` answers are drawn. The probability is the share of "yes" among those that can be read, shrunk
    toward the model's mean as if that were one more sample; the length is their median. Answers that cannot
    be read are dropped and counted in ``counts``; if none can, the model's mean stands in. The explanation is
    the analysis of the first sample that agrees with the majority.

    Args:
        backend: runs the estimator.
        model: its name, by which its tokens are charged.
        template: chat template around the prompt, with ``{prompt}``.
        form: of the prompt, see `stepwise.scope.prompt`; published weights expect the released one.
        k: anchors that it is shown (5 in the paper).
        samples: 8 or more, with temperature 0.6 to 0.7, on the model card.
        max_tokens: of an answer, 1,536 in the released code.
        concurrency: answers in flight.
    """

    name = "language_model"

    def __init__(
        self,
        backend: Backend,
        *,
        model: str = "estimator",
        template: str = "{prompt}",
        form: Form = "released",
        k: int = 5,
        samples: int = 8,
        temperature: float = 0.7,
        top_p: float = 0.95,
        max_tokens: int = 1536,
        concurrency: int = 64,
        seed: int = 0,
    ) -> None:
        if "{prompt}" not in template:
            raise ConfigError(f"template must contain {{prompt}}, which {template!r} does not.")
        if k < 0 or samples < 1 or concurrency < 1:
            raise ConfigError("k must be at least 0, samples and concurrency at least 1.")
        self._backend, self._template, self._k, self._samples = backend, template, k, samples
        self._form: Form = form
        self._sampling = Sampling(max_tokens, temperature, top_p, seed=seed)
        self._concurrency = concurrency
        self.asks = (model,)
        self.counts = Counts()

    def __repr__(self) -> str:
        """Identifies what the estimates depend on, as frozen values do."""
        how = (self._backend.revision, self._template, self._form, self._k, self._samples, self._sampling)
        return f"LanguageModel({self.asks[0]}, {how})"

    def fit(self, known: Known) -> Self:
        """Keep what is known, to show it in prompts; no weights change."""
        self._known = known
        logs = np.log(known.tokens)
        self._value_mean = sigmoid_of(row_mean(known.value, 0.5))
        self._log_mean = row_mean(logs, float(np.nanmean(logs)))
        self._quantiles = spread(logs, np.broadcast_to(self._log_mean[:, None], logs.shape))
        self._held: Beliefs | None = None
        return self

    def held_out(self) -> Beliefs:
        """Asks about every anchor of every model, once."""
        if self._held is None:
            among, rows = self._known.among, np.arange(len(self._known.models))
            self._held = self._predict(among.questions, but_oneself(among.similarity), rows)
        return self._held

    def predict(self, questions: Compared, models: Rows, charge: Charge = free) -> Beliefs:
        """Ask about every question and model, [models, questions]; what it takes is charged."""
        return self._predict(questions.questions, questions.similarity, models, charge)

    def _predict(
        self, questions: Sequence[str], similarities: Array, rows: Rows, charge: Charge = free
    ) -> Beliefs:
        shown = Examples(self._known, self._k, self._form)
        prompts = [
            ask(question, self._known.models[row], shown(similarities[at], row), self._form)
            for row in rows
            for at, question in enumerate(questions)
        ]
        answers = run(self._ask_all(prompts, charge))
        shape = len(rows), len(questions)
        value, tokens = np.empty(shape), np.empty(shape)
        explanations = [[""] * shape[1] for _ in rows]
        spent: list[list[dict[str, Usage]]] = [[{}] * shape[1] for _ in rows]
        for flat, (readable, usage) in enumerate(answers):
            i, j = divmod(flat, shape[1])
            spent[i][j] = {self.asks[0]: usage}
            mean = self._value_mean[rows[i]]
            value[i, j] = (sum(answer.correct for answer in readable) + mean) / (len(readable) + 1)
            typical = np.exp(self._log_mean[rows[i]])
            tokens[i, j] = np.median([answer.tokens for answer in readable]) if readable else typical
            majority = value[i, j] >= 0.5
            explanations[i][j] = next(
                (answer.analysis for answer in readable if answer.correct == majority), ""
            )
        low, high = np.exp(self._quantiles[rows].T[:, :, None])
        sure = sigmoid(np.log(value / (1 - value)))
        return Beliefs(sure, tokens, tokens * low, tokens * high, explanations, spent)

    async def _ask_all(self, prompts: Sequence[str], charge: Charge) -> list[tuple[list[Answer], Usage]]:
        """What could be read of the samples of each prompt, and the tokens that all of them took. The first
        sample brings the prompt to the server, where the others find it.

        Raises:
            BackendError: if the estimator cannot be run; the other samples are waited for, and charged.
        """
        gate = asyncio.Semaphore(self._concurrency)
        collected: list[dict[int, tuple[Answer | None, Usage]]] = [{} for _ in prompts]

        async def collect(at: int, sample: int) -> None:
            async with gate:
                collected[at][sample] = await self._ask(prompts[at], sample, charge)

        for samples in (range(1), range(1, self._samples)):
            asked = [collect(at, sample) for at in range(len(prompts)) for sample in samples]
            for error in await asyncio.gather(*asked, return_exceptions=True):
                if isinstance(error, BackendError):
                    error.model = self.asks[0]
                if error is not None:
                    raise error
        return [
            ([answer for i in sorted(group) if (answer := group[i][0])], _sum(group.values()))
            for group in collected
        ]

    async def _ask(self, prompt: str, sample: int, charge: Charge) -> tuple[Answer | None, Usage]:
        def lost(usage: Usage) -> None:
            charge(self.asks[0], usage.rejected())

        prefix = self._backend.encode(self._template.replace("{prompt}", prompt))
        seeded = seed_of(prompt, sample, self._sampling.seed)
        sampling = replace(self._sampling, seed=seeded)
        written = await self._backend.generate(prefix, sampling, lost)
        answer = read(written.text)
        # What a server has in its cache counts where this question itself has brought it there.
        usage = written.usage if sample else written.usage.known(0)
        self.counts += Counts(1, answer is None, usage.prompt - usage.cached, usage.completion)
        charge(self.asks[0], usage.rejected())
        return answer, usage.rejected()


@dataclass(frozen=True)
class Examples:
    """The ``k`` nearest anchors that a model has answered: the nearest first in the released prompt, last in
    the short one."""

    known: Known
    k: int
    form: Form

    def __call__(self, similarities: Array, row: int) -> list[Example]:
        """Of the model in a row of what is known; similarities [n], -inf for an anchor not to be shown."""
        seen = np.flatnonzero(self.known.seen[row] & np.isfinite(similarities))
        best = seen[np.argsort(-similarities[seen], kind="stable")[: self.k]]
        return [self._example(row, int(i)) for i in (best if self.form == "released" else best[::-1])]

    def _example(self, row: int, i: int) -> Example:
        correct, tokens = self.known.value[row, i] >= 0.5, round(self.known.tokens[row, i])
        return Example(self.known.anchors.questions[i], bool(correct), tokens)


def _sum(samples: Iterable[tuple[Answer | None, Usage]]) -> Usage:
    return sum((usage for _, usage in samples), Usage())
