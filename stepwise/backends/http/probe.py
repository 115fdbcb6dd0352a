"""What an OpenAI-compatible server can do, found out by asking it."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from stepwise.backends.http.endpoint import Endpoint
from stepwise.errors import BackendError, ConfigError, ContextOverflow


def served_models(
    base_url: str, api_key_env: str = "", *, timeout_s: float = 3.0
) -> dict[str, int | None] | None:
    """The names that a server knows, each with its longest sequence in tokens where the server tells.

    None if it cannot be reached now or does not list its models: it may still come up.
    """
    request = urllib.request.Request(base_url.rstrip("/") + "/models")
    if key := os.environ.get(api_key_env, ""):
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return {str(model["id"]): model.get("max_model_len") for model in json.load(answer)["data"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a server can or cannot do, and what follows from it."""

    what: str
    works: bool
    note: str = ""


async def examine(base_url: str, model: str = "", api_key_env: str = "") -> list[Finding]:
    """Ask a server a few one-token questions.

    Raises:
        ConfigError: if the URL is no URL, or the model is not one of the server's.
        BackendError: if the server cannot be reached.
    """
    endpoint = Endpoint(base_url, api_key_env=api_key_env, timeout_s=60.0)
    try:
        names = [str(entry["id"]) for entry in (await endpoint.get("/models"))["data"]]
        if not names:
            raise ConfigError(f"{base_url} serves no model.")
        if model and model not in names:
            raise ConfigError(f"model must be one of {', '.join(names)}, not {model!r}.")
        asked = model or names[0]
        findings = [Finding("models", True, ", ".join(names))]
        for what, path, body, check in _questions(asked):
            findings.append(await _ask(what, endpoint.post, path, body, check))
        return findings
    except (KeyError, TypeError) as error:
        raise BackendError(f"{base_url}/models answered something that lists no models.") from error
    finally:
        await endpoint.close()


def _questions(model: str) -> list[tuple[str, str, dict[str, Any], Callable[[Any], str]]]:
    """(what, path, body, what the answer shows) of each question; a missing key is a no."""
    token_ids = {"model": model, "prompt": [1, 2, 3], "max_tokens": 1, "temperature": 0}
    chat = {"model": model, "max_tokens": 1, "temperature": 0}
    user = {"role": "user", "content": "1, 2, 3,"}
    begun = [user, {"role": "assistant", "content": "4, 5,"}]
    continued = {"messages": begun, "continue_final_message": True, "add_generation_prompt": False}
    return [
        (
            "token ids in both directions",
            "/completions",
            token_ids | {"return_token_ids": True},
            lambda answer: f"api=completions; {len(answer['choices'][0]['token_ids'])} token came back",
        ),
        (
            "log-probabilities of completions",
            "/completions",
            token_ids | {"logprobs": 20},
            lambda answer: (
                f"{len(answer['choices'][0]['logprobs']['top_logprobs'][0])} per token; drafts can be judged"
            ),
        ),
        (
            "cached prompt tokens are told (vLLM: --enable-prompt-tokens-details)",
            "/completions",
            token_ids,
            lambda answer: (
                f"{answer['usage']['prompt_tokens_details']['cached_tokens']} of "
                f"{answer['usage']['prompt_tokens']}"
            ),
        ),
        (
            "chat",
            "/chat/completions",
            chat | {"messages": [user]},
            lambda answer: f"api=chat; answers as {answer['model']}",
        ),
        (
            "log-probabilities of chat",
            "/chat/completions",
            chat | {"messages": [user], "logprobs": True, "top_logprobs": 2},
            lambda answer: f"logprobs=true; {len(answer['choices'][0]['logprobs']['content'])} token",
        ),
        (
            "continues the assistant's message",
            "/chat/completions",
            chat | continued,
            lambda answer: f"continues=true; went on with {answer['choices'][0]['message']['content']!r}",
        ),
    ]


async def _ask(
    what: str,
    post: Callable[[str, dict[str, Any]], Awaitable[Any]],
    path: str,
    body: dict[str, Any],
    check: Callable[[Any], str],
) -> Finding:
    try:
        return Finding(what, True, check(await post(path, body)))
    except (KeyError, IndexError, TypeError):
        return Finding(what, False, "the answer does not have it")
    except (BackendError, ContextOverflow) as error:
        return Finding(what, False, str(error))
