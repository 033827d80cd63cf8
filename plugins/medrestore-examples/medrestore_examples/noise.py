"""A noise estimator: what a mask that knows nothing of smooth anatomy leaves of the bright voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medrestore.types import RealArray

MASK = (1.0, -2.0, 1.0)
"""Along each axis; the noise that it leaves has a standard deviation of the root of 6, to the power of 3."""

GAUSSIAN = 1.4826
"""Standard deviation of a normal distribution over its median magnitude."""


def immerkaer(array: RealArray, spacing: tuple[float, ...]) -> float:
    """Estimate white noise as Immerkaer (Comput Vis Image Underst 64, 1996), in three dimensions.

    The median takes the place of the mean: of edges, there are few.
    """
    import numpy as np
    from scipy.ndimage import correlate1d

    del spacing  # white noise is the same for any size of voxels
    left = np.asarray(array, dtype=np.float32)
    for axis in range(3):
        left = correlate1d(left, MASK, axis=axis)
    bright = array > 0.5 * np.percentile(array, 99)
    inner = tuple(slice(1, -1) if size > 2 else slice(None) for size in array.shape)
    scale = float(np.sum(np.square(MASK))) ** 1.5
    return float(GAUSSIAN * np.median(np.abs(left[inner][bright[inner]])) / scale)
