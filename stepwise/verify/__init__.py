r"""Whether an answer is right: find it in a text, and compare it with the gold answer.

`extract_answer` reads what a chain of thought states; `equivalent` compares numbers and words here, in exact
arithmetic, and leaves the rest (LaTeX, sets, intervals, matrices) to `math-verify` in worker processes with a
time limit. `verify` is `equivalent` for event loops, and `warm` starts a worker ahead of time. `Grader` asks a model about what rules cannot compare. docs/verification.md has how often they
agree with recorded grades.
"""

from stepwise.verify.compare import equivalent, verify
from stepwise.verify.extract import extract_answer
from stepwise.verify.symbolic import warm

__all__ = ["equivalent", "extract_answer", "verify", "warm"]
