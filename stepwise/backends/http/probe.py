"""What an OpenAI-compatible server can do, found out by asking it what the engine will ask."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from stepwise.backends.http import llama
from stepwise.backends.http import ollama as ollama_http
from stepwise.backends.http import sglang as sglang_http
from stepwise.backends.http.chat import Options
from stepwise.backends.http.completions import completion_body
from stepwise.backends.http.endpoint import Endpoint
from stepwise.backends.http.ollama import OllamaBackend
from stepwise.backends.http.reading import (
    ChatAnswer,
    CompletionAnswer,
    Counts,
    LlamaEvent,
    chat_signals,
    llama_logprobs,
    served,
    shaped,
    token_logprobs,
)
from stepwise.backends.http.sglang import generate_body
from stepwise.engine import signals
from stepwise.engine.backend import Sampling
from stepwise.errors import BackendError, ConfigError

STEP = Sampling(max_tokens=16, stop=("\n\n",))
Question = Callable[[], Awaitable[str]]
QUESTION = "Count from one to ten, in words."
BEGUN = "one two three four five six seven eight"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a server can or cannot do, and what follows from it."""

    what: str
    works: bool
    note: str = ""

    @property
    def backend(self) -> str:
        """The backend that the note recommends, "" for none."""
        named = re.match(r"backend ([\w-]+)", self.note)
        return named[1] if named and self.works else ""


async def examine(base_url: str, model: str = "", api_key_env: str = "") -> list[Finding]:
    """Ask a server a few short questions, in the words of the backends.

    Raises:
        ConfigError: if the URL is no URL, or the model is not one of the server's.
        BackendError: if the server cannot be reached.
    """
    endpoint = Endpoint(base_url, api_key_env=api_key_env, timeout_s=60.0)
    root = Endpoint(endpoint.base_url.removesuffix("/v1"), api_key_env=api_key_env, timeout_s=60.0).closing()
    try:
        names = [*served(await endpoint.get("/models"), f"{endpoint.base_url}/models")]
        if not names:
            raise ConfigError(f"{endpoint.base_url} serves no model.")
        if model and model not in names:
            raise ConfigError(f"model must be one of {', '.join(names)}, not {model!r}.")
        name = model or names[0]
        server = Server(endpoint, root, name)
        findings = [Finding("models", True, ", ".join(names))]
        for what, question in server.questions:
            findings.append(await _ask(what, question))
        return findings + await _own(endpoint.base_url.removesuffix("/v1"), name, api_key_env)
    finally:
        await endpoint.close()
        await root.close()


async def _own(root: str, model: str, api_key_env: str) -> list[Finding]:
    """What a server can do by an interface of its own, beside OpenAI's; nothing where it has none."""
    endpoint = Endpoint(root, api_key_env=api_key_env, timeout_s=60.0)

    async def sglang() -> str:
        body = generate_body([1, 2, 3], STEP, STEP.max_tokens)
        answer = shaped(await endpoint.post("/generate", body), sglang_http.Answer, root)
        known = signals.measure(*sglang_http.logprobs(answer.meta_info, len(answer.output_ids))).known
        return f"backend sglang, base_url {root}; {_drafts(known)}"

    async def ollama() -> str:
        body = OllamaBackend(endpoint, model).body(BEGUN, STEP)
        answer = shaped(await endpoint.post("/api/generate", body), ollama_http.Answer, root)
        return f"backend ollama, base_url {root}; {_drafts(ollama_http.measure(answer, 1).known)}"

    try:
        findings = [await _ask("SGLang's /generate", sglang), await _ask("Ollama's /api/generate", ollama)]
    finally:
        await endpoint.close()
    return [finding for finding in findings if finding.works]


def _drafts(known: bool) -> str:
    return "drafts can be judged" if known else "without log-probabilities, so drafts cannot be judged"


class Lacking(BackendError):
    """An answer without what was asked for."""


