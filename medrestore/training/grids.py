"""Other voxel sizes, slices and fields of view of a scan in the corpus."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, signal

from medrestore.types import FloatArray


def at_spacing(volume: FloatArray, spacing: tuple[float, ...], target: float) -> FloatArray:
    """Lower the resolution of the axes that are finer than `target` mm by cropping their spectrum.

    This is what a scanner with a coarser matrix would have measured, and it keeps the noise white.
    """
    for axis, step in enumerate(spacing):
        size = max(round(volume.shape[axis] * step / target), 1)  # a single slice stays
        if size < 0.97 * volume.shape[axis]:
            volume = np.asarray(signal.resample(volume, size, axis=axis), dtype=np.float32)
    return volume


def in_slices(volume: FloatArray, spacing: tuple[float, ...], thickness: float, axis: int) -> FloatArray:
    """Average neighbouring planes along an axis into slices of about `thickness` mm."""
    count = round(thickness / spacing[axis])
    planes = np.moveaxis(volume, axis, 0)
    planes = planes[: len(planes) // count * count]
    slices = planes.reshape(-1, count, *planes.shape[1:]).mean(axis=1)
    return np.ascontiguousarray(np.moveaxis(slices, 0, axis))


def can_be_sliced(shape: tuple[int, ...], spacing: tuple[float, ...], thickness: float, axis: int) -> bool:
    """Whether `in_slices` makes slices that are thicker than the planes, and at least one."""
    return 1 < round(thickness / spacing[axis]) <= shape[axis]


def trim_air(volume: FloatArray, margin: int = 8, threshold: float = 0.08) -> FloatArray:
    """Cut the volume to the box of what is brighter than `threshold`, plus a margin in voxels."""
    inside = ndimage.binary_opening(volume > threshold, iterations=2)
    if not inside.any():
        return volume
    box = ndimage.find_objects(inside.astype(np.uint8))[0]
    return volume[tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in box)]
