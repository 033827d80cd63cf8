"""Whether the voxel size that a header states fits what is in the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from medrestore.engine.models.body import largest_object, side_of
from medrestore.engine.models.thinned import SIDE
from medrestore.findings import VOXEL_SIZE_DOUBTED, Finding
from medrestore.geometry import Geometry
from medrestore.metrics.mask import otsu_threshold
from medrestore.noise.intensity import FOREGROUND
from medrestore.types import FloatArray

FINEST = 2.0
"""Finest side of a voxel in mm above which no structural MR is usual, or was in training."""

SMALLEST = 100.0
"""Extent in mm from front to back and from side to side: a head has more than that, without its skull too."""

DEEPEST_HEAD, DEEPEST = 260.0, 380.0
"""Extents in mm from front to back, of what is deeper than it is wide, as heads are, and of any body."""

WIDEST = 650.0
"""Extent in mm from side to side of any body: bores of scanners are hardly wider."""

LAG = 3.0
"""Distance in mm along which the change of brightness is compared."""

UNEVEN = 1.4
"""Ratio of the changes along two axes above which a voxel size is doubted; heads have up to 1.3."""

COARSEST = 4.2
"""Side of a voxel in mm above which the change along it says nothing."""

FEWEST, SOME = 40, 64
"""Voxels that every axis, and two axes, need for the changes along them to be compared."""

LEAST_PAIRS = 1000
"""Pairs of voxels in tissue that are needed along an axis."""


def check_extent(voxels: FloatArray, grid: Geometry, is_ct: bool) -> tuple[Finding, ...]:
    """Warn where what is in the picture is no size that a body has.

    Args:
        voxels: (X, Y, Z), evenly spread over the scan.
        grid: Of the scan.
        is_ct: Whether it is taken for a CT, which may be of a hand; models for MR are for heads.
    """
    reached = _extents(voxels, grid)
    if not reached:
        return ()
    (width, all_width), (depth, all_depth) = reached["LR"], reached["AP"]
    small = not is_ct and all_width and all_depth and max(width, depth) < SMALLEST
    large = depth > DEEPEST or width > WIDEST or (all_width and depth > max(width, DEEPEST_HEAD))
    if not small and not large:
        return ()
    text = (
        f"what is in the picture is {width:.0f} mm wide and {depth:.0f} mm deep, too "
        f"{'small for a head' if small else 'large'}: the voxel size may be wrong"
    )
    return (VOXEL_SIZE_DOUBTED.found(text, width_mm=width, depth_mm=depth),)


def check_detail(slices: Sequence[FloatArray], grid: Geometry, bright: float) -> tuple[Finding, ...]:
    """Warn of an MR scan whose voxels are coarser, or taller than they are wide, than its header says.

    Heads change as much along 3 mm from side to side as they do from front to back and upwards: by a factor
    of at most 1.3. Where a voxel is stated twice as long as it is, the same change takes twice the way.

    Args:
        slices: For each axis, every slice across it, (slices, voxels).
        grid: Of the scan.
        bright: The bright level of the scan.
    """
    if min(grid.spacing) > FINEST:
        sizes = " x ".join(f"{size:.3g}" for size in grid.spacing)
        text = f"voxels of {sizes} mm: no structural scan is that coarse, or the voxel size is wrong"
        return (VOXEL_SIZE_DOUBTED.found(text, spacing_mm=grid.spacing),)
    sides = sorted(grid.shape)
    if sides[0] < FEWEST or sides[1] < SOME or max(grid.spacing) > COARSEST:
        return ()
    lag = max(LAG, *grid.spacing)
    changes = [_change(along, lag / size, bright) for along, size in zip(slices, grid.spacing, strict=True)]
    ratio = max(changes) / min(changes) if min(changes) > 0 else 1.0
    if ratio < UNEVEN:
        return ()
    text = (
        f"brightness changes {ratio:.2g} times as much along {lag:.3g} mm of one axis as along another: a "
        "voxel may be longer or shorter than the header says"
    )
    return (VOXEL_SIZE_DOUBTED.found(text, ratio=ratio, lag_mm=lag, changes=changes),)


def _change(slices: FloatArray, lag: float, bright: float) -> float:
    """Return the mean difference of tissue `lag` slices apart, at least 1; 0 where there is little tissue."""
    below = int(lag)
    share = lag - below
    return (1 - share) * _difference(slices, below, bright) + share * _difference(slices, below + 1, bright)


def _difference(slices: FloatArray, distance: int, bright: float) -> float:
    """Return the mean difference of tissue a whole number of slices apart, up to the bright end."""
    starts = np.arange(0, max(len(slices) - distance, 0), max(1, len(slices) // SIDE))
    first, second = (np.minimum(slices[starts + moved], bright) for moved in (0, distance))
    tissue = (first > FOREGROUND * bright) & (second > FOREGROUND * bright)
    if np.count_nonzero(tissue) < LEAST_PAIRS:
        return 0.0
    return float(np.mean(np.abs(first - second)[tissue]))


def _extents(voxels: FloatArray, grid: Geometry) -> dict[str, tuple[float, bool]]:
    """Return in mm how far the largest bright object reaches along the axes of the body.

    Each with whether that is all of it: where it touches an edge of the picture, it may go on. Empty where
    there is no such object.
    """
    low, high = np.percentile(voxels, (1, 99))
    smooth = ndimage.uniform_filter(np.clip(voxels, low, high), 3)
    if smooth.min() == smooth.max():
        return {}
    body, _ = largest_object(smooth > otsu_threshold(smooth))
    extents: dict[str, tuple[float, bool]] = {}
    for axis, code in enumerate(grid.axis_codes):
        along = np.flatnonzero(body.any(axis=tuple(other for other in range(3) if other != axis)))
        size = grid.spacing[axis] * grid.shape[axis] / body.shape[axis]
        inside = bool(along[0] > 0 and along[-1] < body.shape[axis] - 1)
        extents[side_of(code)] = (float(along[-1] + 1 - along[0]) * size, inside)
    return extents
