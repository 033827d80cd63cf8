"""Where the slices of a derived series lie, and which source images each of them comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medrestore.errors import GeometryError
from medrestore.geometry import Geometry, lps_to_ras
from medrestore.io.dicom.derive.source import SourceSlice
from medrestore.types import Float64Array, FloatArray

# A slice is in the place of its source if no corner is further away than this.
_SAME_PLACE_MM = 0.03
# Cosine of the largest angle between the slices' normal and the third axis: a tenth of a degree.
_UPRIGHT = float(np.cos(np.deg2rad(0.1)))


@dataclass(frozen=True)
class Placement:
    """Where one slice of the result lies, LPS+ mm, and its source slices.

    Attributes:
        position: Centre of the first pixel, (3,).
        axes: Unit vectors along a row and along a column, (2, 3).
        spacing: Voxel sizes along the first, second and third array axis.
        size: Columns and rows.
        nearest: Number of the source slice that is nearest.
        sources: Numbers of the source slices that lie within this slice or beside it.
        preserved: Whether every pixel lies where the nearest source has it.
    """

    position: Float64Array
    axes: Float64Array
    spacing: tuple[float, float, float]
    size: tuple[int, int]
    nearest: int
    sources: tuple[int, ...]
    preserved: bool

    @property
    def normal(self) -> Float64Array:
        """Unit vector across the slice."""
        return np.asarray(np.cross(self.axes[0], self.axes[1]))


def place_slices(geometry: Geometry, sources: Sequence[SourceSlice]) -> tuple[Placement, ...]:
    """Return the placement of every slice along the third array axis.

    Args:
        geometry: The grid of the result.
        sources: The source images, ordered along their normal.

    Raises:
        GeometryError: The grid is sheared, which DICOM images cannot be.
    """
    affine = lps_to_ras(geometry.affine)
    steps = affine[:3, :3] / np.asarray(geometry.spacing)
    upright = abs(float(np.cross(steps[:, 0], steps[:, 1]) @ steps[:, 2]))
    if upright < _UPRIGHT or abs(float(steps[:, 0] @ steps[:, 1])) > 1e-3:
        raise GeometryError(
            "the grid is sheared, and a DICOM image has perpendicular axes; resample the scan to a "
            "rectangular grid, or write NIfTI"
        )
    normal = sources[0].normal
    along = np.asarray([item.position @ normal for item in sources])
    placements = []
    for k in range(geometry.shape[2]):
        low, high = _extent(affine, geometry.shape, k, normal)
        nearest = int(np.argmin(np.abs(along - (low + high) / 2)))
        start = max(int(np.searchsorted(along, low, "right")) - 1, 0)
        stop = min(int(np.searchsorted(along, high, "left")), len(along) - 1)
        placement = Placement(
            position=affine[:3, :3] @ [0, 0, k] + affine[:3, 3],
            axes=steps[:, :2].T,
            spacing=geometry.spacing,
            size=geometry.shape[:2],
            nearest=nearest,
            sources=tuple(range(start, stop + 1)),
            preserved=False,
        )
        placements.append(_on_source_slices(placement, sources[nearest]))
    return tuple(placements)


def _extent(
    affine: Float64Array, shape: tuple[int, int, int], k: int, normal: Float64Array
) -> tuple[float, float]:
    """Return how far a slice, with its thickness, reaches along the normal of the sources."""
    ends = np.array(
        [[i, j, k + edge] for i in (0, shape[0] - 1) for j in (0, shape[1] - 1) for edge in (-0.5, 0.5)]
    )
    reach = (ends @ affine[:3, :3].T + affine[:3, 3]) @ normal
    return float(reach.min()), float(reach.max())


def _on_source_slices(placement: Placement, source: SourceSlice) -> Placement:
    """Return the placement with a single source if every pixel lies where that source has it."""
    if placement.size != source.size:
        return placement
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * (np.asarray(placement.size) - 1)
    here = corners * np.asarray(placement.spacing[:2]) @ placement.axes + placement.position
    there = corners * np.asarray(source.spacing) @ source.axes + source.position
    if np.abs(here - there).max() > _SAME_PLACE_MM:
        return placement
    return Placement(
        placement.position,
        placement.axes,
        placement.spacing,
        placement.size,
        placement.nearest,
        (placement.nearest,),
        preserved=True,
    )


def padded_pixels(placement: Placement, source: SourceSlice, padding: FloatArray | None) -> FloatArray | None:
    """Return the padding of a slice of the result, given that of its nearest source.

    Args:
        placement: The slice.
        source: Its nearest source.
        padding: (column, row) of the source: values of padding, NaN where pixels were measured.

    Returns:
        Values of padding, (column, row), of the slice of the result.
    """
    if padding is None or placement.preserved:
        return padding
    columns, rows = np.meshgrid(*map(np.arange, placement.size), indexing="ij")
    place = (
        placement.position
        + columns[..., np.newaxis] * placement.spacing[0] * placement.axes[0]
        + rows[..., np.newaxis] * placement.spacing[1] * placement.axes[1]
    )
    index = np.rint((place - source.position) @ source.axes.T / np.asarray(source.spacing)).astype(int)
    inside = np.all((index >= 0) & (index < np.asarray(source.size)), axis=-1)
    index = np.clip(index, 0, np.asarray(source.size) - 1)
    return np.where(inside, padding[index[..., 0], index[..., 1]], np.float32(np.nan))
