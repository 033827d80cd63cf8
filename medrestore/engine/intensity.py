"""The brightness of a scan, which model units and noise fractions are relative to."""

from __future__ import annotations

import numpy as np

from medrestore.types import RealArray


def bright_level(array: RealArray) -> float:
    """Return the 99th percentile of a scan.

    Where padding or air fills so much of the field of view that this is not positive, the 99th percentile
    of the positive voxels stands in for it.

    Args:
        array: (X, Y, Z) voxels.

    Returns:
        A positive level in the units of the voxels, or 0 where no voxel is positive.
    """
    level = float(np.percentile(array, 99))
    if level > 0:
        return level
    positive = array[array > 0]
    return float(np.percentile(positive, 99)) if positive.size else 0.0
