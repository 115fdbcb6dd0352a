"""Answers: OpenAI's shapes, right counts, and where every step came from."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stepwise.backends.scripted import ScriptedBackend
from stepwise.engine.backend import unaccounted
from stepwise.engine.cost import Flops
from stepwise.engine.engine import Engine
from stepwise.engine.stop_rules import StepRule
from stepwise.routers import Always
from tests.stepwise.gateway.serving import CONFIDENCE, app_of, chat, client
from tests.worlds import engine

QUESTION = "1 7 2"
TEXT = "0 + 1 = 1.\n1 + 7 = 8.\n8 + 2 = 10.\nThe answer is 10."


async def ask(body: dict[str, Any], path: str = "/v1/chat/completions", **options: Any) -> dict[str, Any]:
    async with client(app_of(**options)) as http:
        answer = await http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


async def stream(
    body: dict[str, Any], path: str = "/v1/chat/completions", **options: Any
) -> list[dict[str, Any]]:
    async with client(app_of(**options)) as http:
        answer = await http.post(path, json={**body, "stream": True})
        assert answer.headers["content-type"].startswith("text/event-stream")
        *events, end, rest = answer.text.split("\n\n")
        assert (end, rest) == ("data: [DONE]", "")
        return [json.loads(event.removeprefix("data: ")) for event in events]


def lookahead_engine() -> Engine:
    """The adders, whose steps can be read while they are written."""
    return engine(lookahead=True)


async def test_a_whole_answer_carries_the_chain_it_came_from() -> None:
    trace = engine().solve_sync(QUESTION, CONFIDENCE)
    answer = await ask(chat(QUESTION))
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": TEXT, "refusal": None}
    assert choice["finish_reason"] == "stop" and answer["object"] == "chat.completion"
    assert answer["usage"] == {"prompt_tokens": 6, "completion_tokens": 52, "total_tokens": 58}
    provenance = choice["stepwise"]
    assert (provenance["router"], provenance["threshold"], provenance["answer"], provenance["stop"]) == (
        "confidence",
        0.5,
        "10",
        "answered",
    )
    assert provenance["cost"] == trace.cost and provenance["switches"] == 2
    assert provenance["cost_large_only"] == engine().cost_alone(trace, "large")
    assert provenance["cost_share"] == provenance["cost"] / provenance["cost_large_only"]
    for step, shown in zip(trace.steps, provenance["steps"], strict=True):
        assert step.decision is not None
        assert (shown["model"], shown["text"], shown["cost"]) == (step.model, step.text, step.cost)
        assert (shown["score"], shown["reason"]) == (step.decision.score, step.decision.reason)
        assert (
            shown["tokens"] == len(step.token_ids)
            and shown["signals"]["min_logprob"] == step.signals.min_logprob
        )
    assert provenance["steps"][1]["draft"]["text"] == "1 + 7 = 9.\n"
    assert sum(shown["cost"] for shown in provenance["steps"]) == pytest.approx(answer["stepwise"]["cost"])


@pytest.mark.parametrize("model", ["stepwise", "stepwise:small", "stepwise:large"])
@pytest.mark.parametrize("running_on", [False, True])
async def test_a_stream_says_the_same_as_a_whole_answer(model: str, running_on: bool) -> None:
    world = lookahead_engine if running_on else engine
    body = chat(QUESTION, model, stream_options={"include_usage": True})
    *chunks, last = await stream(body, world=world())
    whole = await ask(chat(QUESTION, model), world=world())
    content = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert content == whole["choices"][0]["message"]["content"]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert all("role" not in chunk["choices"][0]["delta"] for chunk in chunks[1:])
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == [] and last["usage"] == whole["usage"]
    provenance, steps = whole["choices"][0]["stepwise"], []
    for chunk in chunks:
        steps += (
            [chunk["choices"][0]["stepwise"]["step"]] if "step" in chunk["choices"][0]["stepwise"] else []
        )
    assert [{**step, "finished": 0} for step in steps] == [
        {**step, "finished": 0} for step in provenance["steps"]
    ]
    end = chunks[-1]["choices"][0]["stepwise"]
    assert {k: end[k] for k in provenance if k != "steps"} == {
        k: provenance[k] for k in provenance if k != "steps"
    }


@pytest.mark.parametrize("running_on", [False, True])
async def test_a_step_whose_writer_is_decided_arrives_in_pieces(running_on: bool) -> None:
    world = lookahead_engine if running_on else engine
    chunks = [c["choices"][0] for c in await stream(chat("1 7", "stepwise:large"), world=world())]
    first = next(i for i, chunk in enumerate(chunks) if "step" in chunk["stepwise"])
    pieces = [chunk["delta"].get("content", "") for chunk in chunks[: first + 1]]
    assert first > 1 and "".join(pieces) == "0 + 1 = 1.\n" and all(pieces[:first])
    assert {chunk["stepwise"]["model"] for chunk in chunks} == {"large"}


async def test_the_meter_of_a_stream_ends_at_the_whole_cost() -> None:
    chunks = await stream(chat(QUESTION))
    costs = [c["choices"][0]["stepwise"] for c in chunks]
    meter = [provenance["cost"] for provenance in costs if "step" in provenance]
    assert meter == sorted(meter) and meter[-1] == costs[-1]["cost"]
    assert [t["cost_large_only"] for t in costs if "step" in t][-1] == costs[-1]["cost_large_only"]


async def test_completions_answer_every_prompt_n_times() -> None:
    body = {"model": "stepwise:large", "prompt": ["1 2", "3"], "n": 2}
    answer = await ask(body, "/v1/completions")
    texts = [choice["text"] for choice in answer["choices"]]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert texts[0] == texts[1] == "0 + 1 = 1.\n1 + 2 = 3.\nThe answer is 3."
    assert texts[2] == texts[3] == "0 + 3 = 3.\nThe answer is 3."
    assert answer["usage"]["prompt_tokens"] == 2 * (4 + 2)
    assert answer["stepwise"]["cost"] == sum(choice["stepwise"]["cost"] for choice in answer["choices"])
    chunks = await stream(body, "/v1/completions")
    for i, text in enumerate(texts):
        assert text == "".join(c["choices"][0]["text"] for c in chunks if c["choices"][0]["index"] == i)


@pytest.mark.parametrize(
    "stop, text", [("8 +", TEXT[:22]), (["zz", ".\n1"], "0 + 1 = 1"), ("\n\n", TEXT), (["1 + 7 "], TEXT[:11])]
)
@pytest.mark.parametrize("running_on", [False, True])
async def test_stop_strings_end_the_text_and_the_chain(stop: Any, text: str, running_on: bool) -> None:
    world = lookahead_engine if running_on else engine
    answer = await ask(chat(QUESTION, "stepwise:large", stop=stop), world=world())
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == text and choice["finish_reason"] == "stop"
    assert choice["stepwise"]["stop"] == ("answered" if text == TEXT else "stop_string")
    assert len(choice["stepwise"]["steps"]) <= text.count("\n") + 2
    chunks = await stream(chat(QUESTION, "stepwise:large", stop=stop), world=world())
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == text


@pytest.mark.parametrize("limit", [1, 11, 15, 22, 51, 52, 500])
@pytest.mark.parametrize("model", ["stepwise", "stepwise:large"])
async def test_no_more_tokens_than_asked_for(limit: int, model: str) -> None:
    answer = await ask(chat(QUESTION, model, max_tokens=limit))
    (choice,) = answer["choices"]
    content = choice["message"]["content"]
    assert len(content) == min(limit, len(TEXT)) and TEXT.startswith(content[:-1])
    assert choice["finish_reason"] == ("stop" if limit > len(TEXT) else "length")
    assert answer["usage"]["completion_tokens"] <= limit


def coin() -> Engine:
    """One model whose text depends on the seed of its call."""

    class Coin(ScriptedBackend):
        async def generate(self, prefix: Any, sampling: Any, lost: Any = unaccounted) -> Any:
            text = f"{sampling.seed} at {sampling.temperature} of {sampling.top_p}."
            return await ScriptedBackend(lambda _: text).generate(prefix, sampling, lost)

    return Engine(
        {"coin": Coin(str)}, prompt="{question}\n", rule=StepRule("\n", 64, 4), cost=Flops({"coin": 1})
    )


async def test_sampling_is_the_request_s() -> None:
    async def texts(**sampling: Any) -> list[str]:
        answer = await ask(chat("q", **sampling), world=coin(), router=Always("coin"))
        return [choice["message"]["content"] for choice in answer["choices"]]

    assert await texts() == ["0 at 0.0 of 1.0."]
    hot = {"temperature": 0.7, "top_p": 0.9, "n": 3}
    seeded = await texts(**hot, seed=5)
    assert len(set(seeded)) == 3 and all("at 0.7 of 0.9" in text for text in seeded)
    assert seeded == await texts(**hot, seed=5) != await texts(**hot, seed=6)
    assert await texts(**hot) != await texts(**hot)


async def test_a_conversation_is_taken_into_the_question_where_that_is_allowed() -> None:
    body = {
        "model": "stepwise:large",
        "messages": [{"role": "system", "content": "4"}, {"role": "user", "content": "5"}],
    }
    async with client(app_of()) as http:
        refused = await http.post("/v1/chat/completions", json=body)
        assert refused.status_code == 400 and "--conversation include" in refused.json()["error"]["message"]
    seen: list[str] = []

    def script(text: str) -> str:
        seen.append(text)
        return "done"

    world = Engine(
        {"small": ScriptedBackend(script)},
        prompt="Q: {question}\n",
        rule=StepRule("\n", 64, 4),
        cost=Flops({"small": 1}),
    )
    await ask(body, world=world, router=Always("small"), conversation=True)
    assert seen == ["Q: 4\n\n5\n"]
