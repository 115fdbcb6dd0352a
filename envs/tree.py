"""The tree of a problem's chains, kept in memory as episodes discover it.

Generation is deterministic (greedy, or seeded by the prefix), so what follows a choice is a value:
an episode that walks where another has been costs no engine call. The step store has the same
completions on disk; the tree saves looking them up and reading features off the trace again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from envs.observer import DEFAULT_OBSERVER, Observer
from stepwise.engine.chain import Chain
from stepwise.engine.engine import Engine
from stepwise.errors import BackendError
from stepwise.routers.features import ESTIMATES
from stepwise.types import Look, Problem, Trace
from stepwise.verify import correct

MAX_NODES = 500_000


@dataclass(slots=True, eq=False)
class Node:
    """A chain with what the agent sees of it, and the chains one step longer by who writes the step.

    ``chain`` is what the engine grows, ``trace`` its value.
    ``open`` [models] says who can: a model whose context leaves no room for a step cannot.
    """

    chain: Chain
    features: NDArray[np.float32]
    open: NDArray[np.bool_]
    cost: float
    correct: bool
    children: dict[int, Node] = field(default_factory=dict)

    @property
    def trace(self) -> Trace:
        return self.chain.trace


class Tree:
    """Grows and remembers nodes.

    Args:
        engine: grows the chains.
        look: what is in the trace when the agent decides.
        observer: what the agent sees and pays.
        max_nodes: beyond it everything is forgotten; about 2 kB a node.
    """

    def __init__(
        self,
        engine: Engine,
        look: Look,
        observer: Observer = DEFAULT_OBSERVER,
        max_nodes: int = MAX_NODES,
    ) -> None:
        self.engine, self._look, self._observer, self._max = engine, look, observer, max_nodes
        self._expects = not set(ESTIMATES).isdisjoint(observer.features)
        self._all = np.ones(len(engine.models), bool)
        self._roots: dict[Problem, Node] = {}
        self.size = 0

    def known_root(self, problem: Problem) -> Node | None:
        """`root`, where an episode has been before."""
        return self._roots.get(problem)

    @staticmethod
    def known_child(node: Node, action: int) -> Node | None:
        """`child`, where an episode has been before."""
        return node.children.get(action)

    async def root(self, problem: Problem) -> Node:
        """The empty chain, looked at. A failure is in its trace and is not remembered."""
        node = self.known_root(problem)
        if node is None:
            node = await self._seen(self.engine.start(problem))
            if node.trace.stop != "error":
                node = self._roots.setdefault(problem, node)  # another episode may have been quicker
        return node

    async def child(self, node: Node, action: int) -> Node:
        """The chain after model number ``action`` wrote the next step; the same node if it has ended."""
        if node.trace.stop is not None:
            return node
        child = self.known_child(node, action)
        if child is None:
            chain = node.chain.fork()
            try:
                await self.engine.advance(chain, self.engine.models[action])
            except BackendError as error:
                await self.engine.fail(chain, error)
            child = await self._seen(chain)
            if child.trace.stop != "error":
                child = node.children.setdefault(action, child)
        return child

    async def _seen(self, chain: Chain) -> Node:
        if chain.trace.stop is None:
            try:
                await self.engine.look(chain, self._look, expects=self._expects)
            except BackendError as error:
                await self.engine.fail(chain, error)
        if self.size >= self._max:
            self._roots.clear()
            self.size = 0
        self.size += 1
        small, large = self.engine.models[0], self.engine.models[-1]
        trace = chain.trace
        features = self._observer.observe(trace, small, large)
        cost = self._observer.cost(trace, large)
        return Node(chain, features, self._open(trace), cost, await correct(trace))

    def _open(self, trace: Trace) -> NDArray[np.bool_]:
        """Who can write the next step; all of them where the chain has ended: then no choice matters."""
        if not trace.full or trace.stop is not None:
            return self._all
        return np.array([model not in trace.full for model in self.engine.models])
