"""The observation of a learned router: numbers read off a trace, the same in training and serving.

    index  feature          range    meaning
    0      draft_worst      [0, 1]   probability of the draft's least likely token
    1      draft_min        [-1, 0]  its log-probability / 5
    2      draft_mean       [-1, 0]  mean log-probability of the draft's tokens
    3      draft_entropy    [0, 1]   entropy of the draft's first token / ln 20
    4      draft_margin     [0, 1]   smallest top-2 probability gap in the draft
    5      draft_whole      [0, 1]   probability of the draft as a whole
    6      draft_length     [0, 1]   tokens of the draft / 64
    7      position         [0, 1]   steps so far / 16
    8      prompt_length    [0, 1]   tokens of the prompt / 256
    9      unread           [0, 1]   tokens that the dearest model would have to read first / 512
    10     large_share      [0, 1]   share of the steps so far that the cheapest model did not write
    11     large_last       {0, 1}   whether the cheapest model did not write the last step
    12     worst_accepted   [0, 1]   probability of the least likely token in any accepted draft
    13     trust            [0, 1]   product of the accepted drafts' least token probabilities

A policy that is seeded by SCOPE (`stepwise.scope`) observes `PRIOR` too, what was expected before the start:

    14     prior_small      [0, 1]   probability that the cheapest model would be right alone
    15     prior_large      [0, 1]   the same of the dearest model
    16     prior_length     [0, 1]   tokens that the cheapest model would write / 512

Which of them a policy observes is in its artifact, so that older ones run as they were trained.

Values are clipped to their range. Draft features are 0 where no draft is waiting (``before``), and
describe one token where a probe is. Everything comes from measured usage and signals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stepwise.errors import StepwiseError
from stepwise.types import Trace

FEATURES = (
    "draft_worst",
    "draft_min",
    "draft_mean",
    "draft_entropy",
    "draft_margin",
    "draft_whole",
    "draft_length",
    "position",
    "prompt_length",
    "unread",
    "large_share",
    "large_last",
    "worst_accepted",
    "trust",
)
PRIOR = ("prior_small", "prior_large", "prior_length")
KNOWN = FEATURES + PRIOR
_RANGES = {"draft_min": (-1, 0), "draft_mean": (-1, 0)}


def bounds(features: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Least and largest values, each [len(features)]."""
    low, high = np.array([_RANGES.get(name, (0, 1)) for name in features], dtype=np.float32).T
    return low, high


LOW, HIGH = bounds(KNOWN)
_ENTROPY = math.log(20)


def observe(trace: Trace, small: str, large: str, features: Sequence[str] = FEATURES) -> NDArray[np.float32]:
    """The observation [len(features)] for a trace: `FEATURES`, or those and `PRIOR`.

    Args:
        trace: the chain so far, with the draft that the router asked for.
        small: name of the cheapest model, the one that drafts.
        large: name of the dearest model.

    Raises:
        StepwiseError: if the estimates are asked for and the trace has none.
    """
    draft, steps = trace.draft, trace.steps
    signals = draft.signals if draft else None
    accepted = [step.signals.min_logprob for step in steps if step.model == small]
    written = sum(len(step.token_ids) for step in steps)
    values: tuple[float, ...] = (
        math.exp(signals.min_logprob) if signals else 0.0,
        signals.min_logprob / 5 if signals else 0.0,
        signals.mean_logprob if signals else 0.0,
        signals.first_entropy / _ENTROPY if signals else 0.0,
        signals.margin if signals else 0.0,
        math.exp(signals.mean_logprob * signals.length) if signals else 0.0,
        signals.length / 64 if signals else 0.0,
        len(steps) / 16,
        trace.prompt_tokens / 256,
        (trace.prompt_tokens + written - _read(trace, large)) / 512,
        1.0 - len(accepted) / len(steps) if steps else 0.0,
        float(bool(steps) and steps[-1].model != small),
        math.exp(min(accepted, default=0.0)),
        math.exp(sum(accepted)),
    )
    if len(features) > len(FEATURES):
        values += _prior(trace, small, large)
    return np.clip(np.array(values, dtype=np.float32), LOW[: len(values)], HIGH[: len(values)])


def _prior(trace: Trace, small: str, large: str) -> tuple[float, float, float]:
    found = {one.model: one for one in trace.estimates}
    if small not in found or large not in found:
        raise StepwiseError(
            "this policy observes SCOPE's estimates, and the trace has none; set engine.prior."
        )
    return found[small].p_correct, found[large].p_correct, found[small].tokens / 512


def _read(trace: Trace, model: str) -> int:
    """Tokens of the chain that a model has already processed: up to the last step that it wrote."""
    written = 0
    for i in reversed(range(len(trace.steps))):
        if trace.steps[i].model == model:
            written = sum(len(step.token_ids) for step in trace.steps[: i + 1])
            return trace.prompt_tokens + written
    return 0
