"""Fields that the gateway does not act on: what changes no text is accepted, what would change it is refused.

Bookkeeping may hold anything and is named in the answer's `IGNORED` header. Everything else in these tables
must hold a value that asks for nothing. A field in neither is refused: nobody knows what it was to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

IGNORED = "x-stepwise-ignored"
"""The response header that lists the fields that were accepted and not used."""

Neutral = Mapping[str, tuple[Any, ...]]
"""Fields, each with the values that ask for nothing; null always does."""

REQUEST_BOOKKEEPING = frozenset(
    {
        "cache_prompt",
        "cache_salt",
        "keep_alive",
        "metadata",
        "priority",
        "prompt_cache_key",
        "prompt_cache_retention",
        "request_id",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
MESSAGE_BOOKKEEPING = frozenset(
    {"annotations", "cache_control", "id", "name", "reasoning", "reasoning_content", "status", "weight"}
)
PART_BOOKKEEPING = frozenset({"annotations", "cache_control", "id"})

REQUEST_NEUTRAL: Neutral = {
    "add_generation_prompt": (True,),
    "audio": (),
    "best_of": (1,),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "ignore_eos": (False,),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "min_p": (0,),
    "min_tokens": (0,),
    "modalities": (["text"],),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": (),
    "repetition_penalty": (1,),
    "return_token_ids": (False,),
    "skip_special_tokens": (True,),
    "stop_token_ids": ([],),
    "suffix": ("",),
    "top_k": (-1, 0),
    "top_logprobs": (),
    "typical_p": (1,),
    "use_beam_search": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
MESSAGE_NEUTRAL: Neutral = {
    "audio": (),
    "function_call": (),
    "partial": (False,),
    "prefix": (False,),
    "refusal": ("",),
}
PART_NEUTRAL: Neutral = {"file": (), "image_url": (), "input_audio": (), "refusal": ("",), "video_url": ()}

RESPONSE_NEUTRAL: Neutral = {
    "background": (False,),
    "conversation": (),
    "include": ([],),
    "max_tool_calls": (),
    "previous_response_id": (),
    "prompt": (),
    "reasoning": ({},),
    "stream_options": ({}, {"include_obfuscation": False}),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}
RESPONSE_PART_NEUTRAL: Neutral = {"file_id": (), "image_url": (), "input_audio": ()}


def asks_for_nothing(value: Any, neutral: tuple[Any, ...]) -> bool:
    """Whether a field's value is one of its neutral ones. False and 0 are kept apart: for completions,
    ``logprobs: 0`` asks for something."""
    return value is None or any(
        value == other and isinstance(value, bool) == isinstance(other, bool) for other in neutral
    )
