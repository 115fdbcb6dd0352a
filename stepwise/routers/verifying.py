"""Accept, verify or rewrite: a rule that lets the large model read a draft before it writes its own."""

from __future__ import annotations

from dataclasses import dataclass

from stepwise.errors import NoSignal
from stepwise.routers.threshold import Confidence, Verified, waiting_draft
from stepwise.types import Decision, Look, Trace


@dataclass(frozen=True)
class VerifyDoubtful:
    """Accepts a draft that the small model does not doubt, lets ``large`` read the others, and lets it write
    anew what it thinks unlikely.

    Reading costs a prompt, not a generation: in dollars and seconds it is cheaper than a rewrite, in FLOPs it
    is not.

    Args:
        threshold: minus the log-probability of the draft's least likely token under ``large``, in nats, from
            which on it is written anew.
        doubt: the same under the small model, from which on it is read.
    """

    threshold: float
    doubt: float = 0.5
    name: str = "verify_doubtful"
    small: str = "small"
    large: str = "large"
    look: Look = "after_draft"

    def decide(self, trace: Trace) -> Decision:
        """Accept the draft, have it read, or have ``large`` write anew; without a signal the last."""
        try:
            if waiting_draft(trace).reading is None:
                return self._doubted(Confidence().score(trace))
            score = Verified().score(trace)
        except NoSignal as missing:
            return Decision(self.large, None, f"no signal: {missing}")
        rewrite = score >= self.threshold
        sign = ">=" if rewrite else "<"
        reason = f"score {score:.3g} {sign} {self.threshold:.3g} when read"
        return Decision(self.large if rewrite else self.small, score, reason)

    def _doubted(self, doubt: float) -> Decision:
        if doubt < self.doubt:
            return Decision(self.small, 0.0, f"doubt {doubt:.3g} < {self.doubt:.3g}")
        return Decision(self.large, doubt, f"doubt {doubt:.3g} >= {self.doubt:.3g}", look="verified")
