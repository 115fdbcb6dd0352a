"""The observation of a learned router: numbers read off a trace, the same in training and serving.

A policy has its own list of features (``policy.features`` in training; the artifact carries it), given by
name or by group. ``signals`` are the default.

    feature          range    meaning
    *signals*
    draft_worst      [0, 1]   probability of the draft's least likely token
    draft_min        [-1, 0]  its log-probability / 5
    draft_mean       [-1, 0]  mean log-probability of the draft's tokens
    draft_entropy    [0, 1]   entropy of the draft's first token / ln 20
    draft_margin     [0, 1]   smallest top-2 probability gap in the draft
    draft_whole      [0, 1]   probability of the draft as a whole
    draft_length     [0, 1]   tokens of the draft / 64
    position         [0, 1]   steps so far / 16
    prompt_length    [0, 1]   tokens of the prompt / 256
    unread           [0, 1]   tokens that the dearest model would have to read first / 512
    large_share      [0, 1]   share of the steps so far that the cheapest model did not write
    large_last       {0, 1}   whether the cheapest model did not write the last step
    worst_accepted   [0, 1]   probability of the least likely token in any accepted draft
    trust            [0, 1]   product of the accepted drafts' least token probabilities
    *estimates*               what SCOPE expects of the models before the chain begins
    small_right      [0, 1]   probability that the cheapest model alone is right
    large_right      [0, 1]   probability that the dearest model alone is right
    small_tokens     [0, 1]   tokens that the cheapest model would write / 512
    large_tokens     [0, 1]   tokens that the dearest model would write / 512
    *question*                the question's words, hashed: an embedding that needs no model
    question_0 .. 15 [-1, 1]  signed sums of words (feature hashing: Weinberger et al. 2009), length 1

Values are clipped to their range. Draft features are 0 where no draft is waiting (``before``), and
describe one token where a probe is. Estimates need an engine with a ``prior``. Everything else comes from
measured usage, signals and the question.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stepwise.errors import ConfigError, StepwiseError
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
ESTIMATES = ("small_right", "large_right", "small_tokens", "large_tokens")
QUESTION = tuple(f"question_{i}" for i in range(16))
GROUPS: Mapping[str, tuple[str, ...]] = {"signals": FEATURES, "estimates": ESTIMATES, "question": QUESTION}
_BELOW_ZERO = {"draft_min": (-1.0, 0.0), "draft_mean": (-1.0, 0.0), **dict.fromkeys(QUESTION, (-1.0, 1.0))}
_RANGES = {name: _BELOW_ZERO.get(name, (0.0, 1.0)) for group in GROUPS.values() for name in group}
_ENTROPY = math.log(20)


def expand(names: Iterable[str]) -> tuple[str, ...]:
    """A list of features in which groups stand for their members.

    Raises:
        ConfigError: if a name is unknown or comes twice, or there is none.
    """
    found = tuple(feature for name in names for feature in GROUPS.get(name, (name,)))
    for name in found:
        if name not in _RANGES:
            known = ", ".join((*GROUPS, *FEATURES, *ESTIMATES, "question_0"))
            raise ConfigError(f"features must be among {known} to question_15, not {name!r}.")
    if not found or len(set(found)) != len(found):
        raise ConfigError(f"features must be a list of different names, not {', '.join(found) or 'empty'}.")
    return found


@lru_cache
def bounds(features: tuple[str, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The least and the largest values of features, each [len(features)]."""
    low, high = zip(*(_RANGES[name] for name in features), strict=True)
    return np.array(low, np.float32), np.array(high, np.float32)


def observe(
    trace: Trace, small: str, large: str, features: tuple[str, ...] = FEATURES
) -> NDArray[np.float32]:
    """The observation [len(features)] for a trace.

    Args:
        trace: the chain so far, with the draft that the router asked for.
        small: name of the cheapest model, the one that drafts.
        large: name of the dearest model.
        features: what to observe, in order.

    Raises:
        StepwiseError: if estimates are asked for and the trace has none.
    """
    values = _signals(trace, small, large)
    if features != FEATURES:
        found = dict(zip(FEATURES, values, strict=True))
        found |= zip(QUESTION, embedding(trace.problem.question), strict=True)
        if not found.keys() >= set(features):
            found |= zip(ESTIMATES, _estimates(trace, small, large), strict=True)
        values = tuple(found[name] for name in features)
    low, high = bounds(features)
    clipped: NDArray[np.float32] = np.minimum(np.maximum(np.array(values, dtype=np.float32), low), high)
    return clipped


def _signals(trace: Trace, small: str, large: str) -> tuple[float, ...]:
    """The draft's probabilities, the position, and what was spent and doubted so far [14]."""
    draft, steps = trace.draft, trace.steps
    signals = draft.signals if draft else None
    accepted = [step.signals.min_logprob for step in steps if step.model == small]
    written = sum(len(step.token_ids) for step in steps)
    return (
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


def _estimates(trace: Trace, small: str, large: str) -> tuple[float, ...]:
    """What was expected of the two models [4]; nothing of a chain that failed before it was asked."""
    if trace.stop == "error" and not trace.estimates:
        return 0.0, 0.0, 0.0, 0.0
    told = {estimate.model: estimate for estimate in trace.estimates}
    if small not in told or large not in told:
        raise StepwiseError(
            "the policy observes SCOPE's estimates, and the trace has none; give the engine a prior."
        )
    one, two = told[small], told[large]
    return one.p_correct, two.p_correct, one.tokens / 512, two.tokens / 512


@lru_cache(maxsize=4096)
def embedding(question: str) -> tuple[float, ...]:
    """Signed sums of a question's words and pairs of words by hash, scaled to length 1 [16].

    Weinberger et al. 2009, Feature Hashing for Large Scale Multitask Learning, equation 2.
    """
    words = re.findall(r"[^\W\d_]+|\d+", question.lower())
    words = ["#" if word.isdigit() else word for word in words]
    sums = np.zeros(len(QUESTION))
    for piece in (*words, *map(" ".join, pairwise(words))):
        digest = hashlib.blake2b(piece.encode(), digest_size=2).digest()
        sums[digest[0] % len(QUESTION)] += 1.0 if digest[1] % 2 else -1.0
    return tuple((sums / max(float(np.linalg.norm(sums)), 1.0)).tolist())


def _read(trace: Trace, model: str) -> int:
    """Tokens of the chain that a model has already processed: up to the last step that it wrote."""
    written = 0
    for i in reversed(range(len(trace.steps))):
        if trace.steps[i].model == model:
            written = sum(len(step.token_ids) for step in trace.steps[: i + 1])
            return trace.prompt_tokens + written
    return 0
