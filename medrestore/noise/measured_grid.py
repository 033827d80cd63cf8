"""The grid that a scanner measured, and the way back to the grid that the scan was delivered on.

A reconstruction that fills k-space with zeros interpolates: the voxels that it adds hold no further noise and
no further anatomy. So a scan is restored on the grid of its band, and the zeros are filled in again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medrestore.noise.map import enlarged
from medrestore.physics.kspace import crop_band, cut_axes, fill_band
from medrestore.types import FloatArray, RealArray

EDGES = 4.0
"""Signal beyond the band is kept where it exceeds this many of its own deviations: the edge of a mask, a
marker. The rest is noise that taking the magnitude spread there."""


@dataclass(frozen=True, eq=False)
class MeasuredGrid:
    """The grid of the band, and the signal of the scan beyond the band.

    Attributes:
        shape: (X, Y, Z) voxels of the scan.
        sizes: (X, Y, Z) voxels of the grid that was measured.
        kept: (X, Y, Z) signal beyond the band that is put back; None where both grids are the same.
        left_out: Root mean square of the other signal beyond the band, in the units of the voxels.
        mirrored: Whether the scan was cut off along each axis after its reconstruction: it is mirrored there.
    """

    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    kept: FloatArray | None
    left_out: float
    mirrored: tuple[bool, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether the scanner measured the very grid of the scan."""
        return self.sizes == self.shape

    def measured(self, array: RealArray) -> RealArray:
        """Take (X, Y, Z) voxels to the grid that was measured."""
        return array if self.is_whole else crop_band(array, self.sizes, self.mirrored)

    def delivered(self, array: FloatArray) -> FloatArray:
        """Take voxels on the measured grid back to the grid of the scan, without signal beyond the band."""
        return array if array.shape == self.shape else fill_band(array, self.shape, self.mirrored)

    def restored(self, array: FloatArray) -> FloatArray:
        """Take a result back to the grid of the scan, with the kept signal beyond the band."""
        if self.kept is None:
            return array
        full = self.delivered(array)
        full += self.kept
        return full

    def map(self, array: RealArray) -> RealArray:
        """Take a smooth positive map on the measured grid to the grid of the scan."""
        return array if self.is_whole else enlarged(array, self.shape)


def find_measured_grid(array: RealArray, sizes: tuple[int, ...]) -> MeasuredGrid:
    """Return the way to a measured grid and back.

    Args:
        array: (X, Y, Z) voxels of the scan.
        sizes: Voxels of the measured grid, along each axis at most as many as the scan has.
    """
    shape = tuple(array.shape)
    if tuple(sizes) == shape:
        return MeasuredGrid(shape, shape, None, 0.0)
    cut = cut_axes(array, sizes)
    beyond = np.asarray(array, dtype=np.float32) - fill_band(crop_band(array, sizes, cut), shape, cut)
    usual = float(np.median(np.abs(beyond[::2, ::2, ::2]))) / 0.6745
    large = np.abs(beyond) > EDGES * usual
    left_out = (
        float(np.sqrt(np.mean(np.square(beyond[~large], dtype=np.float64)))) if not large.all() else 0.0
    )
    beyond[~large] = 0
    return MeasuredGrid(shape, tuple(sizes), beyond, left_out, cut)
