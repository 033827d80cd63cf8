"""Siemens mosaics: the slices of a volume, tiled into one picture."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from medrestore.io.dicom.parse.files import READ_ERRORS
from medrestore.types import Float64Array

MOSAIC_TAGS = [0x00290000 + block for block in (0x10, 0x11, 0x12, 0x1010, 0x1110, 0x1210)]
"""Where Siemens' own header, called CSA, may be: creators, and the header of the image in their blocks."""

# Cosine of the largest angle between the normal that Siemens states and the normal of rows and columns.
_ALONG = 0.9999


@dataclass(frozen=True)
class Mosaic:
    """How slices are tiled.

    Attributes:
        count: Slices, in the order along the normal.
        side: Tiles along each side of the picture.
        distance: Distance from slice to slice, mm.
    """

    count: int
    side: int
    distance: float

    def positions(
        self, position: Float64Array, axes: Float64Array, spacing: tuple[float, float], size: tuple[int, int]
    ) -> Float64Array:
        """Return the centre of the first pixel of every slice, (slice, 3).

        Siemens states where the picture would begin if it had the middle of the first slice in its middle.

        Args:
            position: Position stated for the picture, LPS mm.
            axes: Unit vectors along a row and along a column, (2, 3).
            spacing: Distance between rows and between columns, mm.
            size: Rows and columns of the picture.
        """
        rows, columns = (pixels - pixels // self.side for pixels in size)
        first = position + axes[0] * columns / 2 * spacing[1] + axes[1] * rows / 2 * spacing[0]
        steps = np.arange(self.count)[:, np.newaxis] * self.distance
        return np.asarray(first + steps * np.cross(*axes))


def read_mosaic(data: Dataset) -> Mosaic | None:
    """Return how the slices of a mosaic are tiled; None where its header is not certain about that.

    Slices that run against the normal, as some protocols have them, are not guessed at.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel warns that csareader is experimental; it is tested here
        from nibabel.nicom import csareader  # noqa: PLC0415  # nibabel costs more than a plan
    try:
        header = csareader.get_csa_header(data)
        if header is None:
            return None
        count, normal = csareader.get_n_mosaic(header), csareader.get_slice_normal(header)
        reversed_order = csareader.get_scalar(header, "ProtocolSliceNumber") or 0
        axes = np.reshape(np.asarray(data.ImageOrientationPatient, dtype=np.float64), (2, 3))
        distance = float(data.get("SpacingBetweenSlices") or 0)
    except (*READ_ERRORS, csareader.CSAReadError):
        return None
    if not count or normal is None or reversed_order or distance <= 0:
        return None
    side = math.ceil(math.sqrt(count))
    if data.Rows % side or data.Columns % side or float(np.cross(*axes) @ normal) < _ALONG:
        return None
    return Mosaic(int(count), side, distance)
