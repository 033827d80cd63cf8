"""The size that the error of a voxel is expected to have: a smooth function of its clues."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medrestore.errors import ConfigError
from medrestore.types import Float64Array, FloatArray

FURTHEST = 3.0
"""Deviations from the mean of the scans that it was fitted to, beyond which a clue counts no further."""

ROUNDS, CAUTIOUS = 30, 8
"""Newton steps of the fit, and how many of them are halved: the first may overshoot."""

PRIOR = 0.1
"""Variance by which the errors of whole scans differ for no known reason over that of a weight, both of
logarithms: what few scans have in common is no rule, however many voxels they have."""

SEEN = (0.001, 0.999)
"""Shares of the voxels that it was fitted to between whose sizes every size lies: no scan leads beyond."""


@dataclass(frozen=True)
class ErrorScale:
    """Mean absolute error relative to the noise, exp of a quadratic polynomial of standardised clues.

    Attributes:
        means: Of each clue, over the scans that it was fitted to.
        deviations: Of the same.
        weights: Of the constant, of each clue, and of each product of two, (0, 0), (0, 1), ... (1, 1), ...
        ends: Least and largest logarithm of a size.
    """

    means: tuple[float, ...]
    deviations: tuple[float, ...]
    weights: tuple[float, ...]
    ends: tuple[float, float]

    @cached_property
    def _parts(self) -> tuple[float, FloatArray, FloatArray]:
        """The constant, the linear weights, and the matrix of the products."""
        count = len(self.means)
        products = np.zeros((count, count), np.float32)
        products[np.triu_indices(count)] = self.weights[1 + count :]
        return self.weights[0], np.asarray(self.weights[1 : 1 + count], np.float32), products

    def __call__(self, features: FloatArray) -> FloatArray:
        """Return the logarithm of the expected size.

        Args:
            features: (features, ...).

        Returns:
            (...) logarithm of the mean absolute error over the noise.

        Raises:
            ConfigError: The calibration was made with other clues.
        """
        if len(features) != len(self.means):
            raise ConfigError(
                f"the calibration has {len(self.means)} clues, and the model is given {len(features)}: "
                "calibrate it again"
            )
        constant, linear, products = self._parts
        flat = _standardised(features.reshape(len(features), -1), self.means, self.deviations)
        value = constant + linear @ flat + np.einsum("in,in->n", flat, products @ flat)
        return np.asarray(np.clip(value, *self.ends), np.float32).reshape(features.shape[1:])


def fit_scale(features: FloatArray, sizes: FloatArray, scans: int) -> ErrorScale:
    """Fit the expected size: a generalised linear model of gamma errors with a logarithmic link.

    Args:
        features: (features, N) of voxels, as many of every scan.
        sizes: (N,) their absolute errors over the noise.
        scans: How many scans they are from.
    """
    means = features.mean(axis=1, dtype=np.float64)
    deviations = features.std(axis=1, dtype=np.float64)
    deviations = np.where(deviations > 1e-3, deviations, 1.0)
    given = tuple(map(float, means)), tuple(map(float, deviations))
    design = _design(_standardised(features, *given))
    gram = design @ design.T
    ridge = PRIOR / scans * design.shape[1] * np.eye(len(gram))
    ridge[0, 0] = 0
    weights = np.zeros(len(gram))
    weights[0] = np.log(sizes.mean(dtype=np.float64))
    for step in range(ROUNDS):  # the weights of gamma errors are constant, so that the matrix is
        misfit = sizes / np.exp(np.clip(weights @ design, -12, 8)) - 1
        change = np.linalg.solve(gram + ridge, design @ misfit - ridge @ weights)
        weights += change / 2 if step < CAUTIOUS else change
    low, high = np.quantile(weights @ design, SEEN)
    return ErrorScale(*given, tuple(map(float, weights)), (float(low), float(high)))


def _standardised(
    features: FloatArray, means: tuple[float, ...], deviations: tuple[float, ...]
) -> FloatArray:
    column = (np.asarray(part, np.float32)[:, None] for part in (means, deviations))
    mean, deviation = column
    return np.asarray(np.clip((features - mean) / deviation, -FURTHEST, FURTHEST), np.float32)


def _design(flat: FloatArray) -> Float64Array:
    """Return the terms of the polynomial, (terms, N)."""
    rows, columns = np.triu_indices(len(flat))
    return np.concatenate([np.ones((1, flat.shape[1])), flat, flat[rows] * flat[columns]])
