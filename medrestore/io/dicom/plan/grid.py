"""The regular grid of a stack of slices, and how the slices get onto it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medrestore.geometry import Geometry, lps_to_ras
from medrestore.io.dicom.plan.stack import GridDefect, Stack, axes_of, steps_of
from medrestore.provenance import Step
from medrestore.types import Float64Array, FloatArray

# The finest distance counts at uneven slices, unless that makes this many times more slices.
_MOST_SLICES = 4


@dataclass(frozen=True)
class Layout:
    """The grid that the slices of a stack are put on.

    Attributes:
        geometry: The grid, axes (column, row, slice).
        heights: Heights of the grid's slices along the normal, from the first slice of the stack, in mm.
        offsets: Offsets of the first pixel of each slice of the stack in the plane of the grid, in pixels
            along row and column direction, (n, 2).
        mended: Defects mended by resampling; empty where slices are taken as they are.
    """

    geometry: Geometry
    heights: Float64Array
    offsets: Float64Array
    mended: tuple[GridDefect, ...]


def lay_out(stack: Stack) -> Layout:
    """Return the grid of a stack: its own slices if they are regular, else a grid to resample them to."""
    mended = tuple(dict.fromkeys(finding.flaw for finding in stack.findings))
    moved = {GridDefect.TILT, GridDefect.NONUNIFORM} & set(mended)
    head = stack.places[0][0]
    axes, (between_rows, between_columns) = axes_of(head), head.spacing
    rows, columns = head.size
    count = len(stack.places)
    offsets: Float64Array = np.zeros((count, 2))
    origin = np.asarray(head.position)
    if stack.rounding:
        origin = origin + axes_of(head).T @ [0.0, 0.0, _on_line(stack)]
    if moved:
        offsets = stack.shifts / (between_columns, between_rows)
        low = np.floor(offsets.min(axis=0) + 1e-6)
        offsets -= low
        extra = np.ceil(offsets.max(axis=0) - 1e-6).astype(int)
        columns, rows = columns + int(extra[0]), rows + int(extra[1])
        origin = origin + low @ (axes[:2] * [[between_columns], [between_rows]])
    heights = _heights(stack, mended)
    affine = np.eye(4)
    affine[:3, 0] = axes[0] * between_columns
    affine[:3, 1] = axes[1] * between_rows
    affine[:3, 2] = _step(stack, heights, bool(moved))
    affine[:3, 3] = origin
    geometry = Geometry((columns, rows, len(heights)), lps_to_ras(affine))
    return Layout(geometry, heights, offsets, mended)


def _heights(stack: Stack, mended: tuple[GridDefect, ...]) -> Float64Array:
    """Return the heights of the slices of the grid."""
    if GridDefect.GAP not in mended and GridDefect.NONUNIFORM not in mended:
        return stack.heights
    last = float(stack.heights[-1])
    distance = stack.distance
    if GridDefect.NONUNIFORM in mended:
        finest = float(np.diff(stack.heights).min())
        if last / finest <= _MOST_SLICES * len(stack.places):
            distance = finest
    count = round(last / distance)
    if GridDefect.NONUNIFORM in mended:
        return np.asarray(np.arange(int(last / distance + 1e-6) + 1) * distance)
    return np.linspace(0.0, last, count + 1)


def _step(stack: Stack, heights: Float64Array, upright: bool) -> Float64Array:
    """Return the step from slice to slice, LPS+ mm."""
    axes = axes_of(stack.places[0][0])
    if len(heights) == 1:
        return np.asarray(axes[2] * stack.distance)
    if upright:
        return np.asarray(axes[2] * (heights[-1] - heights[0]) / (len(heights) - 1))
    if stack.rounding:
        return np.asarray(stack.distance * (axes[2] + stack.lean @ axes[:2]))
    first, last = (np.asarray(stack.places[n][0].position) for n in (0, -1))
    return np.asarray((last - first) / (len(heights) - 1))


def _on_line(stack: Stack) -> float:
    """Return how far the first slice of rounded positions lies below the line through all, in mm."""
    return float(np.mean(stack.heights - stack.distance * steps_of(stack.heights, stack.distance)))


def resample(slices: FloatArray, stack: Stack, layout: Layout, outside: float) -> FloatArray:
    """Bring the slices of a stack onto its grid, linearly within planes and between them.

    Args:
        slices: (slice, row, column), a slice for each place of the stack.
        stack: Where the slices lie.
        layout: The grid to resample the slices to.
        outside: Value where there is no slice.

    Returns:
        (slice, row, column) of the grid.
    """
    columns, rows, count = layout.geometry.shape
    out: FloatArray = np.empty((count, rows, columns), dtype=np.float32)
    # The slice below each slice of the grid, and how far the grid's slice lies towards the next.
    below = np.clip(np.searchsorted(stack.heights, layout.heights + 1e-6, "right") - 1, 0, len(slices) - 1)
    above = np.minimum(below + 1, len(slices) - 1)
    for k, height in enumerate(layout.heights):
        low, high = int(below[k]), int(above[k])
        gap = stack.heights[high] - stack.heights[low]
        share = float((height - stack.heights[low]) / gap) if gap > 0 else 0.0
        out[k] = _placed(slices[low], layout.offsets[low], (rows, columns), outside)
        if share > 1e-6:
            upper = _placed(slices[high], layout.offsets[high], (rows, columns), outside)
            out[k] += np.float32(share) * (upper - out[k])
    return out


def _placed(image: FloatArray, offset: Float64Array, size: tuple[int, int], outside: float) -> FloatArray:
    """Return an image, (row, column), at an offset in pixels (along the row, along the column)."""
    plane: FloatArray = np.full(size, outside, dtype=np.float32)
    if size == image.shape:
        plane[...] = image
        return plane
    whole = np.floor(offset + 1e-6).astype(int)
    column, row = (int(number) for number in whole)
    plane[row : row + image.shape[0], column : column + image.shape[1]] = image
    for axis, share in ((1, float(offset[0] - column)), (0, float(offset[1] - row))):
        if share > 1e-6:
            # A value at x + share takes that share from the pixel before.
            before = np.roll(plane, 1, axis=axis)
            before[(slice(None),) * axis + (slice(0, 1),)] = outside
            plane += np.float32(share) * (before - plane)
    return plane


def step_of(stack: Stack, layout: Layout) -> Step:
    """Return the record of a resampling."""
    apart = np.abs(layout.heights[:, np.newaxis] - stack.heights[np.newaxis, :]).min(axis=1)
    return Step(
        "dicom:resample",
        {
            "mended": [finding.label for finding in stack.findings],
            "slices": len(stack.places),
            "to_slices": len(layout.heights),
            "interpolated": np.flatnonzero(apart > 1e-3).tolist(),
            "distance_mm": layout.geometry.spacing[2],
            "method": "linear",
        },
    )
