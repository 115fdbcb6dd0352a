"""Conversations: what a turn has in common with the turns before it.

A turn's prompt is rendered anew from all that was said, by each model's own chat template. What it shares
with the prompt of an earlier turn is what a model that read that one may have in its cache, and all turns of
a conversation share what it began with: so they find the same server of several.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from stepwise.types import Form, Problem, Turn


def before(problem: Problem, messages: int) -> Problem | None:
    """The earlier turn of a conversation whose prompt was its first ``messages``; None for none."""
    if messages < 1:
        return None
    if problem.form is not None:
        return replace(problem, form=replace(problem.form, messages=problem.form.messages[:messages]))
    if messages > len(problem.turns) or problem.turns[messages - 1].role != "user":
        return None
    return replace(problem, question=problem.turns[messages - 1].text, turns=problem.turns[: messages - 1])


def opening(problem: Problem) -> Problem | None:
    """The first turn of the conversation; None where this is it."""
    if problem.form is not None:
        roles = [json.loads(message).get("role") for message in problem.form.messages]
    else:
        roles = [turn.role for turn in problem.turns]
    return before(problem, roles.index("user") + 1) if "user" in roles else None


def with_system(system: str, turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The conversation with one system message at its start: ``system``, then what the caller's say there."""
    said = [system] if system else []
    rest = list(turns)
    while rest and rest[0].role == "system":
        said.append(rest.pop(0).text)
    return (Turn("system", "\n\n".join(said)), *rest) if said else tuple(rest)


def written_out(form: Form) -> str:
    """The whole request of a turn of a given form, what is the same in all turns first."""
    return "\n".join((form.options, *form.messages))
