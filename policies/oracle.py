"""The oracle frontier: the least that a right answer costs, found by search with hindsight.

A best-first search through the tree of a problem's continuations, by cost, stops at the first
chain that ends right. No router can spend less on that problem and be right, short of drafts that
it throws away, which the oracle never needs.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.tree import Node, Tree
from stepwise.types import Problem


@dataclass(frozen=True)
class Best:
    """What search found for one problem; costs in the engine's unit.

    Attributes:
        cheapest: cost of the cheapest chain, right or wrong.
        cheapest_correct: whether that one is right.
        right: cost of the cheapest right chain; nan if none was found.
        nodes: chains that were looked at.
        complete: whether the search ended by itself rather than at its limit.
    """

    problem: str
    cheapest: float
    cheapest_correct: bool
    right: float
    nodes: int
    complete: bool


async def search(tree: Tree, problem: Problem, max_nodes: int = 2000) -> Best:
    """Find the cheapest right chain of a problem.

    Args:
        tree: with ``look="before"``: the oracle needs no drafts.
        max_nodes: the search gives up after as many chains.
    """
    order = itertools.count()  # equal costs: first come, first served
    heap: list[tuple[float, int, Node]] = [(0.0, next(order), await tree.root(problem))]
    ends: list[Node] = []
    looked = 0
    while heap and looked < max_nodes and not (ends and ends[-1].correct):
        _, _, node = heapq.heappop(heap)
        looked += 1
        if node.stop is not None:
            if node.stop != "error":  # what nobody recorded is no cheap end of a chain
                ends.append(node)
            continue
        for child in await asyncio.gather(*(tree.child(node, i) for i in range(len(tree.engine.models)))):
            heapq.heappush(heap, (child.cost, next(order), child))
    first, last = (ends or [node])[0], (ends or [node])[-1]
    right = last.cost if last.correct else float("nan")
    return Best(problem.id, first.cost, first.correct, right, looked, last.correct or not heap)


def frontier(best: Sequence[Best], unit: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(cost, accuracy) as money goes where an answer is cheapest to mend.

    Args:
        best: one a problem.
        unit: cost of one unit, the mean cost of large-only.

    Returns:
        two arrays, ascending: mean cost in units, and accuracy.
    """
    extra = np.sort([b.right - b.cheapest for b in best if not b.cheapest_correct and b.right == b.right])
    start = sum(b.cheapest for b in best)
    right = sum(b.cheapest_correct for b in best)
    cost = (start + np.concatenate([[0.0], np.cumsum(extra)])) / len(best) / unit
    return cost, (right + np.arange(len(extra) + 1)) / len(best)
