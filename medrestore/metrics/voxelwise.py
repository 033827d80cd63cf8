"""Voxel-by-voxel errors: MAE, RMSE and PSNR."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from medrestore.metrics.checks import check_mask, check_pair, check_range
from medrestore.types import LEAST_HU, BoolArray, Modality, RealArray


def mae(image: npt.ArrayLike, reference: npt.ArrayLike, *, mask: npt.ArrayLike | None = None) -> float:
    """Mean absolute error over the mask, in the unit of the voxels.

    Args:
        image: The volume to judge, (X, Y, Z), any real type.
        reference: The truth, same shape and unit.
        mask: Voxels to count, same shape; None counts all.

    Raises:
        InputError: if the shapes differ, a voxel is not finite, or the mask is empty.
    """
    return float(np.mean(np.abs(_difference(image, reference, mask))))


def rmse(image: npt.ArrayLike, reference: npt.ArrayLike, *, mask: npt.ArrayLike | None = None) -> float:
    """Root of the mean squared error over the mask, in the unit of the voxels. Arguments as for `mae`."""
    return math.sqrt(float(np.mean(np.square(_difference(image, reference, mask)))))


def psnr(
    image: npt.ArrayLike,
    reference: npt.ArrayLike,
    *,
    data_range: float,
    mask: npt.ArrayLike | None = None,
) -> float:
    """Peak signal-to-noise ratio, 20 log10(data_range / RMSE), in dB.

    Only voxels in the mask enter the mean squared error. Identical volumes give ``math.inf``.

    Args:
        image: The volume to judge, (X, Y, Z), any real type.
        reference: The truth, same shape and unit.
        data_range: The peak, in the unit of the voxels; `reference_range` is the usual choice.
        mask: Voxels to count, same shape; None counts all.

    Raises:
        InputError: as for `mae`, or if the data range is not a positive number.
    """
    peak = check_range(data_range)
    error = rmse(image, reference, mask=mask)
    return math.inf if error == 0.0 else 20.0 * math.log10(peak / error)


def reference_range(reference: npt.ArrayLike) -> float:
    """Maximum minus minimum of the reference: the data range used wherever this project reports a value."""
    array = np.asarray(reference)
    return float(array.max()) - float(array.min())


def _difference(image: npt.ArrayLike, reference: npt.ArrayLike, mask: npt.ArrayLike | None) -> RealArray:
    # float64: unsigned integers would wrap around, and float32 sums over millions of voxels lose digits
    left, right = check_pair(image, reference)
    selected: BoolArray | None = check_mask(mask, left.shape)
    if selected is not None:
        left, right = left[selected], right[selected]
    return np.subtract(left, right, dtype=np.float64)


def measured(reference: RealArray, modality: Modality) -> RealArray:
    """Return a reference without padding: what no scanner measures is neither range nor head.

    Args:
        reference: (X, Y, Z), of CT in HU.
        modality: Of the scan; of CT, voxels below -1024 HU are padding.
    """
    return np.maximum(reference, LEAST_HU) if modality is Modality.CT else reference