class Server:
    """A model of a server, to be asked what it can do. What the completions of OpenAI's interface lack,
    llama-server has at its root."""

    def __init__(self, endpoint: Endpoint, root: Endpoint, model: str) -> None:
        self._endpoint, self._root, self._model = endpoint, root, model

    @property
    def questions(self) -> list[tuple[str, Question]]:
        """What is asked, and a call that tells what follows, or raises `BackendError`."""
        return [
            ("token ids in both directions", self._either(self._token_ids, self._llama_token_ids)),
            ("log-probabilities of completions", self._either(self._logprobs, self._llama_logprobs)),
            (
                "cached prompt tokens are told (vLLM: --enable-prompt-tokens-details)",
                self._either(self._cached, self._llama_cached),
            ),
            ("chat", self._chat),
            ("log-probabilities of chat", self._chat_logprobs),
            ("continues the assistant's message", self._continues),
        ]

    def _either(self, usual: Question, own: Question) -> Question:
        """What the answer to one question says, or else that to the other; the first one's failure if both
        fail."""

        async def ask() -> str:
            try:
                return await usual()
            except BackendError as error:
                try:
                    return await own()
                except BackendError:
                    raise error from None

        return ask

    async def _complete(self) -> CompletionAnswer:
        body = completion_body(self._model, [1, 2, 3], STEP, STEP.max_tokens)
        answer = await self._endpoint.post("/completions", body)
        completion = shaped(answer, CompletionAnswer, self._endpoint.base_url)
        if not completion.choices:
            raise Lacking("the answer does not have it")
        return completion

    async def _token_ids(self) -> str:
        ids = (await self._complete()).choices[0].token_ids
        if not ids:
            raise Lacking("the answer does not have it")
        return f"backend vllm-server; {len(ids)} tokens came back"

    async def _logprobs(self) -> str:
        choice = (await self._complete()).choices[0]
        ids = choice.token_ids or ()
        chosen, top = token_logprobs(choice, len(ids))
        if not signals.measure(chosen, top).known:
            raise Lacking("the answer does not have them")
        return f"{len(top[0])} per token; drafts can be judged"

    async def _cached(self) -> str:
        counts = shaped((await self._complete()).usage, Counts, self._endpoint.base_url)
        if counts.prompt_tokens_details is None or counts.prompt_tokens_details.cached_tokens is None:
            raise Lacking("the answer does not have it")
        return f"{counts.prompt_tokens_details.cached_tokens} of {counts.prompt_tokens}"

    async def _llama(self) -> LlamaEvent:
        """The first token of llama-server's own completions."""
        body = llama.completion_body("", [1, 2, 3], STEP, STEP.max_tokens)
        async with aclosing(self._root.stream("/completion", body)) as events:  # type: ignore[type-var]
            async for event in events:
                return shaped(event, LlamaEvent, self._root.base_url)
        raise Lacking("the answer does not have it")

    async def _llama_token_ids(self) -> str:
        if not (await self._llama()).tokens:
            raise Lacking("the answer does not have it")
        return f"backend llama-server, base_url {self._root.base_url}"

    async def _llama_logprobs(self) -> str:
        logprob, top = llama_logprobs(await self._llama())
        if not signals.measure([logprob], [top]).known:
            raise Lacking("the answer does not have them")
        return f"{len(top)} per token; drafts can be judged"

    async def _llama_cached(self) -> str:
        event = await self._llama()
        if event.timings is None:
            raise Lacking("the answer does not have it")
        return f"{event.tokens_evaluated - event.timings.prompt_n} of {event.tokens_evaluated}"

    async def _say(self, steps: str = "", **options: Any) -> ChatAnswer:
        body = Options(base_url=self._endpoint.base_url, **options).body(self._model, QUESTION, steps, STEP)
        return shaped(
            await self._endpoint.post("/chat/completions", body), ChatAnswer, self._endpoint.base_url
        )

    async def _chat(self) -> str:
        return f"backend chat; answers as {(await self._say()).model or 'nobody'}"

    async def _chat_logprobs(self) -> str:
        answer = await self._say(logprobs=True)
        if not chat_signals(answer.choices[0].logprobs, 1).known:
            raise Lacking("the answer does not have them")
        return "logprobs: true; drafts can be judged"

    async def _continues(self) -> str:
        """A message that goes on adds its own tokens to the prompt, and a text twice as long adds them again.
        A server that ignores the request closes the message and begins another one, with tokens of its
        own."""
        texts = ("", BEGUN, f"{BEGUN} {BEGUN}")
        answers = [await self._say(text, continues=True) for text in texts]
        if str(answers[-1].choices[0].message.content).startswith(texts[-1]):
            raise Lacking("the answer repeats the message that it continues")
        sizes = [shaped(a.usage, Counts, self._endpoint.base_url).prompt_tokens for a in answers]
        first, second = sizes[1] - sizes[0], sizes[2] - sizes[1]
        if second <= 0 or abs(first - second) > 1:
            raise Lacking(
                "the server takes continue_final_message and ignores it: a message of "
                f"{second} tokens added {first} to the prompt"
            )
        return "continues: true"


async def _ask(what: str, question: Question) -> Finding:
    try:
        return Finding(what, True, await question())
    except BackendError as error:
        return Finding(what, False, str(error))
