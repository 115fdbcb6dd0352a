"""P-values for "the risk is above its limit", valid at any sample size.

Each function tests H0: E[loss] > limit for every row of a table of losses in [0, 1], and returns
one p-value a row: P(p <= u | H0) <= u.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]


def hoeffding_bentkus(losses: Table, limit: float) -> NDArray[np.float64]:
    """The smaller of Hoeffding's and Bentkus' bounds. Uses the mean alone.

    Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052), proposition 3.

    Args:
        losses: [T, n], each in [0, 1].
        limit: the risk that is still acceptable, in (0, 1).
    """
    from scipy.special import bdtr, rel_entr

    n = losses.shape[1]
    mean = np.minimum(losses.mean(1), limit)
    hoeffding = np.exp(-n * (rel_entr(mean, limit) + rel_entr(1 - mean, 1 - limit)))
    bentkus = np.e * bdtr(np.ceil(n * losses.mean(1) - 1e-9), n, limit)
    return np.asarray(np.minimum(1.0, np.minimum(hoeffding, bentkus)))


def exact_binomial(losses: Table, limit: float) -> NDArray[np.float64]:
    """The binomial tail: exact when every loss is 0 or 1. Bentkus' bound is e times this."""
    from scipy.special import bdtr

    return np.asarray(bdtr(losses.sum(1), losses.shape[1], limit))


def betting(losses: Table, limit: float, delta: float) -> NDArray[np.float64]:
    """A wealth process that bets against H0, one problem at a time; adapts to the variance.

    Waudby-Smith and Ramdas (2023, arXiv 2010.09686), section 4; one-sided as in Bates et al. (2021,
    arXiv 2101.02703). By Ville's inequality 1 / (largest wealth) is a p-value. The stakes are tuned
    to be sharpest near ``delta``; it is valid at any level.
    """
    n = losses.shape[1]
    count = np.arange(1, n + 1)
    mean = (0.5 + losses.cumsum(1)) / (count + 1)
    variance = (0.25 + ((losses - mean) ** 2).cumsum(1)) / (count + 1)
    before = np.concatenate([np.full((len(losses), 1), 0.25), variance[:, :-1]], axis=1)
    stake = np.minimum(np.sqrt(2 * np.log(1 / delta) / (n * before)), 0.75 / (1 - limit))
    wealth = np.log1p(stake * (limit - losses)).cumsum(1).max(1)
    return np.asarray(np.exp(-np.maximum(wealth, 0.0)))
