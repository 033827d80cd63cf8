"""The residual of a scan slab by slab: that of a large scan is never there as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medrestore.noise.intensity import FOREGROUND, bright_level
from medrestore.types import BoolArray, FloatArray, RealArray

_SLAB = 1 << 20
"""Voxels looked at together."""


@dataclass(frozen=True, eq=False)
class Slab:
    """Some rows of a volume along X, and a few before and behind them.

    Attributes:
        residual: (rows, Y, Z) scan minus result over the noise.
        restored: (rows, Y, Z) the result, in the units of the scan.
        sigma: The noise in the same units, or (rows, Y, Z) one for each voxel.
        tissue: (rows, Y, Z) where there is tissue.
        new: The rows that no other slab has as its own.
        start: Number of the first of them in the volume.
    """

    residual: FloatArray
    restored: FloatArray
    sigma: float | RealArray
    tissue: BoolArray
    new: slice
    start: int

    @property
    def own(self) -> BoolArray:
        """(new rows, Y, Z) tissue of the rows of this slab alone."""
        return self.tissue[self.new]

    def gradient(self) -> tuple[FloatArray, ...]:
        """Return the gradient of the result by central differences in the slab's own rows, axis by axis."""
        return tuple(
            np.gradient(self.restored, axis=axis)[self.new]
            if self.restored.shape[axis] > 1
            else np.zeros_like(self.restored[self.new])
            for axis in range(3)
        )


def slabs(
    scan: RealArray, restored: RealArray, sigma: float | RealArray, zero: float, halo: int = 1
) -> Iterator[Slab]:
    """Yield the slabs of a residual, in order.

    Args:
        scan: (X, Y, Z) voxels before.
        restored: (X, Y, Z) voxels after.
        sigma: Noise level in the units of the voxels, or (X, Y, Z) one for each voxel; above 0.
        zero: The value of voxels without tissue: that of air in CT.
        halo: Rows before and behind, where there are any.
    """
    smooth = ndimage.uniform_filter(np.asarray(restored, dtype=np.float32), 3)
    smooth -= np.float32(zero)
    least = FOREGROUND * bright_level(smooth)
    thickness = max(_SLAB // max(scan[0].size, 1), 2 * halo if halo > 1 else 1)
    for start in range(0, len(scan), thickness):
        rows = slice(max(start - halo, 0), start + thickness + halo)
        level = sigma if isinstance(sigma, float) or np.ndim(sigma) == 0 else np.asarray(sigma)[rows]
        new = slice(start - rows.start, min(start + thickness, len(scan)) - rows.start)
        yield Slab(
            np.asarray((scan[rows] - restored[rows]) / level, dtype=np.float32),
            np.asarray(restored[rows], dtype=np.float32),
            level,
            smooth[rows] > least,
            new,
            start,
        )
