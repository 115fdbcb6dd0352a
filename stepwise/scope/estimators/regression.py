"""Kernel ridge regression with leave-one-out predictions in closed form."""

from __future__ import annotations

import numpy as np

from stepwise.scope.estimators.base import Array

NOISE = (0.3, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Penalties that are tried by leave-one-out error, in units of the kernel's."""


class Spectrum:
    """Eigenvalues [n] and vectors [n, n] of a kernel matrix, which every regression on it shares."""

    def __init__(self, gram: Array) -> None:
        values, self.vectors = np.linalg.eigh(gram)
        self.values = np.maximum(values, 0.0)


class Regression:
    """Kernel ridge regression of one number per anchor [n].

    With H = K (K + c I)^-1 the prediction without anchor i is y_i - (y - H y)_i / (1 - H_ii). The penalty c
    minimises the squared error of those, which scikit-learn's search would take n fits each to find.

    Attributes:
        noise: the penalty that was taken.
        held_out: leave-one-out predictions [n], within the range of the targets. ``at`` likewise.
    """

    def __init__(self, spectrum: Spectrum, target: Array) -> None:
        self._mean = float(target.mean())
        self._range = float(target.min()), float(target.max())
        values, vectors = spectrum.values, spectrum.vectors
        centred = target - self._mean
        rotated = vectors.T @ centred
        best = np.inf
        for noise in NOISE:
            shrunk = values / (values + noise)
            missed = (centred - vectors @ (shrunk * rotated)) / (1 - (vectors**2) @ shrunk)
            if (error := float(missed @ missed)) < best:
                best, self.noise = error, noise
                self.held_out = np.clip(target - missed, *self._range)
                self._weights = vectors @ (rotated / (values + noise))

    def at(self, near: Array) -> Array:
        """Predictions [questions] from kernel values [questions, n]."""
        return np.asarray(np.clip(near @ self._weights + self._mean, *self._range))
