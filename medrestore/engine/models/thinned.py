"""Voxels evenly spread over a scan, for statistics that need no more."""

from __future__ import annotations

import numpy as np

from medrestore.types import FloatArray, RealArray

SIDE = 40
"""Voxels along each axis that are kept, at most twice as many."""


def thinned(array: RealArray, kept: int | None = None, most: int = SIDE) -> FloatArray:
    """Return voxels evenly spread over a scan.

    Args:
        array: (X, Y, Z).
        kept: An axis along which every voxel is kept.
        most: Voxels along each other axis that are kept, at most twice as many.
    """
    steps = [1 if axis == kept else max(1, side // most) for axis, side in enumerate(array.shape)]
    return array[tuple(slice(None, None, step) for step in steps)].astype(np.float32)


def across(array: RealArray, axis: int, most: int = SIDE) -> FloatArray:
    """Return every slice across an axis, thinned within, as (slices, voxels); `most` as for `thinned`."""
    slices = np.moveaxis(thinned(array, axis, most), axis, 0)
    return slices.reshape(len(slices), -1)
