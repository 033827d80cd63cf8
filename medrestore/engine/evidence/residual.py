"""What was taken out of a scan, against what noise alone would be."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from medrestore.engine.evidence.moments import FEWEST, Moments
from medrestore.engine.evidence.slabs import Slab, slabs
from medrestore.types import FloatArray, RealArray


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
    inside, edges, lags = Moments(1), Moments(), [Moments() for _ in range(3)]
    squares = Moments(1)
    if np.min(sigma) > 0:
        for slab in slabs(scan, restored, sigma, zero):
            values = slab.residual[slab.new][slab.own]
            inside.add(values)
            edges.add(np.abs(values), gradient_magnitude(slab.gradient())[slab.own])
            squares.add(np.square(values))
            for axis, lag in enumerate(lags):
                lag.add(*neighbours(slab, axis))
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


def _kurtosis(squares: Moments) -> float | None:
    """Return the mean of the fourth power over the square of that of the second."""
    second = float(squares.mean[0])
    return float(squares.covariance[0, 0]) / second**2 + 1 if second > 0 else None


def gradient_magnitude(gradient: Iterable[RealArray]) -> FloatArray:
    """Return the magnitude of a gradient that is given axis by axis."""
    return np.asarray(np.sqrt(sum(np.square(part) for part in gradient)))


def neighbours(slab: Slab, axis: int) -> tuple[RealArray, RealArray]:
    """Return the residual of all pairs of neighbours in tissue along an axis, each pair in one slab alone."""
    first = slab.new.start - (axis == 0 and slab.new.start > 0)
    rows = slice(first, slab.new.stop)
    residual, tissue = slab.residual[rows], slab.tissue[rows]
    near, far = [slice(None)] * 3, [slice(None)] * 3
    near[axis], far[axis] = slice(None, -1), slice(1, None)
    both = tissue[tuple(near)] & tissue[tuple(far)]
    return residual[tuple(near)][both], residual[tuple(far)][both]
