"""Chat endpoints: whole answers, tokens and not characters, dialects, reasoning apart, every way to end."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from stepwise.backends.http.chat import NEXT_STEP, Options
from stepwise.backends.http.probe import examine
from stepwise.engine.backend import Sampling
from stepwise.engine.boundaries import BLANK_LINES, Boundaries
from stepwise.engine.whole import pieces, shares
from stepwise.errors import ConfigError
from stepwise.models.model import options_of
from stepwise.routers import Always, Confidence, LargeFirst, ThresholdRouter
from stepwise.types import Usage
from tests.stepwise.backends.chat_server import Upstream, chat, upstream

SIX = "\n\n".join(f"Paragraph {i} says a little." for i in range(1, 6)) + "\n\nThe answer is \\boxed{6}."
QUESTION = "What is " + "x" * 300 + "?"


async def test_a_whole_answer_takes_one_call_and_is_cut_into_steps() -> None:
    async with upstream(lambda _: chat(SIX, prompt=84, completion=61)) as served:
        engine = await served.engine()
        trace = await engine.solve(QUESTION, Always("m"))
        await engine.close()
    assert len(served.bodies) == 1 and "stop" not in served.bodies[0]
    assert served.bodies[0]["max_tokens"] == min(64 * 32, 4096)
    assert trace.stop == "answered" and trace.text == SIX and len(trace.steps) == 6
    assert trace.usage == {"m": Usage(prompt=84, completion=61)} and trace.cost == 145
    assert sum(step.length for step in trace.steps) == 61 and trace.steps[-1].finish == "end"
    assert engine.cost_alone(trace, "m") == trace.cost
    assert not any(step.signals.known for step in trace.steps)


async def test_tokens_are_the_servers_or_estimated_and_never_characters() -> None:
    async with upstream(lambda _: chat(SIX)) as served:
        engine = await served.engine()
        assert engine.start(QUESTION).trace.prompt_tokens == -(-(len(QUESTION) + 1) // 4)
        served.answer = lambda _: chat(SIX) | {"usage": None}
        trace = await engine.solve(QUESTION, Always("m"))
        await engine.close()
    usage = trace.usage["m"]
    assert usage.completion == -(-len(SIX) // 4) and usage.prompt == -(-(len(QUESTION) + 1) // 4)
    assert usage.estimated == usage.prompt + usage.completion


async def test_a_request_for_few_tokens_is_one() -> None:
    async with upstream(lambda _: chat("Half of an", "length", completion=10)) as served:
        engine = (await served.engine()).with_sampling(max_tokens=10)
        trace = await engine.solve(QUESTION, Always("m"))
        await engine.close()
    assert served.bodies[0]["max_tokens"] == 10 and trace.stop == "max_tokens"


async def test_an_answer_longer_than_one_call_goes_on_after_its_last_whole_step() -> None:
    answers = iter([chat("One.\n\nTwo.\n\nThr", "length", completion=8), chat("Three.", completion=2)])
    async with upstream(lambda _: next(answers)) as served:
        engine = await served.engine(served.model(answer_tokens=8))
        trace = await engine.solve("q", Always("m"))
        await engine.close()
    assert trace.text.startswith("One.\n\nTwo.\n\nThree.") and "Thr\n" not in trace.text
    assert trace.usage["m"].completion + trace.usage["m"].discarded == 10 and trace.usage["m"].discarded > 0


async def test_a_chain_of_two_models_is_asked_step_by_step() -> None:
    def answer(body: dict[str, Any]) -> Any:
        return chat("DONE" if "Two." in body["messages"][0]["content"] else "Two.", completion=2)

    async with upstream(answer) as served:
        small, large = served.model("small", served_name="m"), served.model("large", served_name="m")
        engine = await served.engine(small, large)
        trace = await engine.solve("q", LargeFirst(1))
        await engine.close()
    assert [step.model for step in trace.steps] == ["large", "small"] and trace.stop == "answered"
    assert served.bodies[0]["stop"] == list(BLANK_LINES)
    asked = NEXT_STEP.replace("{question}", "q").replace("{steps}", "Two.")
    assert served.bodies[1]["messages"] == [{"role": "user", "content": asked}]


@pytest.mark.parametrize(
    ("message", "finish", "sentence"),
    [
        (
            {"content": None, "reasoning_content": "hm"},
            "length",
            "spent its tokens thinking; raise max_step_tokens",
        ),
        ({"content": "", "reasoning": "hm"}, "length", "spent its tokens thinking"),
        ({"content": [{"type": "thinking", "thinking": []}]}, "length", "spent its tokens thinking"),
        ({"content": None, "refusal": "no"}, "stop", "declined to answer"),
        ({"content": "ab"}, "content_filter", "declined to answer"),
        ({"content": None, "tool_calls": [{}]}, "tool_calls", "called a tool"),
    ],
)
async def test_an_answer_that_is_none_is_named_charged_and_not_tried_again(
    message: dict[str, Any], finish: str, sentence: str
) -> None:
    answer = chat("") | {"choices": [{"message": message, "finish_reason": finish}]}
    async with upstream(lambda _: answer) as served:
        engine = await served.engine()
        trace = await engine.solve("q", Always("m"))
        await engine.close()
    assert trace.stop == "error" and sentence in str(trace.error) and len(served.bodies) == 1
    assert trace.usage["m"] == Usage(prompt=7, discarded=5)


@pytest.mark.parametrize(
    ("content", "finish"),
    [
        ("ab", "stop"),
        ("ab", None),
        ("ab", "end_turn"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "stop"),
        ([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "ab"}], "stop"),
        (["a", "b"], "stop"),
    ],
)
async def test_an_answer_in_any_dialect_is_its_text(content: Any, finish: Any) -> None:
    async with upstream(lambda _: chat(content, finish)) as served:
        engine = await served.engine()
        trace = await engine.solve("q", Always("m"))
        await engine.close()
    assert trace.stop == "answered" and trace.text == "ab"


async def test_a_dialect_is_spoken_as_the_pair_says() -> None:
    options: dict[str, Any] = {
        "omit": ["temperature", "top_p", "stop", "seed"], "max_tokens_field": "max_completion_tokens",
        "logprobs": True, "top_logprobs": 5, "extra_body": {"reasoning_effort": "low"},
        "headers": {"X-Team": "a"}, "answers_as": ["alias"],
    }  # fmt: skip
    async with upstream(lambda _: chat("One.\n\nTwo.", model="alias-2025-01-01", completion=8)) as served:
        model = served.model(**options)
        backend = await asyncio.to_thread(model.open, options_of("transformers"), 1)
        done = await backend.generate(backend.encode("q"), Sampling(9, 0.5, 0.9, 1, ("\n\n",)))
        await backend.close()
    assert served.bodies[0] == {
        "model": "m", "max_completion_tokens": 9, "logprobs": True, "top_logprobs": 5,
        "reasoning_effort": "low", "messages": [{"role": "user", "content": "q"}],
    }  # fmt: skip
    assert served.headers[0]["X-Team"] == "a"
    assert (done.text, done.finish) == ("One.\n\n", "stop")  # cut here, where the server must not
    assert done.usage.completion + done.usage.discarded == 8 and done.usage.discarded > 0


@pytest.mark.parametrize(
    ("name", "fits"), [("m", True), ("m-2025-04-14", True), ("m-turbo", False), ("m4", False), ("n", False)]
)
async def test_another_models_answer_is_refused(name: str, fits: bool) -> None:
    async with upstream(lambda _: chat("ab", model=name)) as served:
        engine = await served.engine()
        trace = await engine.solve("q", Always("m"))
        await engine.close()
    assert (trace.error is None) is fits and trace.usage["m"].prompt == 7


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"omit": ["messages"]}, "omit must be of temperature, top_p, stop and seed, not 'messages'"),
        ({"top_logprobs": 1}, "top_logprobs must be from 2 to 20, not 1"),
        ({"answer_tokens": 0}, "answer_tokens must be at least 1, not 0"),
        ({"extra_body": {"messages": []}}, "extra_body must not set messages"),
        ({"headers": {"a b": "c"}}, "'a b' cannot be the name of a header"),
        ({"headers": {"a": "b\r\nc"}}, "the value of 'a' must be printable"),
    ],
)
def test_a_dialect_that_cannot_be_spoken_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Options(base_url="http://server/v1", **options)


@pytest.mark.parametrize(
    "logprobs", [{"content": []}, None, {"content": None}, {}, {"content": [{"logprob": 0}]}]
)
async def test_a_draft_without_log_probabilities_goes_to_the_large_model(logprobs: Any) -> None:
    def answer(_: Any) -> Any:
        whole = chat("The answer is 1.")
        whole["choices"][0] |= {"logprobs": logprobs}
        return whole

    async with upstream(answer) as served:
        small = served.model("small", served_name="m", logprobs=True)
        engine = await served.engine(small, served.model("large", served_name="m"))
        trace = await engine.solve("q", ThresholdRouter(Confidence(), 1e9, "confidence"))
        await engine.close()
    assert {step.model for step in trace.steps} == {"large"}
    assert trace.steps[0].decision is not None and "no signal" in trace.steps[0].decision.reason


def test_pieces_are_the_text_and_shares_the_total() -> None:
    paragraphs = Boundaries(("\n\n",))
    assert pieces("a\n\nb\n\n", paragraphs) == ["a\n\n", "b\n\n"]
    assert pieces("a\n\n\n\nb", paragraphs) == ["a\n\n", "\n\nb"]
    assert pieces("a\n\nb\n\n\n", paragraphs) == ["a\n\n", "b\n\n\n"]
    for text, total in itertools.product(["", "\n\n", "a", "a\n\nbb\n\nccc", "\n\na\n\n"], [0, 1, 7]):
        assert "".join(pieces(text, paragraphs)) == text
        assert sum(shares(total, [len(piece) for piece in pieces(text, paragraphs)])) in (total, 0)


def counting(ignores: bool) -> Any:
    """A server whose template opens every message with five tokens, also the one that is to be written."""

    def answer(body: dict[str, Any]) -> Any:
        messages = body.get("messages", [])
        goes_on = body.get("continue_final_message") and not ignores
        words = sum(len(message["content"].split()) for message in messages)
        return chat("nine ten", prompt=words + 5 * (len(messages) + (not goes_on)))

    return answer


@pytest.mark.parametrize("ignores", [False, True])
async def test_the_doctor_tells_a_server_that_ignores_continue_final_message(ignores: bool) -> None:
    async with upstream(counting(ignores)) as served:
        finding = (await asked(served))["continues the assistant's message"]
    assert finding[0] is not ignores
    assert ("ignores it: a message of 8 tokens added 13" in finding[1]) is ignores


async def test_the_doctor_tells_a_server_that_repeats_what_it_continues() -> None:
    """llama-server gives the begun message back within its answer: each step would hold all before it."""

    def echo(body: dict[str, Any]) -> Any:
        messages = body.get("messages", [])
        begun = messages[-1]["content"] if body.get("continue_final_message") else ""
        words = sum(len(message["content"].split()) for message in messages)
        return chat(f"{begun} nine ten", prompt=words + 5 * len(messages))

    async with upstream(echo) as served:
        works, note = (await asked(served))["continues the assistant's message"]
    assert not works and "repeats the message that it continues" in note


async def test_the_doctor_asks_what_the_engine_asks() -> None:
    async with upstream(lambda _: chat("One.", completion=3)) as served:
        await asked(served)
        doctor = [body for body in served.bodies if "messages" in body]
        served.bodies.clear()
        engine = await served.engine(served.model(continues=True, logprobs=True), max_steps=2)
        await engine.solve("q", LargeFirst(1, "m", "m"))
        await engine.close()
    shapes = {tuple(sorted(body)) for body in doctor}
    assert len(served.bodies) == 2
    for body in served.bodies:
        assert any(set(shape) | {"logprobs", "top_logprobs"} == set(body) for shape in shapes)


async def asked(served: Upstream) -> dict[str, tuple[bool, str]]:
    return {f.what: (f.works, f.note) for f in await examine(served.url, "m")}
