"""The tree of a problem's chains, kept in memory as episodes discover it.

Generation is deterministic (greedy, or seeded by the prefix), so what follows a choice is a value:
an episode that walks where another has been costs no engine call. The step store has the same
completions on disk; the tree saves looking them up and reading features off the trace again.

A chain that has not been grown for a while is packed: its node keeps what an episode needs to walk by, and as
bytes what the engine needs to grow it.
"""

from __future__ import annotations

import asyncio
import pickle
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from envs.observer import DEFAULT_OBSERVER, Observer
from stepwise.engine.chain import Chain
from stepwise.engine.engine import Engine
from stepwise.errors import BackendError
from stepwise.routers.features import ESTIMATES
from stepwise.types import Look, Problem, Step, Stop, Trace
from stepwise.verify import correct

MAX_NODES = 500_000
MAX_WHOLE = 4096
"""Nodes whose chains are kept whole: those that were reached last, which episodes are about to leave."""
MAX_PAUSE = 60.0
"""Seconds from one try to the next."""
NOBODY = Problem("", "")


@dataclass(slots=True, eq=False)
class Past:
    """The last step of a chain, whole or packed, what was before it, and how many steps these are."""

    before: Past | None
    step: Step | bytes
    length: int


@dataclass(slots=True, eq=False)
class Node:
    """A chain with what the agent sees of it, and the chains one step longer by who writes the step.

    ``past`` has its steps, ``state`` everything else that the engine needs to grow it.
    ``open`` [actions] says which make sense: a model whose context leaves no room for a step cannot write
    one, and a draft is read once.
    """

    problem: Problem
    past: Past | None
    state: Chain | bytes
    features: NDArray[np.float32]
    open: NDArray[np.bool_]
    cost: float
    correct: bool
    stop: Stop | None
    children: list[Node | None]

    @property
    def chain(self) -> Chain:
        """What the engine grows."""
        if isinstance(self.state, Chain):
            return self.state
        rest, ledger = pickle.loads(self.state)
        chain = Chain(replace(rest, problem=self.problem, steps=self._steps()))
        chain.ledger = ledger
        return chain

    @property
    def trace(self) -> Trace:
        """Its value."""
        return self.chain.trace

    def pack(self) -> None:
        """Keep the chain as bytes."""
        if isinstance(self.state, Chain):
            rest = replace(self.state.trace, problem=NOBODY, steps=())
            self.state = pickle.dumps((rest, self.state.ledger), pickle.HIGHEST_PROTOCOL)
        if self.past and isinstance(self.past.step, Step):
            self.past.step = pickle.dumps(self.past.step, pickle.HIGHEST_PROTOCOL)

    def _steps(self) -> tuple[Step, ...]:
        steps: list[Step] = []
        past = self.past
        while past:
            steps.append(past.step if isinstance(past.step, Step) else pickle.loads(past.step))
            past = past.before
        return tuple(reversed(steps))


class Tree:
    """Grows and remembers nodes.

    Args:
        engine: grows the chains.
        look: what is in the trace when the agent decides.
        observer: what the agent sees and pays.
        patience_s: how long to wait for a model that cannot be run for now, in seconds; with 0, and for
            failures that will not pass, the chain has failed.
        max_nodes: beyond it the problems that no episode has begun for longest are forgotten.
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
        self._whole: deque[Node] = deque()
        self.size = 0

    def known_root(self, problem: Problem) -> Node | None:
        """`root`, where an episode has been before."""
        if problem in self._roots:
            self._roots.move_to_end(problem)
        return self._roots.get(problem)

    @staticmethod
    def known_child(node: Node, action: int) -> Node | None:
        """`child`, where an episode has been before."""
        return node.children[action]

    async def root(self, problem: Problem) -> Node:
        """The empty chain, looked at. A failure is in its trace and is not remembered.

        Raises:
            BackendError: if a model cannot be run for longer than ``patience_s``.
        """
        node = self.known_root(problem)
        if node is None:
            node = await self._seen(await self._grown(lambda: self.engine.start(problem)), None)
            if node.stop != "error":
                node = self._roots.setdefault(problem, node)  # another episode may have been quicker
                self._count(problem)
        return node

    async def child(self, node: Node, action: int) -> Node:
        """The chain after model number ``action`` wrote the next step, or after the draft was read; the same
        node if it has ended.

        Raises:
            BackendError: if a model cannot be run for longer than ``patience_s``.
        """
        if node.stop is not None:
            return node
        child = self.known_child(node, action)
        if child is None:
            writes = action < len(self.engine.models)
            model = self.engine.models[action] if writes else None
            look: Look = self._look if writes else "verified"
            fork = node.chain.fork
            child = await self._seen(await self._grown(fork, model, look), node)
            if child.stop != "error":
                node.children[action] = child = self.known_child(node, action) or child
                self._count(child.problem)
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

    async def _seen(self, chain: Chain, before: Node | None) -> Node:
        """The node of a chain that has just been grown, one step from the node ``before``."""
        small, large = self.engine.models[0], self.engine.models[-1]
        trace = chain.trace
        past = before.past if before else None
        if len(trace.steps) > (past.length if past else 0):  # else the model failed
            past = Past(past, trace.steps[-1], len(trace.steps))
        node = Node(
            trace.problem, past, chain, self._observer.observe(trace, small, large), self._open(trace),
            self._observer.cost(trace, large), await correct(trace), trace.stop, [None] * len(self.all),
        )  # fmt: skip
        self._whole.append(node)
        if len(self._whole) > MAX_WHOLE:
            self._whole.popleft().pack()
        return node

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
