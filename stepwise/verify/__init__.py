r"""Whether an answer is right: find it in a text, and compare it with the gold answer.

`extract_answer` reads what a chain of thought states; `equivalent` compares numbers and words here, in exact
arithmetic, and leaves the rest (LaTeX, sets, intervals, matrices) to `math-verify` in worker processes with a
time limit. `verify` and `correct` are for code in an event loop: they wait without blocking it,
and `warm` starts a worker ahead of time.
docs/verification.md has how often all this agrees with recorded grades.
"""

from stepwise.verify.awaitable import correct, is_correct, verify
from stepwise.verify.compare import equivalent
from stepwise.verify.extract import extract_answer
from stepwise.verify.symbolic import warm

__all__ = ["correct", "equivalent", "extract_answer", "is_correct", "verify", "warm"]
