"""The brightness of a scan, and the units of a model, which noise fractions are relative to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medrestore.plugin import Intensity
from medrestore.types import UNMEASURED_HU, BoolArray, FloatArray, RealArray

FOREGROUND = 0.3
"""Fraction of the bright level above which a voxel is tissue: Rician noise is Gaussian there."""


@dataclass(frozen=True)
class Units:
    """What a model means by 0 and 1, in the units of the scan.

    Attributes:
        zero: The voxel value that is 0 to the model.
        one: How far above `zero` the voxel value is that is 1 to the model.
        reference: The level that noise fractions are relative to.
    """

    zero: float
    one: float
    reference: float

    def to_model(self, array: RealArray) -> FloatArray:
        """Return voxels in the units of the model, a contiguous copy."""
        scaled = np.array(array, dtype=np.float32, order="C")
        scaled -= np.float32(self.zero)
        scaled /= np.float32(self.one)
        return scaled

    def from_model(self, array: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Return voxels in the units of the scan, in fresh memory or in `out`, which may be `array`."""
        scaled = np.multiply(array, np.float32(self.one), out=out)
        scaled += np.float32(self.zero)
        return scaled


def model_units(intensity: Intensity, array: RealArray) -> Units:
    """Return the units in which a scan is given to a model.

    Args:
        intensity: What the model was made for.
        array: (X, Y, Z) voxels of the scan.
    """
    if intensity is Intensity.ATTENUATION:
        return Units(-1000.0, 1000.0, 1000.0)
    bright = bright_level(array) or 1.0
    return Units(0.0, bright if intensity is Intensity.P99 else 1.0, bright)


def bright_level(array: RealArray) -> float:
    """Return the 99th percentile of a scan.

    Where padding or air fills so much of the field of view that this percentile is not positive, the 99th
    percentile of the positive voxels stands in for it.

    Args:
        array: (X, Y, Z) voxels.

    Returns:
        A positive level in the units of the voxels, or 0 where no voxel is positive.
    """
    # Flattened in the order of memory, which makes no copy.
    level = float(np.percentile(array.ravel(order="K"), 99))
    if level > 0:
        return level
    positive = array[array > 0]
    return float(np.percentile(positive, 99)) if positive.size else 0.0


def padding_in(array: RealArray, intensity: Intensity) -> BoolArray | None:
    """Tell which voxels of a scan were not measured; None if all were measured.

    Args:
        array: (X, Y, Z) voxels.
        intensity: What the model was made for; in units of attenuation, the scan is a CT scan.
    """
    if intensity is not Intensity.ATTENUATION or array.min() >= UNMEASURED_HU:
        return None
    return np.asarray(array < UNMEASURED_HU)
