"""Conversations: what the models read, what of it counts as read before, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwise.backends.scripted import ScriptedBackend
from stepwise.engine.conversation import before, opening, with_system
from stepwise.engine.cost import Tokens
from stepwise.engine.engine import Engine
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import ConfigError
from stepwise.routers.fixed import Always
from stepwise.store.backend import StoredBackend
from stepwise.store.sqlite import SqliteStore
from stepwise.types import Problem, Trace, Turn
from tests.stepwise.conversing import Conversing, asked

RULE = StepRule("\n", 64, 4)
SYSTEM = Turn("system", "Be brief.")


def engine(*backends: ScriptedBackend, system: str | None = "") -> Engine:
    models = dict(zip(("small", "large"), backends, strict=False))
    return Engine(models, prompt="Q: {question}\nA: ", rule=RULE, cost=Tokens(), system=system)


async def talk(
    world: Engine, *questions: str, model: str = "small", first: Sequence[Turn] = ()
) -> list[Trace]:
    """A conversation by one model, or by those that are named behind a question."""
    traces: list[Trace] = []
    for question in questions:
        problem = traces[-1].then(question) if traces else Problem("p", question, turns=tuple(first))
        traces.append(await world.solve(problem, Always(model)))
    return traces


async def test_the_model_reads_what_was_said_by_its_own_template() -> None:
    model = Conversing(lambda text: f"I read {len(text)}.")
    first, second = await talk(engine(model, system="Think."), "one", "two", first=[SYSTEM])
    assert asked(model)[0] == "[system]Think.\n\nBe brief.[user]one[assistant]"
    assert asked(model)[1] == f"{asked(model)[0]}{first.text}[user]two[assistant]"
    assert second.problem.turns == (SYSTEM, Turn("user", "one"), Turn("assistant", first.text))


async def test_a_bare_question_is_asked_as_ever() -> None:
    model = Conversing(lambda _: "Yes.")
    await engine(model, system="Think.").solve("one", Always("small"))
    assert asked(model) == ["Q: one\nA: "]


async def test_what_was_read_in_earlier_turns_counts_as_cached_at_the_models_that_read_it() -> None:
    """And nothing else does, whatever a server says: it may have been somebody else's."""
    small, large = Conversing(lambda _: "Yes."), Conversing(lambda _: "Yes.")
    world = engine(small, large)
    first, second = await talk(world, "one", "two", first=[SYSTEM])
    length = len("[system]Be brief.[user]one[assistant]")
    assert second.usage["small"].cached == length and first.usage["small"].cached == 0
    third = await world.solve(second.then("three"), Always("large"))
    assert third.usage["large"].cached == 0 and third.usage["large"].prompt == len(asked(large)[0])
    stranger = replace(second.problem, read={})
    assert (await world.solve(stranger, Always("small"))).usage["small"].cached == 0
    fourth = await world.solve(third.then("four"), Always("small"))
    assert fourth.usage["small"].cached == len(asked(small)[1])  # the turn that it has not seen is new


async def test_the_cost_of_one_model_alone_counts_the_turns() -> None:
    world = engine(Conversing(lambda _: "Yes."))
    (trace,) = await talk(world, "two", first=[SYSTEM])
    assert world.cost_alone(trace, "small") == len("[system]Be brief.[user]two[assistant]Yes.")
    assert trace.prompt_tokens == len("[system]Be brief.[user]two[assistant]")


async def test_stored_conversations_are_replayed_exactly_and_kept_apart() -> None:
    model, store = Conversing(lambda text: f"I read {len(text)}."), SqliteStore(":memory:")
    stored = StoredBackend(model, store)
    world = Engine({"small": stored}, prompt="{question}", rule=RULE, cost=Tokens())
    once = await talk(world, "one", "two", "three", first=[SYSTEM])
    calls = len(model.calls)
    assert await talk(world, "one", "two", "three", first=[SYSTEM]) == once and len(model.calls) == calls
    other = await world.solve(replace(once[1].problem, turns=(SYSTEM,)), Always("small"))
    assert other.text != once[1].text and len(model.calls) == calls + 1


async def test_models_that_take_none_say_so_before_any_work() -> None:
    bare = ScriptedBackend(lambda _: "Yes.")
    problem = Problem("p", "two", turns=(SYSTEM,))
    with pytest.raises(
        ConfigError, match="model 'large' takes no such conversation: it has no chat template"
    ):
        await engine(Conversing(lambda _: "Yes."), bare).solve(problem, Always("small"))
    with pytest.raises(ConfigError, match="trained on bare questions and take no conversation"):
        await engine(Conversing(lambda _: "Yes."), system=None).solve(problem, Always("small"))
    assert not bare.calls


turns = st.lists(st.builds(Turn, st.sampled_from(["system", "user", "assistant"]), st.text(max_size=3)))


@given(turns, st.integers(-1, 9))
def test_an_earlier_turn_is_a_beginning_of_the_conversation(said: list[Turn], messages: int) -> None:
    problem = Problem("p", "q", turns=tuple(said))
    earlier = before(problem, messages)
    if earlier is not None:
        whole = (*earlier.turns, Turn("user", earlier.question))
        assert whole == problem.turns[:messages]
    first = opening(problem)
    assert (first is None) == all(turn.role != "user" for turn in said)
    assert first is None or all(turn.role != "user" for turn in first.turns)


@given(st.text(max_size=3), turns)
def test_a_conversation_has_one_system_message_at_its_start(system: str, said: list[Turn]) -> None:
    told, *rest = (*with_system(system, said), None)
    if not system and not (said and said[0].role == "system"):
        assert [told, *rest] == [*said, None]
    else:
        assert told is not None and told.role == "system" and told.text.startswith(system)
        assert not rest[0] or rest[0].role != "system"


async def test_all_turns_of_a_conversation_find_the_same_server() -> None:
    model = Conversing(lambda _: "Yes.")
    world = engine(model)
    roots = []
    for problem in [trace.problem for trace in await talk(world, "one", "two", "three", first=[SYSTEM])]:
        chain = world.start(problem)
        roots.append(chain.contexts["small"].prefix.root())
    other = world.start(Problem("p", "another", turns=(SYSTEM,))).contexts["small"].prefix.root()
    assert len(set(roots)) == 1 and other != roots[0]
