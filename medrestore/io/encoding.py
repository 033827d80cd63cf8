"""Voxels as numbers of a type: rounded, clipped to what the type holds, and counted where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from medrestore.errors import OutputError
from medrestore.io.formats import StoredVoxels
from medrestore.types import RealArray
from medrestore.volume import Volume

TYPES = ("float32", "float64", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")


@dataclass(frozen=True)
class Encoding:
    """How values are stored: ``value = stored * slope + inter``."""

    dtype: np.dtype[Any]
    slope: float = 1.0
    inter: float = 0.0

    @property
    def is_scaled(self) -> bool:
        """Whether what is stored is not the value itself."""
        return (self.slope, self.inter) != (1.0, 0.0)


def encoding_of(volume: Volume, dtype: str, types: Sequence[str] = TYPES) -> Encoding:
    """Return how the voxels of a volume are stored as a type, or as they were in the input.

    Args:
        volume: What is stored.
        dtype: ``"input"``, or the name of a type.
        types: Those that the file can have.

    Raises:
        OutputError: The type is none of these, or that of the input is not known.
    """
    details = {} if volume.source is None else volume.source.details
    if dtype != "input":
        if dtype not in types:
            raise OutputError(f"voxel type {dtype!r}, expected 'input' or one of {', '.join(types)}")
        return Encoding(np.dtype(dtype))
    if "dtype" not in details:
        raise OutputError(f"the voxel type of the input is not known; name one of {', '.join(types)}")
    known = str(details["dtype"])
    if known not in TYPES:
        # Wider floats and booleans: the nearest type that every reader knows.
        known = "float32" if known.startswith("float") else "uint8"
    if known not in types:
        raise OutputError(
            f"the input has voxels of {known}, which this format does not; name one of its types: "
            f"{', '.join(types)}"
        )
    kept = np.dtype(known)
    if kept.kind == "f":
        return Encoding(kept)
    return Encoding(
        kept, float(cast(float, details.get("slope", 1.0))), float(cast(float, details.get("inter", 0.0)))
    )


def encode_values(values: RealArray, encoding: Encoding) -> tuple[RealArray, int]:
    """Return values as they are stored, and how many of them the type could not hold."""
    dtype = encoding.dtype
    if not encoding.is_scaled and (
        values.dtype == dtype or (dtype.kind == "f" and values.dtype.itemsize <= dtype.itemsize)
    ):
        return values.astype(dtype, copy=False), 0
    stored = (values.astype(np.float64) - encoding.inter) / encoding.slope
    low, high = _limits(dtype)
    if dtype.kind != "f":
        stored = np.rint(stored)
    clipped = int(np.count_nonzero((stored < low) | (stored > high)))
    return np.clip(stored, low, high).astype(dtype), clipped


def encode(
    volumes: Sequence[Volume], dtype: str, types: Sequence[str]
) -> tuple[list[RealArray], StoredVoxels]:
    """Return the voxels of volumes as a format without a scale stores them: for its `Format.write`.

    Args:
        volumes: On one grid.
        dtype: As `Format.write` has it.
        types: Names of those that the format has.

    Returns:
        (X, Y, Z) of each volume, and what was made of them.

    Raises:
        OutputError: The format has not this type, or the input stores numbers with a scale.
    """
    encoding = encoding_of(volumes[0], dtype, types)
    if encoding.is_scaled:
        raise OutputError(
            "the input stores its values with a scale, which this format does not have; write "
            "them as float32, or name another type"
        )
    stored = [encode_values(volume.array, encoding) for volume in volumes]
    return [array for array, _ in stored], StoredVoxels(
        encoding.dtype.name, sum(count for _, count in stored)
    )


def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the ends of a type's range as float64 values that the type can hold."""
    if dtype.kind == "f":
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    # The top of a 64-bit type rounds up to a float64 that the type cannot hold.
    return float(low), float(high) if int(float(high)) <= high else float(np.nextafter(float(high), 0.0))
