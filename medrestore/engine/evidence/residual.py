"""What was taken out of a scan, against what noise alone would be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from medrestore.noise.intensity import FOREGROUND, bright_level
from medrestore.types import BoolArray, Float64Array, FloatArray, RealArray

FEWEST = 100
"""Voxels, or pairs of them, without which nothing is said."""

_SLAB = 1 << 20
"""Voxels looked at together: the residual of a large scan is never there as a whole."""


def residual_evidence(
    scan: RealArray, restored: RealArray, sigma: float | RealArray, zero: float = 0.0
) -> dict[str, float | None]:
    """Describe the residual, scan minus result, in tissue.

    Removed noise has a deviation close to that of the noise and neighbours that know nothing of each other;
    anatomy in the residual shows as correlation between neighbours and as a deviation above the noise.

    Args:
        scan: (X, Y, Z) voxels before.
        restored: (X, Y, Z) voxels after.
        sigma: Noise level in the units of the voxels, or (X, Y, Z) one for each voxel.
        zero: The value of voxels without tissue: that of air in CT.

    Returns:
        ``std_over_sigma`` and ``mean_over_sigma`` of the residual; ``neighbour_correlation``, its largest
        correlation with itself shifted by one voxel along an axis; ``edge_correlation``, that of its
        magnitude with the gradient of the result; and ``kurtosis``, 3 for Gaussian noise and more where few
        voxels hold much of it: edges and lines in it are anatomy. None where there is nothing to measure.
    """
    inside, edges, lags = _Moments(), _Moments(), [_Moments() for _ in range(3)]
    squares = _Moments()
    if np.min(sigma) > 0:
        for residual, tissue, new, gradient in _slabs(scan, restored, sigma, zero):
            values = residual[new][tissue[new]]
            inside.add(values, values)
            edges.add(np.abs(values), gradient[new][tissue[new]])
            squares.add(np.square(values), np.square(values))
            for axis, lag in enumerate(lags):
                part = slice(None) if axis == 0 else new
                lag.add(*_neighbours(residual[part], tissue[part], axis))
    enough = inside.count >= FEWEST
    return {
        "std_over_sigma": float(inside.covariance[0, 0]) ** 0.5 if enough else None,
        "mean_over_sigma": float(inside.mean[0]) if enough else None,
        "neighbour_correlation": max(
            (c for c in (lag.correlation for lag in lags) if c is not None and enough), key=abs, default=None
        ),
        "edge_correlation": edges.correlation if enough else None,
        "kurtosis": _kurtosis(squares) if enough else None,
    }


def _slabs(
    scan: RealArray, restored: RealArray, sigma: float | RealArray, zero: float
) -> Iterator[tuple[FloatArray, BoolArray, slice, FloatArray]]:
    """Yield residual and tissue slab by slab along X, each with the last row of the one before.

    Yields:
        The residual over the noise, where tissue is, which rows are new, and the gradient of the result.
    """
    smooth = ndimage.uniform_filter(np.asarray(restored, dtype=np.float32), 3)
    smooth -= np.float32(zero)
    least = FOREGROUND * bright_level(smooth)
    thickness = max(_SLAB // max(scan[0].size, 1), 1)
    for start in range(0, len(scan), thickness):
        rows = slice(max(start - 1, 0), start + thickness)
        level = sigma if np.ndim(sigma) == 0 else np.asarray(sigma)[rows]
        residual = np.asarray((scan[rows] - restored[rows]) / level, dtype=np.float32)
        yield residual, smooth[rows] > least, slice(start - rows.start, None), _gradient(restored, rows)


def _kurtosis(squares: _Moments) -> float | None:
    """Return the mean of the fourth power over the square of that of the second."""
    second = float(squares.mean[0])
    return float(squares.covariance[0, 0]) / second**2 + 1 if second > 0 else None


def _gradient(restored: RealArray, rows: slice) -> FloatArray:
    """Return the magnitude of the gradient, by central differences, of some rows of a volume."""
    first = max(rows.start - 1, 0)
    part = np.asarray(restored[first : rows.stop + 1], dtype=np.float32)
    square = np.zeros(part.shape, dtype=np.float32)
    for axis in range(3):
        if part.shape[axis] > 1:
            square += np.square(np.gradient(part, axis=axis))
    size = len(restored[rows])
    return np.sqrt(square[rows.start - first : rows.start - first + size])


def _neighbours(residual: FloatArray, tissue: BoolArray, axis: int) -> tuple[RealArray, RealArray]:
    """Return the values of all pairs of neighbours in tissue along an axis."""
    near, far = [slice(None)] * 3, [slice(None)] * 3
    near[axis], far[axis] = slice(None, -1), slice(1, None)
    both = tissue[tuple(near)] & tissue[tuple(far)]
    return residual[tuple(near)][both], residual[tuple(far)][both]


class _Moments:
    """Means and covariance of pairs of values that come in parts; float64."""

    def __init__(self) -> None:
        self.count = 0
        self._origin = 0.0  # the first value, so that a constant has a variance of exactly zero
        self._sums: Float64Array = np.zeros(2)
        self._products: Float64Array = np.zeros((2, 2))

    def add(self, a: RealArray, b: RealArray) -> None:
        if not a.size:
            return
        self._origin = self._origin if self.count else float(a[0])
        pairs = np.stack([a, b]).astype(np.float64) - self._origin
        self.count += a.size
        self._sums += pairs.sum(axis=1)
        self._products += pairs @ pairs.T

    @property
    def mean(self) -> Float64Array:
        return np.asarray(self._sums / self.count + self._origin)

    @property
    def covariance(self) -> Float64Array:
        mean = self._sums / self.count
        return np.asarray(self._products / self.count - np.outer(mean, mean))

    @property
    def correlation(self) -> float | None:
        """None where there are too few pairs, or nothing varies."""
        if self.count < FEWEST:
            return None
        (a, both), (_, b) = self.covariance
        return float(both / np.sqrt(a * b)) if a > 0 and b > 0 else None
