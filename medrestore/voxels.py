"""What an array must be to be a scan: real, finite and unmasked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from medrestore.errors import InputError
from medrestore.findings import VOXELS_FILLED, Finding
from medrestore.types import FloatArray, RealArray

# Voxels looked at together: the check must not cost another copy of the volume.
_BLOCK = 1 << 20


def unmasked(array: Any, name: str) -> RealArray:
    """Return anything that numpy takes for an array as one without a mask.

    Raises:
        InputError: It is a masked array, and voxels are masked: what they are worth only their owner knows.
    """
    hidden = int(np.ma.getmaskarray(array).sum()) if isinstance(array, np.ma.MaskedArray) else 0
    if hidden:
        raise InputError(
            f"{name}: {hidden} of {array.size} voxels are masked, and every voxel needs a "
            "value here; fill them, with the value of air for example, as in array.filled(0), and mask the "
            "result again"
        )
    return np.asarray(array)


def check_voxels(array: npt.NDArray[Any], name: str) -> None:
    """Refuse voxels that are not real, or not finite.

    Args:
        array: (X, Y, Z) voxels.
        name: Of the array or its file, for the message.

    Raises:
        InputError: They are one of these.
    """
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{name}: voxels of type {array.dtype}, expected real numbers; "
            "split colour into channels, and complex data into magnitude (and phase)"
        )
    if array.dtype.kind == "f" and not all(np.isfinite(block).all() for block in _blocks(array)):
        raise _not_finite(array, name)


def fill(array: npt.NDArray[Any], value: float | None) -> tuple[npt.NDArray[Any], int]:
    """Return voxels with a value in place of NaN and of infinities, and how many of them there were.

    Args:
        array: Voxels; they are not changed.
        value: What replaces them; None to leave them.
    """
    if value is None or array.dtype.kind != "f" or (known := np.isfinite(array)).all():
        return array, 0
    return np.where(known, array, array.dtype.type(value)), int(known.size - known.sum())


def filled(count: int, value: float | None) -> tuple[Finding, ...]:
    """Return the finding that so many voxels of a scan got a value; none where none did."""
    if not count:
        return ()
    text = f"{count} voxels are no finite number and were taken for {value:g}, as asked for"
    return (VOXELS_FILLED.found(text, voxels=count, value=value),)


def as_float32(array: npt.NDArray[Any], name: str) -> FloatArray:
    """Return finite voxels as float32, in the order of memory that they have; a copy unless they are.

    Raises:
        InputError: The largest would become infinite, or lose its digits on the way to 0.
    """
    largest = max(array.max(), -array.min()) if array.dtype.kind == "f" else 0
    held = np.finfo(np.float32)
    if largest != 0 and not held.tiny <= largest <= held.max:
        raise InputError(
            f"{name}: the largest magnitude is {largest:.3g}, which float32 does not hold; expected 0, or "
            f"{held.tiny:.2g} to {held.max:.2g}: multiply the voxels by a constant first"
        )
    return array.astype(np.float32, copy=False)


def _blocks(array: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Yield pieces of `array` without copying: flat runs in memory order, or slabs if it has gaps."""
    if array.flags.c_contiguous or array.flags.f_contiguous:
        flat = array.ravel(order="K")
        yield from (flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK))
    else:
        yield from array


def _not_finite(array: npt.NDArray[Any], name: str) -> InputError:
    nan = sum(int(np.isnan(block).sum()) for block in _blocks(array))
    infinite = sum(int(np.isinf(block).sum()) for block in _blocks(array))
    first = next(
        (n, *np.argwhere(~np.isfinite(slab))[0].tolist())
        for n, slab in enumerate(array)
        if not np.isfinite(slab).all()
    )
    return InputError(
        f"{name}: {nan + infinite} of {array.size} voxels are not finite ({nan} NaN, {infinite} infinite), "
        f"the first at index {tuple(int(i) for i in first)}; "
        "replace them before restoring, by the background for example: where a file is read, --nan-fill 0 "
        "does, or ReadPolicy(nan_fill=0)"
    )
