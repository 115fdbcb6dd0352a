"""The tree remembers what is in use."""

from __future__ import annotations

import pickle

import pytest

from envs import tree as trees
from envs.tree import Node, Tree
from stepwise.types import Look, Problem
from tests.worlds import engine, problem

OFTEN, *OTHERS = [problem(i, 1) for i in range(8)]


def test_problems_begun_longest_ago_are_forgotten_first() -> None:
    tree = Tree(engine(), "before", max_nodes=12)

    async def walk(start: Problem) -> None:
        node = await tree.root(start)
        while node.trace.stop is None:
            node = await tree.child(node, 1)

    async def walk_all() -> None:
        for other in OTHERS:
            await walk(OFTEN)
            await walk(other)

    tree.engine.run(walk_all())
    assert tree.size == 12  # a root and three steps, of three problems
    assert tree.known_root(OFTEN) and tree.known_root(OTHERS[-1]) and tree.known_root(OTHERS[-2])
    assert not any(map(tree.known_root, OTHERS[:-2]))


def test_a_problem_larger_than_the_limit_is_walked_all_the_same() -> None:
    tree = Tree(engine(), "before", max_nodes=2)

    async def walk(start: Problem) -> str:
        node = await tree.root(start)
        while node.trace.stop is None:
            node = await tree.child(node, 1)
        return node.trace.answer

    assert [tree.engine.run(walk(p)) for p in (OFTEN, OTHERS[0], OFTEN)] == ["1", "2", "1"]


def every_chain(tree: Tree, start: Problem) -> list[Node]:
    """The nodes of a problem, each way through them walked once."""

    async def walk() -> list[Node]:
        nodes, ahead = [], [await tree.root(start)]
        while ahead:
            node = ahead.pop()
            nodes.append(node)
            if node.stop is None:
                ahead += [await tree.child(node, action) for action in (0, 1)]
        return nodes

    return tree.engine.run(walk())


@pytest.mark.parametrize("look", ["before", "probe", "after_draft"])
def test_packed_chains_are_what_they_were_and_grow_as_they_would_have(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = problem(1, 8, 2, 9)
    whole = every_chain(Tree(engine(), look), long)
    monkeypatch.setattr(trees, "MAX_WHOLE", 0)
    packed = every_chain(Tree(engine(), look), long)
    assert len(packed) == len(whole) > 20 and all(isinstance(node.state, bytes) for node in packed)
    for node, other in zip(packed, whole, strict=True):
        assert node.trace == other.trace and node.trace.usage == other.trace.usage
        assert node.cost == other.cost and (node.features == other.features).all()


def test_a_packed_chain_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "MAX_WHOLE", 0)
    nodes = every_chain(Tree(engine(), "after_draft"), problem(*[1] * 8))
    past = [len(pickle.dumps(node.past.step)) for node in nodes if node.past]
    assert max(past) < 1000 and max(len(pickle.dumps(node.state)) for node in nodes) < 1000
