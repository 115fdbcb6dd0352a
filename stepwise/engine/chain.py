"""A chain in the making: the trace so far, and what matters only while it grows."""

from __future__ import annotations

from stepwise.engine.contexts import Context
from stepwise.engine.ledger import Ledger
from stepwise.engine.lookahead import Lookahead
from stepwise.types import Step, Trace


class Chain:
    """What `stepwise.engine.engine.Engine` grows. Every transition gives it a new trace.

    Attributes:
        trace: the chain so far, a value.
        ledger: what it is charged.
        contexts: by model, the chain as that model reads it.
        lookahead: the generation that goes on behind the last step, if any.
        tokens: of its steps, in the tokens of their writers.
        longest: tokens of the longest of them.
        rest: steps of a whole answer that the chain has paid for and not taken yet.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.ledger = Ledger()
        self.contexts: dict[str, Context] = {}
        self.lookahead: Lookahead | None = None
        self.tokens = self.longest = 0
        for step in trace.steps:
            self.count(step)
        self.rest: tuple[Step, ...] = ()

    def count(self, step: Step) -> None:
        """A step has been appended."""
        self.tokens += step.length
        self.longest = max(self.longest, step.length)

    def fork(self) -> Chain:
        """Another chain that goes on from here; what runs behind this one stays with it."""
        other = Chain(self.trace)
        other.ledger = self.ledger.fork()
        other.contexts = dict(self.contexts)
        other.rest = self.rest
        return other

    async def stop_lookahead(self) -> None:
        """End what runs behind the last step; it is charged, and what the model has read is known."""
        lookahead, self.lookahead = self.lookahead, None
        if lookahead is None:
            return
        try:
            await lookahead.stop()
        finally:
            context = self.contexts[lookahead.model]
            written = lookahead.written(len(context.prefix))
            self.contexts[lookahead.model] = context.having_written(written)
