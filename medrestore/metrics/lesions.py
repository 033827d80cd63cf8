"""Virtual lesions: small bright and dark spheres put into a scan, and what is left of their contrast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from medrestore.types import BoolArray, FloatArray

FINE = 5
"""Parts of a voxel along each axis in which it is told whether they lie inside a sphere."""

CORE = 0.99
"""Part of a voxel inside the sphere from which it counts to the core, which has the whole contrast."""


@dataclass(frozen=True)
class Lesion:
    """A sphere in the middle of a voxel.

    Attributes:
        centre: Indices of the voxel.
        diameter: In voxels.
        contrast: What it adds to what is around it, in the units of the scan; negative for a dark one.
    """

    centre: tuple[int, int, int]
    diameter: float
    contrast: float

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The voxels that it touches, and a few more."""
        reach = math.ceil(self.diameter / 2)
        first, second, third = (slice(at - reach, at + reach + 1) for at in self.centre)
        return first, second, third

    @property
    def profile(self) -> FloatArray:
        """Part of each voxel of `box` that is inside."""
        return sphere(self.diameter)

    @property
    def core(self) -> BoolArray:
        """The voxels of `box` that are inside."""
        inside: BoolArray = self.profile > CORE
        return inside


@lru_cache(maxsize=32)
def sphere(diameter: float) -> FloatArray:
    """Return what part of each voxel of a cube is inside a sphere in its middle.

    Args:
        diameter: In voxels.

    Returns:
        (side, side, side) of float32, read-only, the side odd and at least the diameter.
    """
    side = 2 * math.ceil(diameter / 2) + 1
    at = 2 * np.arange(side * FINE) + 1 - side * FINE  # in halves of a part: whole, so both sides round alike
    squares = sum(axis**2 for axis in np.meshgrid(at, at, at, indexing="ij", sparse=True))
    inside = np.asarray(squares) <= (diameter * FINE) ** 2
    parts: FloatArray = inside.reshape(side, FINE, side, FINE, side, FINE).mean(
        axis=(1, 3, 5), dtype=np.float32
    )
    parts.flags.writeable = False
    return parts


def with_lesions(image: npt.ArrayLike, lesions: Sequence[Lesion]) -> FloatArray:
    """Return a copy of an image with lesions added to it.

    Args:
        image: (X, Y, Z), real.
        lesions: What is added; each box lies inside the image.
    """
    changed = np.array(image, dtype=np.float32)
    for one in lesions:
        changed[one.box] += np.float32(one.contrast) * one.profile
    return changed


def contrast_kept(with_them: FloatArray, without: FloatArray, lesions: Sequence[Lesion]) -> list[float]:
    """Return, for each lesion, the mean difference over its core as a fraction of its contrast.

    Args:
        with_them: (X, Y, Z), what a method made of the image with the lesions.
        without: What it made of the same image, the same noise, without them.
        lesions: Those that were added.
    """
    return [float((with_them[one.box] - without[one.box])[one.core].mean() / one.contrast) for one in lesions]


def scattered(
    inside: BoolArray, count: int, apart: int, rng: np.random.Generator
) -> list[tuple[int, int, int]]:
    """Return random voxels of a mask of which no two are near each other.

    Args:
        inside: (X, Y, Z), where they may be.
        count: How many at most; fewer where there is no more room.
        apart: Least distance of two of them in voxels, along at least one axis.
        rng: Source of randomness.
    """
    free = inside.copy()
    found: list[tuple[int, int, int]] = []
    for flat in rng.permutation(np.flatnonzero(inside)):
        x, y, z = (int(at) for at in np.unravel_index(flat, inside.shape))
        if not free[x, y, z]:
            continue
        found.append((x, y, z))
        if len(found) == count:
            break
        free[tuple(slice(max(at - apart + 1, 0), at + apart) for at in (x, y, z))] = False
    return found
