"""The tree remembers what is in use."""

from __future__ import annotations

from envs.tree import Tree
from stepwise.types import Problem
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
