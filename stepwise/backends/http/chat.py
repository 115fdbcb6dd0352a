"""Any OpenAI-compatible chat endpoint, for models whose tokenizer nobody has: closed ones, above all.

The state is text, and a token of this backend is a character. The prompt ends with a mark that no text
contains, so that the question can be told from the steps when the prefix comes back.

Two ways to go on with a chain that another model has begun. Where the server can continue the
assistant's message (vLLM, SGLang: ``continue_final_message``), it does. Elsewhere the steps so far are
put into the question, and the model is asked for the next one.

A server that does not say *why* it stopped cannot tell the end of a step from the end of the answer. The
step is then taken as ended; the next call shows whether there was more, and is charged like any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stepwise.backends.http.endpoint import Endpoint, Unanswered, cached_tokens
from stepwise.backends.http.options import RemoteOptions
from stepwise.backends.http.pace import Pace
from stepwise.backends.options import ModelSpec
from stepwise.engine import signals
from stepwise.engine.backend import Backend, Completion, Lost, Sampling, unaccounted
from stepwise.errors import BackendError, ConfigError, ContextOverflow
from stepwise.types import Finish, Signals, Usage

MARK = "\ue000"
"""From a private use area of Unicode: ends the prompt."""

CONTEXT = 400_000
"""Characters, where the pair says nothing."""

CHARACTERS = 4
"""A token, where a cut-off call has to be estimated."""

DONE = "DONE"
NEXT_STEP = (
    "{question}\n\nThe solution so far, in steps:\n\n{steps}\n\n"
    "Write only the next step of this solution, in the same style, and nothing else. "
    f"If the solution above is complete and has stated its answer, write only {DONE}."
)
"""What a model is asked that cannot continue a message."""


class Options(RemoteOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a model behind a chat endpoint.

    Attributes:
        continues: whether the server can continue the assistant's message (vLLM, SGLang).
        logprobs: whether it returns log-probabilities; a model that writes drafts needs them.
        max_tokens_field: how the server calls its limit.
    """

    continues: bool = False
    logprobs: bool = False
    max_tokens_field: str = "max_tokens"

    def open(self, model: ModelSpec) -> Backend:
        name, _ = self.served(model)
        return self.connect(
            model,
            lambda endpoint: ChatBackend(
                endpoint, name, continues=self.continues, logprobs=self.logprobs, revision=model.identity,
                max_tokens_field=self.max_tokens_field, context=self.context or CONTEXT,
                parameters=model.parameters or 0,
            ),
        )  # fmt: skip


class ChatBackend:
    """Runs one model behind ``/v1/chat/completions``.

    Args:
        endpoint: the server.
        model: its name there.
        continues: whether the server can continue the assistant's message.
        logprobs: whether it returns log-probabilities; a model that writes drafts needs them.
        max_tokens_field: how the server calls its limit; OpenAI's newer models want
            "max_completion_tokens".
        context: in characters, prompt and answer together; about four to a token.
        parameters: number of parameters of the model, for cost in FLOPs.
        revision: identifies the model; part of every store key.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        *,
        continues: bool = False,
        logprobs: bool = False,
        max_tokens_field: str = "max_tokens",
        context: int = CONTEXT,
        parameters: int = 0,
        revision: str = "",
    ) -> None:
        if context < 2:
            raise ConfigError(f"context must be at least 2 characters, not {context}.")
        self.model = model
        self.context = context
        self.parameters = parameters
        self.tokenizer = "text"
        self.revision = revision or f"{endpoint.base_url} {model}"
        self.endpoint = endpoint
        self._pace = Pace()
        self._continues = continues
        self._logprobs = logprobs
        self._max_tokens_field = max_tokens_field

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return tuple(map(ord, text.replace(MARK, "") + MARK * first))

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        with self._pace.watch(len(prefix) // CHARACTERS, sampling.max_tokens, lost) as call:
            completion = await self._complete(prefix, sampling)
            call.finished(completion.usage)
        return completion

    async def _complete(self, prefix: Sequence[int], sampling: Sampling) -> Completion:
        if len(prefix) >= self.context:
            raise ContextOverflow(f"the chain has {len(prefix)} characters, the context is {self.context}.")
        question, _, steps = "".join(map(chr, prefix)).partition(MARK)
        answer = await self.endpoint.post("/chat/completions", self._body(question, steps, sampling))
        try:
            choice, usage, name = answer["choices"][0], answer["usage"], str(answer["model"])
            text = choice["message"]["content"] or ""
            counts = Usage(usage["prompt_tokens"], cached_tokens(usage), usage["completion_tokens"])
            measured = _signals(choice) if self._logprobs else Signals(length=counts.completion)
            text, finish = self._end(text, choice, sampling, bool(steps))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise Unanswered(
                f"{self.endpoint.base_url} answered something that is no chat completion "
                f"({type(error).__name__} {error}): {str(answer)[:80]}",
                retryable=True,
            ) from error
        if not (name == self.model or name.startswith(self.model)):
            raise BackendError(f"{self.endpoint.base_url} answered as {name!r}, asked for {self.model!r}.")
        if not text and finish != "end":
            raise BackendError(f"{self.endpoint.base_url} wrote nothing.", retryable=True)
        return Completion(text, self.encode(text, first=False), counts, measured, finish)

    async def close(self) -> None:
        await self.endpoint.close()

    def _body(self, question: str, steps: str, sampling: Sampling) -> dict[str, Any]:
        asked = question if self._continues or not steps else _next_step(question, steps)
        messages = [{"role": "user", "content": asked.strip()}]
        body: dict[str, Any] = {
            "model": self.model,
            self._max_tokens_field: sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stop": list(sampling.stop),
        }
        if self._continues and steps:
            messages.append({"role": "assistant", "content": steps})
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if self._logprobs:
            body |= {"logprobs": True, "top_logprobs": signals.TOP}
        if sampling.temperature > 0.0:
            body["seed"] = sampling.seed
        return body | {"messages": messages}

    def _end(self, text: str, choice: Any, sampling: Sampling, begun: bool) -> tuple[str, Finish]:
        """The step with the separator that servers leave out, and how it ended."""
        reason, cause = choice["finish_reason"], choice.get("stop_reason", choice.get("matched_stop", 0))
        if reason == "length":
            return text, "length"
        if reason != "stop":
            raise ValueError(f"finish_reason {reason!r}")
        if not self._continues and begun and text.strip() == DONE:
            return "", "end"
        ended = cause is None or (isinstance(cause, int) and "stop_reason" in choice)
        if ended or not text.strip() or not sampling.stop:
            return text, "end"
        return text.removesuffix(sampling.stop[0]) + sampling.stop[0], "stop"


def _next_step(question: str, steps: str) -> str:
    return NEXT_STEP.replace("{question}", question.strip()).replace("{steps}", steps.strip())


def _signals(choice: Any) -> Signals:
    rows = choice["logprobs"]["content"]
    chosen = [float(row["logprob"]) for row in rows]
    top = [sorted((float(other["logprob"]) for other in row["top_logprobs"]), reverse=True) for row in rows]
    if any(math.isnan(value) for value in chosen) or any(len(row) < 2 for row in top):
        raise ValueError("log-probabilities are missing")
    return signals.measure(chosen, top)
