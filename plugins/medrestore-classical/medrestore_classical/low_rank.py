"""Low-rank denoising of series: patches of all volumes are matrices, and small singular values are noise.

Each function takes (X, Y, Z, T) magnitudes whose noise is the same everywhere, and returns what it takes for
their expectations, of the same shape.
"""

from __future__ import annotations

import math
import warnings

import numpy as np

MPPCA_RADII = (2, 4)
"""Smallest and largest radius of a patch in voxels: DIPY's own, and as far as the halo allows."""

NORDIC_SIDES, NORDIC_RATIO, NORDIC_STEP = (5, 13), 11, 2
"""Smallest and largest side of a patch in voxels; voxels of a patch for each volume, as in the paper; and the
distance of patches, each voxel lying in many."""

DRAWS = 10
"""Matrices of noise that NORDIC's threshold is the mean over."""


def mppca(series: np.ndarray) -> np.ndarray:
    """MP-PCA (Veraart et al., NeuroImage 142, 2016), DIPY's: it measures the noise in every patch.

    Args:
        series: See the module. The radius is the least whose patch has more voxels than there are volumes.
    """
    from dipy.denoise.localpca import mppca as run

    low, high = MPPCA_RADII
    radius = next((r for r in range(low, high) if (2 * r + 1) ** 3 > series.shape[3]), high)
    whole = _at_least(series, 2 * radius + 1)
    with warnings.catch_warnings():
        # A patch without noise leaves DIPY the mean of no singular values, which it then makes no use of.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = run(whole, patch_radius=radius, suppress_warning=True)
    return _cropped(found, series)


def nordic(series: np.ndarray, sigma: float) -> np.ndarray:
    """NORDIC (Moeller et al., NeuroImage 226, 2021) with patch-denoise's patches.

    The threshold is the mean of the largest singular value of noise of the size of a patch. That of
    `patch_denoise.denoise.nordic` 1.4.4 is of noise of as many voxels as the patch has in all volumes
    together, which is several times more and takes faint signal away; so the threshold is computed here.

    Args:
        series: See the module.
        sigma: Standard deviation of the noise.
    """
    from patch_denoise.denoise import raw_svt

    low, high = NORDIC_SIDES
    side = min(max(round((NORDIC_RATIO * series.shape[3]) ** (1 / 3)), low), high)
    whole = _at_least(series, side, NORDIC_STEP)
    threshold = float(sigma * _largest_of_noise(side**3, series.shape[3]))
    patch, overlap = (side,) * 3, (side - NORDIC_STEP,) * 3
    found = raw_svt(whole, patch, overlap, mask_threshold=0, threshold=threshold, progbar=False)[0]
    return _cropped(found, series)


def _largest_of_noise(rows: int, columns: int) -> float:
    """Return the mean largest singular value of (rows, columns) white noise of deviation 1."""
    rng = np.random.default_rng(0)
    drawn = (rng.standard_normal((rows, columns)) for _ in range(DRAWS))
    return float(np.mean([np.linalg.norm(matrix, 2) for matrix in drawn]))


def _at_least(series: np.ndarray, side: int, step: int = 1) -> np.ndarray:
    """Return a copy that goes on as its mirror image: so large, and larger only by whole steps."""
    sizes = [max(size, side) for size in series.shape[:3]]
    more = [side + math.ceil((size - side) / step) * step for size in sizes]
    pads = [(0, new - old) for new, old in zip(more, series.shape[:3], strict=True)]
    return np.pad(np.asarray(series, dtype=np.float32), [*pads, (0, 0)], mode="symmetric")


def _cropped(found: np.ndarray, like: np.ndarray) -> np.ndarray:
    x, y, z, _ = like.shape
    return found[:x, :y, :z]
