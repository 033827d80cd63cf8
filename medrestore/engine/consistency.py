"""What was taken out of a scan, against what noise alone would be."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from medrestore.engine.intensity import bright_level
from medrestore.engine.noise import FOREGROUND
from medrestore.types import RealArray


def residual_evidence(
    scan: RealArray, restored: RealArray, sigma: float | RealArray
) -> dict[str, float | None]:
    """Describe the residual, scan minus result, in tissue.

    Removed noise has a deviation close to that of the noise and neighbours that know nothing of each other;
    anatomy in the residual shows as correlation between neighbours and as a deviation above the noise.

    Args:
        scan: (X, Y, Z) voxels before.
        restored: (X, Y, Z) voxels after.
        sigma: Noise level in the units of the voxels, or (X, Y, Z) one for each voxel.

    Returns:
        ``std_over_sigma`` and ``mean_over_sigma`` of the residual, and ``neighbour_correlation``, its largest
        correlation with itself shifted by one voxel along an axis; None where there is nothing to measure.
    """
    smooth = ndimage.uniform_filter(np.asarray(restored, dtype=np.float32), 3)
    tissue = smooth > FOREGROUND * bright_level(smooth)
    if np.min(sigma) <= 0 or np.count_nonzero(tissue) < 100:
        return {"std_over_sigma": None, "mean_over_sigma": None, "neighbour_correlation": None}
    residual = np.asarray((scan - restored) / sigma, dtype=np.float32)
    inside = residual[tissue]
    correlations = [_lag_one(residual, tissue, axis) for axis in range(3)]
    return {
        "std_over_sigma": float(inside.std()),
        "mean_over_sigma": float(inside.mean()),
        "neighbour_correlation": max((c for c in correlations if c is not None), key=abs, default=None),
    }


def _lag_one(residual: RealArray, mask: RealArray, axis: int) -> float | None:
    near, far = [slice(None)] * 3, [slice(None)] * 3
    near[axis], far[axis] = slice(None, -1), slice(1, None)
    both = mask[tuple(near)] & mask[tuple(far)]
    a, b = residual[tuple(near)][both], residual[tuple(far)][both]
    if a.size < 100 or not a.std() * b.std() > 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
