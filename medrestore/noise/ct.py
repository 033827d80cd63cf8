"""The global noise level of a CT scan, in HU: the commonest local deviation in soft tissue.

Noise of CT is correlated, and the finest wavelet band that serves in MR lies above the cutoff of most
reconstruction kernels. So noise is read where it can be seen: in small windows of one slice, in soft tissue.

Source: Christianson et al., Automated technique to measure noise in clinical CT examinations, AJR 205 (2015).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from medrestore.types import AIR_HU, LEAST_HU, BoolArray, FloatArray, RealArray

WINDOW = 7
"""Side in pixels of the windows, in the plane of the slice."""

TISSUE = (0.0, 120.0)
"""Soft tissue in HU, contrast-enhanced or not."""

FEWEST = 200
"""Fewest windows of soft tissue; with fewer, others are used."""

CALM = 0.2
"""Fraction of the windows that are calm in any scan."""

LEAST = 0.01
"""A deviation in HU below this counts as zero."""

MAX_SLICES = 24
"""Number of slices in which noise is read, evenly spread."""

PADDED = LEAST_HU + 1
"""A voxel below this value in HU is padding or clipped: it has no noise to read."""


def without_padding(array: RealArray) -> FloatArray:
    """Return CT voxels in HU with values that no scanner measures, below -1024, replaced by air."""
    voxels = np.array(array, dtype=np.float32)
    voxels[voxels < LEAST_HU] = AIR_HU
    return voxels


def sampled(array: RealArray) -> RealArray:
    """Return the slices that the noise is estimated in, an (X, Y, Z) view."""
    return array[:, :, :: -(-array.shape[2] // MAX_SLICES)]


def estimate_ct_noise(array: RealArray) -> float:
    """Estimate the standard deviation of the noise in soft tissue.

    Args:
        array: (X, Y, Z) voxels in HU, slices along the last axis.

    Returns:
        Standard deviation in HU; 0 where no two voxels differ.
    """
    looked_at = sampled(array)
    voxels, present = without_padding(looked_at), looked_at > PADDED
    deviation = local_deviation(voxels)
    measured = ndimage.minimum_filter(present, (WINDOW, WINDOW, 1))
    tissue = deviation[soft_tissue(voxels) & measured]
    if tissue.size >= FEWEST:
        return _level(tissue)
    # Beside lung, bone or a table edges are the rule: the calmer of what is no air and of all is noise.
    others = [deviation[chosen & measured] for chosen in (voxels > AIR_HU / 2, measured)]
    found = [_level(windows) for windows in others if windows.size >= FEWEST]
    if found:
        return min(found)
    return float(voxels[present].std()) if present.any() else 0.0


def _level(windows: FloatArray) -> float:
    """Return the level that windows show: where edges are the rule, only the calmest will do."""
    mode, calm = commonest(windows), float(np.quantile(windows, CALM))
    return mode if mode < 2 * calm else calm


def local_deviation(voxels: FloatArray) -> FloatArray:
    """Return the standard deviation in a window around each voxel, slopes removed: (X, Y, Z) HU."""
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
    return np.asarray(ndimage.minimum_filter(inside, (WINDOW, WINDOW, 1)), dtype=bool)


def commonest(values: FloatArray) -> float:
    """Return the lowest mode of non-negative values, from a smoothed histogram of their logarithms.

    Edges of organs make modes of their own, at larger values.
    """
    width = 0.02
    logs = np.log(np.maximum(values, LEAST))
    low, high = np.quantile(logs, (0.001, 0.999))
    bins = max(int(np.ceil((high - low) / width)), 1) + 2
    counts, edges = np.histogram(logs, bins, (low - width, low + (bins - 1) * width))
    smooth = np.pad(ndimage.gaussian_filter1d(counts.astype(float), 4, mode="constant"), 1)
    peaks = (smooth[1:-1] >= smooth[:-2]) & (smooth[1:-1] >= smooth[2:])
    at = int(np.flatnonzero(peaks & (smooth[1:-1] >= smooth.max() / 2))[0])
    mode = float(np.exp((edges[at] + edges[at + 1]) / 2))
    return mode if mode > 2 * LEAST else 0.0
