"""Turns that are one step, and conversations, behind chat endpoints."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stepwise.errors import ConfigError
from stepwise.routers import Always, Confidence, ThresholdRouter
from stepwise.routers.fixed import LargeFirst
from stepwise.types import Form, Problem, Turn, Usage
from tests.stepwise.backends.chat_server import Upstream, chat, upstream
from tests.worlds import engine as adders

ROUTER = ThresholdRouter(Confidence("mean"), 1.0, "confidence")
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
MESSAGES = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Rain?"})
FORM = Form(tuple(map(json.dumps, MESSAGES)), json.dumps({"tools": [TOOL]}))


def call(name: str = "weather", arguments: str = "{}", logprob: float = -0.1, **more: Any) -> dict[str, Any]:
    """An answer that calls a tool."""
    row = {"logprob": logprob, "top_logprobs": [{"logprob": logprob}, {"logprob": logprob - 1}]}
    answer = chat(None, "tool_calls", **more)
    called = {"function": {"name": name, "arguments": arguments}}
    answer["choices"][0] |= {
        "message": {"content": None, "tool_calls": [called]},
        "logprobs": {"content": [row]},
    }
    return answer


def by_model(small: Any, large: Any) -> Any:
    return lambda body: {**(small if body["model"] == "small" else large), "model": body["model"]}


async def solved(served: Upstream, router: Any = ROUTER, form: Form | None = FORM, **changes: Any) -> Any:
    models = [served.model(name, logprobs=True) for name in ("small", "large")]
    engine = await served.engine(*models, **changes)
    try:
        return await engine.solve(Problem("p", "Rain?", form=form), router), engine
    finally:
        await engine.close()


async def test_a_confident_draft_is_the_turn() -> None:
    async with upstream(by_model(call(), call())) as served:
        trace, engine = await solved(served)
    (body,) = served.bodies
    assert body["messages"] == list(MESSAGES) and body["tools"] == [TOOL] and body["model"] == "small"
    assert trace.stop == "answered" and [step.model for step in trace.steps] == ["small"]
    (made,) = json.loads(trace.text)["tool_calls"]
    assert made["function"] == {"name": "weather", "arguments": "{}"} and made["id"].startswith("call_")
    assert trace.usage == {"small": Usage(prompt=7, completion=5)} and trace.prompt_tokens == 7
    assert engine.cost_alone(trace, "large") == 12


async def test_a_draft_that_is_not_sure_escalates_by_the_score_and_both_calls_are_charged() -> None:
    async with upstream(by_model(call(logprob=-2.0), call(arguments='{"a": 1}', prompt=8))) as served:
        trace, engine = await solved(served)
    assert [body["model"] for body in served.bodies] == ["small", "large"]
    (step,) = trace.steps
    assert step.model == "large" and step.draft.model == "small" and step.decision.score == 2.0
    assert trace.usage == {"small": Usage(prompt=7, discarded=5), "large": Usage(prompt=8, completion=5)}
    assert trace.cost == 25 and engine.cost_alone(trace, "large") == 13


@pytest.mark.parametrize("router", [ROUTER, LargeFirst(0)])
async def test_a_draft_that_does_not_fit_escalates_whoever_chose_it(router: Any) -> None:
    async with upstream(by_model(call("whether"), call())) as served:
        trace, _ = await solved(served, router)
    (step,) = trace.steps
    assert step.model == "large" and step.draft.model == "small"
    assert step.decision.reason == "small: it calls 'whether', which is none of the tools"
    assert trace.usage["small"].discarded == 5


async def test_a_model_that_was_named_is_not_replaced() -> None:
    async with upstream(by_model(call("whether"), call())) as served:
        trace, _ = await solved(served, Always("small"))
    assert [step.model for step in trace.steps] == ["small"] and len(served.bodies) == 1


async def test_a_turn_that_is_cut_off_goes_no_further() -> None:
    async with upstream(by_model(chat('{"a', "length"), chat('{"a', "length"))) as served:
        form = Form(FORM.messages, '{"response_format": {"type": "json_object"}}')
        trace, _ = await solved(served, form=form)
    assert trace.stop == "max_tokens" and len(served.bodies) == 2  # it escalated: a half is no JSON


async def test_only_models_that_can_are_asked() -> None:
    async with upstream(by_model(call(), call())) as served:
        models = [served.model("small", "chat", logprobs=True), served.model("large", "chat")]
        engine = await served.engine(*models)
        engine.backends["small"].forms = False  # type: ignore[attr-defined]
        trace = await engine.solve(Problem("p", "Rain?", form=FORM), ROUTER)
        with pytest.raises(ConfigError, match="model 'small' takes neither tools nor response formats"):
            await engine.solve(Problem("p", "Rain?", form=FORM), Always("small"))
        await engine.close()
    assert [step.model for step in trace.steps] == ["large"]
    with pytest.raises(
        ConfigError, match="need a model behind a chat endpoint .* and none of small, large is"
    ):
        await adders().solve(Problem("p", "Rain?", form=FORM), ROUTER)


async def test_a_conversation_goes_to_a_chat_endpoint_as_messages() -> None:
    turns = (Turn("system", "Be\ue000 brief."), Turn("user", "Rain?"), Turn("assistant", "Yes."))
    async with upstream(lambda body: {**chat("No."), "model": "m"}) as served:
        engine = await served.engine()
        await engine.solve(Problem("p", "Snow?\ue002", turns=turns), Always("m"))
        await engine.close()
    assert [(message["role"], message["content"]) for message in served.bodies[0]["messages"]] == [
        ("system", "Be brief."), ("user", "Rain?"), ("assistant", "Yes."), ("user", "Snow?"),
    ]  # fmt: skip
