"""The elements that every slice must have, checked: its place, and how its values are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medrestore.errors import GeometryError, InputError
from medrestore.io.dicom.parse.doubts import Doubt
from medrestore.io.dicom.parse.elements import Get


@dataclass(frozen=True)
class Place:
    """Where a slice lies.

    Attributes:
        position: Centre of the first pixel, LPS mm.
        orientation: Unit vectors along a row and along a column, 2x3.
        spacing: Distance between rows and between columns, mm.
    """

    position: tuple[float, ...]
    orientation: tuple[tuple[float, ...], tuple[float, ...]]
    spacing: tuple[float, float]


def read_place(where: str, get: Get) -> Place:
    """Read where a slice lies.

    Raises:
        GeometryError: An element is missing, or its value makes no sense.
    """
    orientation = np.reshape(_vector(where, get, "ImageOrientationPatient", 6), (2, 3))
    lengths = np.linalg.norm(orientation, axis=1)
    if np.abs(lengths - 1).max() > 1e-2 or abs(orientation[0] @ orientation[1]) > 1e-2:
        raise GeometryError(
            f"{where}: image orientation {orientation.tolist()} is no pair of perpendicular unit vectors"
        )
    row, column = (orientation / lengths[:, np.newaxis]).tolist()
    spacing = _vector(where, get, "PixelSpacing", 2)
    if min(spacing) <= 0:
        raise GeometryError(f"{where}: pixel spacing {spacing}, expected two positive lengths in mm")
    position = tuple(_vector(where, get, "ImagePositionPatient", 3))
    return Place(position, (tuple(row), tuple(column)), (spacing[0], spacing[1]))


WIDER = 1.3
"""How many times the diameter that it was reconstructed in an image may be wide. One that was cut out of
another is narrower."""


def too_wide(get: Get, size: tuple[int, int], spacing: tuple[float, float]) -> str:
    """Return how the pixels of a CT contradict the diameter that it was reconstructed in; nothing if not.

    Args:
        get: Looks the attributes of the slice up.
        size: Rows and columns.
        spacing: Distance between rows and between columns, mm.
    """
    stated = get("ReconstructionDiameter")
    if get("Modality") != "CT" or not isinstance(stated, float) or not 0 < stated < np.inf:
        return ""
    width = max(count * step for count, step in zip(size, spacing, strict=True))
    if width <= WIDER * stated:
        return ""
    return f"{width:.0f} mm across by its pixel spacing, reconstructed in {stated:.0f} mm by its header"


@dataclass(frozen=True)
class Bits:
    """How many bits of a stored value are in use, and what the header leaves open about that."""

    stored: int
    doubts: tuple[Doubt, ...]


def stored_type(where: str, get: Get) -> np.dtype[Any]:
    """Return the type of the stored values.

    Raises:
        InputError: The header does not state one that there is.
    """
    bits = [get(name) for name in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")]
    allocated, stored, _, sign = bits
    if allocated not in {8, 16, 32} or None in {stored, sign} or not 0 < stored <= allocated:
        raise InputError(
            f"{where}: pixels with bits allocated, stored, high bit and sign {bits}; expected whole bytes "
            "that hold the value in their lowest bits"
        )
    return np.dtype(f"{'i' if sign else 'u'}{int(allocated) // 8}")


def bits_of(get: Get) -> Bits:
    """Return which bits of the stored values are in use."""
    stored, high = int(get("BitsStored")), get("HighBit")
    return Bits(stored, () if high in {None, stored - 1} else (Doubt.HIGH_BIT,))


def _vector(where: str, get: Get, name: str, size: int) -> list[float]:
    value = get(name)
    numbers = (
        [] if value is None or isinstance(value, str) else [float(item) for item in np.atleast_1d(value)]
    )
    if len(numbers) != size or not np.isfinite(numbers).all():
        what = "None" if value is None else f"{len(numbers)} numbers"
        raise GeometryError(
            f"{where}: {name} is {what}, expected {size} finite numbers; the slice has no place"
        )
    return numbers
