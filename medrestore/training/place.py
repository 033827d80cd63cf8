"""Where a patch is from, so that what belongs to it can be cut from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medrestore.training.contrast import Orientation
from medrestore.types import FloatArray

UNTURNED = Orientation()


@dataclass(frozen=True)
class Place:
    """Where a patch is from, and how it was turned.

    Attributes:
        scan: Number of the scan in the corpus.
        start: First voxel of the patch on each axis.
        turn: What was done to it then.
    """

    scan: int
    start: tuple[int, int, int]
    turn: Orientation = UNTURNED

    def cut(self, volume: FloatArray, size: int, shift: int = 0) -> FloatArray:
        """Cut the patch at this place from another (X, Y, Z) volume on the grid of the scan, and turn it.

        Args:
            volume: On that grid; beyond an end it starts anew at the other.
            size: Side of the patch in voxels.
            shift: Slices further along the last axis.
        """
        starts = (*self.start[:2], self.start[2] + shift)
        index = [(start + np.arange(size)) % n for start, n in zip(starts, volume.shape, strict=True)]
        return self.turn(volume[np.ix_(*index)].astype(np.float32))
