"""Thoughts apart from the answer, for clients that ask."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stepwise.backends.scripted import ScriptedBackend
from stepwise.engine.cost import Tokens
from stepwise.engine.engine import Engine
from stepwise.engine.stop_rules import StepRule
from stepwise.gateway.thinking import Thinking
from stepwise.routers import Always
from tests.stepwise.gateway.serving import app_of, chat, client

CHAT = "/v1/chat/completions"
WRITTEN = "<think>\nSome < sums.\nMore.</think>\n\nThe answer is 3."
THOUGHT, SAID = "Some < sums.\nMore.", "The answer is 3."


def world(written: str = WRITTEN, **think_ends: str) -> Engine:
    model = ScriptedBackend(lambda text: written[len(text) - len("1 2\n") :], parameters=1)
    return Engine(
        {"small": model}, prompt="{question}\n", rule=StepRule("\n", 64, 8), cost=Tokens(),
        think_ends=think_ends,
    )  # fmt: skip


async def answered(engine: Engine, **asked: Any) -> tuple[str | None, str]:
    """What is thought and said; streamed it is the same."""
    async with client(app_of(engine, Always("small"))) as http:
        message = (await http.post(CHAT, json=chat("1 2", **asked))).json()["choices"][0]["message"]
        text = (await http.post(CHAT, json=chat("1 2", stream=True, **asked))).text
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    deltas = [event["choices"][0]["delta"] for event in events]
    assert "".join(delta.get("content", "") for delta in deltas) == message["content"]
    thought = message.get("reasoning_content")
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == (thought or "")
    return thought, message["content"]


async def test_thoughts_are_apart_for_those_who_ask() -> None:
    thinking = world(small="</think>")
    assert await answered(thinking, include_reasoning=True) == (THOUGHT, SAID)
    assert await answered(thinking) == (None, WRITTEN)
    assert await answered(world(), include_reasoning=True) == (None, WRITTEN)


async def test_a_chain_that_ends_while_it_thinks_has_said_nothing() -> None:
    begun = world("Some </thi", small="</think>")
    assert await answered(begun, include_reasoning=True) == ("Some </thi", "")


@given(st.lists(st.integers(0, len(WRITTEN)), max_size=8))
def test_it_does_not_matter_how_a_text_comes(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WRITTEN)]
    thinking = Thinking("</think>")
    parts = [thinking.feed(WRITTEN[a:b]) for a, b in pairwise(places)]
    assert "".join(thought for thought, _ in parts) + thinking.rest() == THOUGHT
    assert "".join(said for _, said in parts) == SAID
