"""Means, covariances and correlations of values that come in parts."""

from __future__ import annotations

import numpy as np

from medrestore.types import Float64Array, RealArray

FEWEST = 100
"""Values, or pairs of them, without which nothing is said."""


class Moments:
    """Means and covariances of some quantities that were seen together; float64.

    Attributes:
        count: How often they were seen.
    """

    def __init__(self, quantities: int = 2) -> None:
        self.count = 0
        self._origin: Float64Array = np.zeros((quantities, 1))
        self._sums: Float64Array = np.zeros(quantities)
        self._products: Float64Array = np.zeros((quantities, quantities))

    def add(self, *values: RealArray) -> None:
        """Add (N,) values of each quantity."""
        if not values[0].size:
            return
        seen = np.stack(values).astype(np.float64)
        if not self.count:  # so that a constant has a variance of exactly zero
            self._origin = seen[:, :1].copy()
        seen -= self._origin
        self.count += seen.shape[1]
        self._sums += seen.sum(axis=1)
        self._products += seen @ seen.T

    @property
    def mean(self) -> Float64Array:
        """Mean of each quantity."""
        return np.asarray(self._sums / self.count + self._origin[:, 0])

    @property
    def covariance(self) -> Float64Array:
        """Covariances of all quantities."""
        mean = self._sums / self.count
        return np.asarray(self._products / self.count - np.outer(mean, mean))

    @property
    def correlation(self) -> float | None:
        """Correlation of the first two; None where there are too few values, or nothing varies."""
        return self.correlations[0]

    @property
    def correlations(self) -> tuple[float | None, ...]:
        """Correlation of the first quantity with each other, None as above."""
        if self.count < FEWEST:
            return (None,) * (len(self._sums) - 1)
        found = self.covariance
        own, others = found[0, 0], np.diag(found)[1:]
        return tuple(
            float(both / np.sqrt(own * other)) if own > 0 and other > 0 else None
            for both, other in zip(found[0, 1:], others, strict=True)
        )
