"""The tree of a problem's chains, kept in memory as episodes discover it.

Generation is deterministic (greedy, or seeded by the prefix), so what follows a choice is a value:
an episode that walks where another has been costs no engine call. The step store has the same
completions on disk; the tree saves looking them up and reading features off the trace again.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
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
MAX_PAUSE = 60.0
"""Seconds from one try to the next."""


@dataclass(slots=True, eq=False)
class Node:
    """A chain with what the agent sees of it, and the chains one step longer by who writes the step.

    ``chain`` is what the engine grows, ``trace`` its value.
    ``open`` [actions] says which make sense: a model whose context leaves no room for a step cannot write
    one, and a draft is read once.
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
        patience_s: how long to wait for a model that cannot be run for now, in seconds; with 0, and for
            failures that will not pass, the chain has failed.
        max_nodes: beyond it the problems that were begun longest ago are forgotten.
        verify: the last action lets the most expensive model read the draft.
    """

    def __init__(
        self,
        engine: Engine,
        look: Look,
        observer: Observer = DEFAULT_OBSERVER,
        patience_s: float = 0.0,
        max_nodes: int = MAX_NODES,
        verify: bool = False,
    ) -> None:
        self.engine, self._look, self._observer, self._max = engine, look, observer, max_nodes
        self._patience_s = patience_s
        self._expects = not set(ESTIMATES).isdisjoint(observer.features)
        self.all = np.ones(len(engine.models) + verify, bool)
        self._roots: OrderedDict[Problem, Node] = OrderedDict()  # the one begun longest ago first
        self._sizes: Counter[Problem] = Counter()
        self.size = 0

    def known_root(self, problem: Problem) -> Node | None:
        """`root`, where an episode has been before."""
        if problem in self._roots:
            self._roots.move_to_end(problem)
        return self._roots.get(problem)

    @staticmethod
    def known_child(node: Node, action: int) -> Node | None:
        """`child`, where an episode has been before."""
        return node.children.get(action)

    async def root(self, problem: Problem) -> Node:
        """The empty chain, looked at. A failure is in its trace and is not remembered.

        Raises:
            BackendError: if a model cannot be run for longer than ``patience_s``.
        """
        node = self.known_root(problem)
        if node is None:
            node = await self._seen(await self._grown(lambda: self.engine.start(problem)))
            if node.trace.stop != "error":
                node = self._roots.setdefault(problem, node)  # another episode may have been quicker
                self._count(problem)
        return node

    async def child(self, node: Node, action: int) -> Node:
        """The chain after model number ``action`` wrote the next step, or after the draft was read; the same
        node if it has ended.

        Raises:
            BackendError: if a model cannot be run for longer than ``patience_s``.
        """
        if node.trace.stop is not None:
            return node
        child = self.known_child(node, action)
        if child is None:
            writes = action < len(self.engine.models)
            model = self.engine.models[action] if writes else None
            look: Look = self._look if writes else "verified"
            child = await self._seen(await self._grown(node.chain.fork, model, look))
            if child.trace.stop != "error":
                child = node.children.setdefault(action, child)
                self._count(child.trace.problem)
        return child

    def _count(self, problem: Problem) -> None:
        """A problem has one more node; beyond the limit others are forgotten."""
        if problem in self._roots:
            self._sizes[problem] += 1
            self.size += 1
        while self.size > self._max and len(self._roots) > 1:
            oldest, _ = self._roots.popitem(last=False)
            self.size -= self._sizes.pop(oldest)

    async def _grown(
        self, fork: Callable[[], Chain], model: str | None = None, look: Look | None = None
    ) -> Chain:
        """A new chain that ``model`` has written a step of, if one does, looked at."""
        waited, pause = 0.0, 1.0
        while True:
            chain = fork()
            try:
                if model is not None:
                    await self.engine.advance(chain, model)
                if chain.trace.stop is None:
                    await self.engine.look(chain, look or self._look, expects=self._expects)
            except BackendError as error:
                if not error.retryable or not self._patience_s:
                    await self.engine.fail(chain, error)
                    return chain
                await self.engine.abandon(chain)
                if waited >= self._patience_s:
                    raise BackendError(f"{error} Waited {waited:g} s for it.", model=error.model) from error
            else:
                return chain
            await asyncio.sleep(pause)
            waited, pause = waited + pause, min(2 * pause, MAX_PAUSE)

    async def _seen(self, chain: Chain) -> Node:
        small, large = self.engine.models[0], self.engine.models[-1]
        trace = chain.trace
        features = self._observer.observe(trace, small, large)
        cost = self._observer.cost(trace, large)
        return Node(chain, features, self._open(trace), cost, await correct(trace))

    def _open(self, trace: Trace) -> NDArray[np.bool_]:
        """Which actions make sense; all of them where the chain has ended: then no choice matters."""
        if trace.stop is not None:
            return self.all
        models, read = self.engine.models, bool(trace.draft and trace.draft.reading)
        if not trace.full and not (read and len(self.all) > len(models)):
            return self.all
        readable = not read and models[-1] not in trace.full
        open_ = [*(model not in trace.full for model in models), readable]
        return np.array(open_[: len(self.all)])
