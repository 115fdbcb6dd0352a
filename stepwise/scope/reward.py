"""What reinforcement learning pays an estimator for (SCOPE, arXiv 2601.22323, stage 2)."""

from __future__ import annotations

from stepwise.scope.prompt import read


def reward(text: str, correct: bool, tokens: float) -> float:
    """0 unless the format parses; else 1 for the right verdict, plus up to 1 for the length.

    The length term is clip(2 - |l' - l| / tau, 0, 1) with tau = max(100, l / 4): full within tau, none beyond
    2 tau. (Inferred from a figure of the release.)
    """
    answer = read(text)
    if answer is None:
        return 0.0
    tolerance = max(100.0, 0.25 * tokens)
    length = min(1.0, max(0.0, 2.0 - abs(answer.tokens - tokens) / tolerance))
    return float(answer.correct == correct) + length
