"""Parts of scans: a restoration of a whole one takes minutes."""

from __future__ import annotations

import numpy as np

from medrestore.noise.intensity import bright_level
from medrestore.types import Modality
from medrestore.volume import Volume

MOVES = ((0, 0, 0), (0.6, 0.3, 0.2), (-0.3, -0.6, -0.2), (-0.5, 0.5, 0.4))
"""By how many of its sides along each axis a part lies off the middle."""

Box = tuple[slice, ...]


def boxes(volume: Volume, sides: tuple[int, ...], count: int) -> list[Box]:
    """Return parts of a scan: around the middle of its tissue, and off it towards the air."""
    array = volume.array - (1000 if volume.modality is Modality.CT else 0) * np.float32(-1)
    lit = array > 0.15 * bright_level(array)
    middle = [
        np.average(np.arange(n), weights=lit.mean(axis=tuple({0, 1, 2} - {axis})) + 1e-9)
        for axis, n in enumerate(lit.shape)
    ]
    found = []
    for move in MOVES[:count]:
        starts = [
            int(np.clip(at + share * side - side / 2, 0, max(n - side, 0)))
            for at, share, side, n in zip(middle, move, sides, lit.shape, strict=True)
        ]
        found.append(tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True)))
    return found


def cut(volume: Volume, array: np.ndarray, box: Box) -> Volume:
    """Return a part of voxels on the grid of a scan, where it lies."""
    geometry = volume.geometry.cropped(box)
    return Volume.from_array(
        np.ascontiguousarray(array[box], dtype=np.float32), geometry.affine, modality=volume.modality
    )
