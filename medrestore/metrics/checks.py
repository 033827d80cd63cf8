"""What every metric demands of its arguments."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medrestore.errors import InputError
from medrestore.types import BoolArray, RealArray
from medrestore.voxels import unmasked


def check_pair(image: npt.ArrayLike, reference: npt.ArrayLike) -> tuple[RealArray, RealArray]:
    """Return both volumes as arrays of one shape with finite real voxels.

    Raises:
        InputError: if the shapes differ, one is empty or not real, or a voxel is NaN, infinite or masked.
    """
    pair = unmasked(image, "image"), unmasked(reference, "reference")
    if pair[0].shape != pair[1].shape:
        raise InputError(
            f"cannot compare volumes of different shapes: the image is {pair[0].shape} and the reference "
            f"{pair[1].shape}; resample one of them to the other's grid"
        )
    for name, array in zip(("image", "reference"), pair, strict=True):
        check_real(array, name)
    return pair


def check_image(image: npt.ArrayLike) -> RealArray:
    """Return a volume as an array (X, Y, Z) of finite real voxels.

    Raises:
        InputError: It is not three-dimensional, empty or not real, or a voxel is NaN, infinite or masked.
    """
    array = unmasked(image, "image")
    check_real(array, "image")
    if array.ndim != 3:
        raise InputError(f"the image has shape {array.shape}; expected a volume (X, Y, Z)")
    return array


def check_real(array: RealArray, name: str) -> None:
    """Refuse arrays that are empty, not real or not finite.

    Raises:
        InputError: It is one of these.
    """
    if array.size == 0:
        raise InputError(f"the {name} has no voxels (shape {array.shape})")
    if array.dtype.kind not in "biuf":
        raise InputError(f"the {name} has voxels of type {array.dtype}; metrics are for real numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int(array.size - np.count_nonzero(np.isfinite(array)))
        raise InputError(f"the {name} has {count} NaN or infinite voxels; a metric over them has no meaning")


def check_spacing(spacing: Sequence[float]) -> tuple[float, float, float]:
    """Return the sizes of voxels along X, Y and Z in mm.

    Raises:
        InputError: They are not three positive finite numbers.
    """
    sizes = tuple(float(size) for size in spacing)
    if len(sizes) != 3 or not all(math.isfinite(size) and size > 0 for size in sizes):
        raise InputError(f"spacing is {sizes}; expected three positive sizes of voxels in mm")
    return sizes[0], sizes[1], sizes[2]


def check_mask(mask: npt.ArrayLike | None, shape: tuple[int, ...]) -> BoolArray | None:
    """Return the mask as booleans of the given shape (None stays None: all voxels).

    Raises:
        InputError: if the mask has another shape or selects no voxel.
    """
    if mask is None:
        return None
    selected = np.asarray(mask)
    if selected.dtype != np.bool_:
        selected = selected != 0
    if selected.shape != shape:
        raise InputError(f"the mask has shape {selected.shape}, the volumes have {shape}")
    if not selected.any():
        raise InputError("the mask selects no voxel")
    return selected


def check_range(data_range: float) -> float:
    """Return the data range as a float.

    Raises:
        InputError: if it is not a positive finite number (a constant reference has no range of its own).
    """
    value = float(data_range)
    if not (math.isfinite(value) and value > 0):
        raise InputError(
            f"data_range must be a positive number, got {data_range!r}; give the range of the reference"
        )
    return value
