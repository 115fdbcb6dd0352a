"""Tenants are isolated; and docs/security.md names tests that exist."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from hypothesis import given

from stepwise.gateway import Keys, Tenant
from stepwise.gateway.keys import digest
from tests.stepwise.gateway.serving import app_of, chat, client
from tests.stepwise.gateway.test_fuzz import NOISE, bodies, robust_engine

ROOT = Path(__file__).parents[3]
CHAT = "/v1/chat/completions"
NAMES = ("mallory", "bob")
KEYS = Keys([Tenant(name, digest(f"{name}'s key")) for name in NAMES])
MALLORY, BOB = ({"Authorization": f"Bearer {name}'s key"} for name in NAMES)


def timeless(answer: Any) -> Any:
    """An answer without what differs from one call to the next."""
    for choice in answer["choices"]:
        for step in choice["stepwise"]["steps"]:
            del step["finished"]
    return {name: value for name, value in answer.items() if name not in ("id", "created")}


def test_a_hostile_neighbour_changes_nothing() -> None:
    """Whatever Mallory sends, before and beside Bob's request."""
    loop = asyncio.new_event_loop()
    http = client(app_of(robust_engine(), keys=KEYS))

    async def ask_as_bob() -> Any:
        answer = await http.post(CHAT, json=chat("1 7 2"), headers=BOB)
        assert answer.status_code == 200
        return timeless(answer.json())

    undisturbed = loop.run_until_complete(ask_as_bob())

    @given(bodies)
    @NOISE
    def disturb(body: Any) -> None:
        async def together() -> Any:
            content = json.dumps(body).encode()
            hostile = http.post(CHAT, content=content, headers=MALLORY)
            _, answer = await asyncio.gather(hostile, ask_as_bob())
            assert (await http.get("/ready")).status_code == 200
            recent = (await http.get("/stepwise/recent", headers=BOB)).json()["recent"]
            assert {entry["model"] for entry in recent} == {"stepwise"}
            return answer

        assert loop.run_until_complete(together()) == undisturbed

    try:
        disturb()
        loop.run_until_complete(http.aclose())
    finally:
        loop.close()


def test_the_tests_that_the_page_names_exist() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 15 and named <= set(re.findall(r"def (test_\w+)", tests))
