"""How sharp the surface of a body is in CT: its width in mm, which a wrong voxel size makes wrong.

A scanner blurs both axes of its slices alike, by one to three millimetres, whoever lies in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from medrestore.engine.models.body import PAIRS, side_of
from medrestore.engine.models.thinned import across
from medrestore.geometry import Geometry
from medrestore.types import AIR_HU, FloatArray, RealArray

SURFACE = AIR_HU / 2
"""HU half way from air to water, where the surface lies."""

AIR, TISSUE = AIR_HU + 200, -200.0
"""HU up to which it is air on one side, and from which it is tissue on the other."""

REACH = 2
"""Voxels on either side, beside the two that a surface lies between, by which air and tissue are reached."""

LINES = 96
"""Lines along an axis that are looked at, of each other axis, at most twice as many."""

FEWEST = 200
"""Surfaces that a width needs."""

SHARPEST = 25
"""Percentile of the widths that is read: a surface that a line meets at a slant is wide."""

Named = Iterator[tuple[str, float]]


def of_edges(array: RealArray, grid: Geometry) -> Named:
    """Yield the width of the surface along each axis of the body, in voxels and in mm, as logarithms.

    Args:
        array: (X, Y, Z), in HU; what holds no surfaces of bodies yields nothing.
        grid: Of the scan.
    """
    widths: dict[str, float] = {}
    for axis, code in enumerate(grid.axis_codes):
        found = _widths(array, axis)
        if len(found) < FEWEST:
            continue
        side = side_of(code)
        voxels = math.log(float(np.percentile(found, SHARPEST)))
        widths[side] = voxels + math.log(grid.spacing[axis])
        yield f"edge in voxels {side}", voxels
        yield f"edge {side}", widths[side]
    for first, second in PAIRS:
        if first in widths and second in widths:
            yield f"edge {first} over {second}", widths[first] - widths[second]


def _widths(array: RealArray, axis: int) -> FloatArray:
    """Return the widths of surfaces along an axis, in voxels: the contrast over the steepest step."""
    lines = across(array, axis, LINES)
    beside = len(lines) - 2 * REACH - 1
    if beside < 1:
        return np.empty(0, dtype=np.float32)
    below = lines < SURFACE
    place, line = np.nonzero(below[REACH : REACH + beside] != below[REACH + 1 : REACH + 1 + beside])
    around = lines[place + np.arange(2 * REACH + 2)[:, None], line]
    first, last = around[0], around[-1]
    # Not a table or a fold of skin, which are air again behind it.
    around = around[:, (np.minimum(first, last) < AIR) & (np.maximum(first, last) > TISSUE)]
    contrast = np.abs(around[-1] - around[0])
    return np.asarray(contrast / np.abs(np.diff(around, axis=0)).max(axis=0), dtype=np.float32)
