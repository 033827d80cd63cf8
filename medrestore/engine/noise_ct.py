"""The global noise level of a CT scan, in HU: the commonest local deviation in soft tissue.

Noise of CT is correlated, and the finest wavelet band that serves in MR lies above the cutoff of most
reconstruction kernels. So it is read where it is: in small windows of one slice, in soft tissue.

Source: Christianson et al., Automated technique to measure noise in clinical CT examinations, AJR 205 (2015).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from medrestore.types import BoolArray, FloatArray, RealArray

WINDOW = 7
"""Side in pixels of the windows, in the plane of the slice."""

TISSUE = (0.0, 120.0)
"""Soft tissue in HU, contrast-enhanced or not."""

FEWEST = 400
"""Windows of tissue without which any other windows will do."""

MAX_SLICES = 64
"""Slices that are looked at, evenly spread."""

AIR = -1000.0
PADDED = -1023.0
"""Below this, a voxel is padding or clipped: it has no noise to read."""


def without_padding(array: RealArray) -> FloatArray:
    """Return CT voxels in HU with what no scanner measures, below -1024, replaced by air."""
    voxels = np.array(array, dtype=np.float32)
    voxels[voxels < AIR - 24] = AIR
    return voxels


def estimate_ct_noise(array: RealArray) -> float:
    """Estimate the standard deviation of the noise in soft tissue.

    Args:
        array: (X, Y, Z) voxels in HU, slices along the last axis.

    Returns:
        Standard deviation in HU; 0 where nothing varies.
    """
    step = -(-array.shape[2] // MAX_SLICES)
    voxels = without_padding(array[:, :, ::step])
    deviation = local_deviation(voxels)
    measured = ndimage.minimum_filter(voxels, (WINDOW, WINDOW, 1)) > PADDED
    for chosen in (soft_tissue(voxels), voxels > AIR / 2, measured):
        windows = deviation[chosen & measured & (deviation > 0)]
        if windows.size >= FEWEST:
            return commonest(windows)
    return float(voxels[voxels > PADDED].std()) if (voxels > PADDED).any() else 0.0


def local_deviation(voxels: FloatArray) -> FloatArray:
    """Return the standard deviation in a window around each voxel, of what is no slope: (X, Y, Z) HU."""
    size = (WINDOW, WINDOW, 1)
    mean = ndimage.uniform_filter(voxels, size)
    variance = ndimage.uniform_filter(np.square(voxels), size) - np.square(mean)
    ramp = (np.arange(WINDOW) - WINDOW // 2).astype(np.float32)
    for axis in (0, 1):
        slope = ndimage.uniform_filter1d(voxels, WINDOW, axis=1 - axis)
        slope = ndimage.correlate1d(slope, ramp / np.square(ramp).sum(), axis=axis)
        variance -= np.square(slope) * np.square(ramp).mean()
    return np.asarray(np.sqrt(np.maximum(variance, 0) * (WINDOW**2 / (WINDOW**2 - 3))))


def soft_tissue(voxels: FloatArray) -> BoolArray:
    """Tell where a window is soft tissue all through, whatever the noise: (X, Y, Z)."""
    smooth = ndimage.uniform_filter(voxels, (WINDOW, WINDOW, 1))
    inside = (smooth > TISSUE[0]) & (smooth < TISSUE[1])
    return np.asarray(ndimage.minimum_filter(inside, (WINDOW // 2 + 1, WINDOW // 2 + 1, 1)), dtype=bool)


def commonest(values: FloatArray) -> float:
    """Return the mode of positive values, from a smoothed histogram of their logarithms."""
    width = 0.02
    logs = np.log(values)
    low, high = np.quantile(logs, (0.001, 0.999))
    bins = max(int(np.ceil((high - low) / width)), 1)
    counts, edges = np.histogram(logs, bins, (low, low + bins * width))
    smooth = ndimage.gaussian_filter1d(counts.astype(float), 4, mode="constant")
    at = int(smooth.argmax())
    return float(np.exp((edges[at] + edges[at + 1]) / 2))
