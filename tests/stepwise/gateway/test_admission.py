"""Back-pressure: who runs, who waits, who is sent away."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwise.errors import ConfigError
from stepwise.gateway.admission import Admission, Limits, Ticket
from stepwise.gateway.failures import Refusal
from stepwise.gateway.keys import ANYONE, Tenant

moves = st.lists(st.one_of(st.integers(1, 4), st.just("release")), max_size=60)


@given(moves, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_never_too_many_run_and_nobody_is_overtaken(moves: list[int | str], random: Any) -> None:
    import asyncio

    async def play() -> None:
        admission = Admission(Limits(concurrency=4, queue=6))
        order: list[Ticket] = []
        for move in moves:
            if isinstance(move, int):
                try:
                    order.append(admission.ask(ANYONE, move))
                except Refusal as refused:
                    assert refused.status == 429 and refused.retry_after is not None
                    assert admission.waiting + move > 6
            elif order:
                gone = order.pop(random.randrange(len(order)))
                admission.release(gone)
                admission.release(gone)
            running = [ticket for ticket in order if ticket.begun is not None]
            assert admission.running == sum(ticket.chains for ticket in running) <= 4
            assert admission.waiting == sum(t.chains for t in order if t.begun is None) <= 6
            assert running == order[: len(running)], "first come, first served"
            waiting = [ticket for ticket in order if ticket.begun is None]
            assert not waiting or admission.running + waiting[0].chains > 4, "nobody waits for nothing"
        for ticket in order:
            admission.release(ticket)
        assert admission.running == admission.waiting == 0

    asyncio.run(play())


async def test_a_key_has_a_limit_of_its_own() -> None:
    admission, alice = Admission(Limits(concurrency=10)), Tenant("alice", "0", concurrency=2)
    first = admission.ask(alice, 2)
    with pytest.raises(Refusal, match="this key may run 2 chains at once") as refused:
        admission.ask(alice, 1)
    assert refused.value.status == 429 and refused.value.code == "key_concurrency"
    admission.ask(Tenant("bob", "1"), 1)
    admission.release(first)
    admission.ask(alice, 1)


async def test_what_could_never_run_is_no_matter_of_waiting() -> None:
    with pytest.raises(Refusal) as refused:
        Admission(Limits(concurrency=4)).ask(ANYONE, 5)
    assert refused.value.status == 400 and refused.value.retry_after is None


@pytest.mark.parametrize("field, value", [("concurrency", 0), ("queue", -1), ("body", 0), ("seconds", 0)])
def test_limits_that_cannot_work_are_refused(field: str, value: int) -> None:
    with pytest.raises(ConfigError, match=field):
        Limits(**{field: value})
