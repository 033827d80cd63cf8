"""How large the body in a scan is, along the axes of the body and in mm, and what form it has."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from medrestore.geometry import Geometry
from medrestore.metrics.mask import otsu_threshold
from medrestore.types import BoolArray, Float64Array, FloatArray

SIDES = ("LR", "AP", "SI")
"""The axes of the body."""

PAIRS = (("LR", "AP"), ("AP", "SI"), ("LR", "SI"))
"""Pairs of them whose sizes are compared."""

LEAST_PAIRS = 500
"""Voxels that a correlation of both sides needs."""

TIP = 0.02
"""Cross-sections of less than this part of the largest are of an ear or a tip of a nose, and do not count."""

Named = Iterator[tuple[str, float]]


def side_of(code: str) -> str:
    """Return the axis of the body that a direction lies on."""
    return next(pair for pair in SIDES if code in pair)


def largest_object(bright: BoolArray) -> tuple[BoolArray, float]:
    """Return the largest object, and its share of all that is bright; nowhere and 0 where nothing is."""
    labels, _ = ndimage.label(bright)
    sizes = np.bincount(labels.ravel(), minlength=2)[1:]
    return labels == 1 + int(sizes.argmax()), float(sizes.max() / max(sizes.sum(), 1))


def of_body(relative: FloatArray, grid: Geometry) -> Named:
    """Yield size and form of the largest bright object.

    Sizes are logarithms of mm. An extent is NaN where the picture may not show all of it; how far it reaches
    inside the picture, its spread, and how soon its cross-section grows behind a surface are known of parts.

    Args:
        relative: (X, Y, Z) voxels, evenly spread over the scan, relative to the bright level.
        grid: Of the scan.
    """
    smooth = ndimage.uniform_filter(np.clip(relative, -3, 3), 3)
    bright = smooth > otsu_threshold(smooth) if smooth.min() < smooth.max() else smooth > 0
    body, share = largest_object(bright)
    yield "in one piece", share
    steps = np.array(grid.spacing) * grid.shape / body.shape
    yield from _of_sizes(body, steps, grid)
    box = ndimage.find_objects(body.astype(np.uint8))
    yield "box filled", float(body[box[0]].mean()) if box and box[0] is not None else math.nan
    yield "symmetry", _symmetry(relative, body, grid)


def _of_sizes(body: BoolArray, steps: Float64Array, grid: Geometry) -> Named:
    """Yield sizes along the axes of the body, and what they are to each other."""
    extent, spread = dict[str, float](), dict[str, float]()
    for axis, code in enumerate(grid.axis_codes):
        side = side_of(code)
        area = body.sum(axis=tuple(other for other in range(3) if other != axis)).astype(np.float64)
        area[area < TIP * area.max()] = 0
        along = np.flatnonzero(area)
        first, last = (along[0], along[-1]) if along.size else (0, 0)
        reach = math.log((last + 1 - first) * steps[axis])
        whole = along.size and first > 0 and last < len(area) - 1
        extent[side] = reach if whole else math.nan
        spread[side] = math.log(max(_deviation(area), 0.3) * steps[axis])
        yield f"extent {side}", extent[side]
        yield f"reach {side}", reach
        yield f"spread {side}", spread[side]
        plane = steps.prod() / steps[axis]
        yield f"section {side}", math.log(max(float(area.max()) * plane, 1.0)) / 2
        yield f"field {side}", math.log(grid.spacing[axis] * grid.shape[axis])
        for towards, profile in ((code, area[::-1]), (code.translate(_OPPOSITE), area)):
            yield f"rise {towards}", _rise(profile, steps[axis])
    for first_side, second_side in PAIRS:
        yield f"{first_side} over {second_side}", extent[first_side] - extent[second_side]
        yield f"spread {first_side} over {second_side}", spread[first_side] - spread[second_side]


_OPPOSITE = str.maketrans("LRAPSI", "RLPAIS")


def _deviation(area: Float64Array) -> float:
    """Return the standard deviation of positions, weighted, in steps."""
    total = area.sum()
    if not total:
        return 0.0
    places = np.arange(len(area)) - np.arange(len(area)) @ area / total
    return math.sqrt(float(places**2 @ area / total))


def _rise(area: Float64Array, step: float) -> float:
    """Return the logarithm of the depth in mm at which a cross-section is half of its largest; or NaN.

    Args:
        area: Of cross-sections, from outside the body inwards.
        step: Their distance in mm.
    """
    if not area.any() or area[0]:  # cut by the edge of the picture, or nothing there
        return math.nan
    surface, half = int(np.flatnonzero(area)[0]), int(np.flatnonzero(area >= area.max() / 2)[0])
    before, here = area[half - 1], area[half]
    return math.log(max(half - surface + float((area.max() / 2 - here) / (here - before)), 0.5) * step)


def _symmetry(relative: FloatArray, body: BoolArray, grid: Geometry) -> float:
    """Return the correlation of a body with its mirror image from left to right; NaN where it is cut off."""
    axis = next(index for index, code in enumerate(grid.axis_codes) if code in "LR")
    along = np.flatnonzero(body.any(axis=tuple(other for other in range(3) if other != axis)))
    if not along.size or along[0] == 0 or along[-1] == body.shape[axis] - 1:
        return math.nan
    part = np.take(relative, range(along[0], along[-1] + 1), axis=axis)
    inside = np.take(body, range(along[0], along[-1] + 1), axis=axis)
    both = inside | np.flip(inside, axis)
    first, second = part[both], np.flip(part, axis)[both]
    if first.size < LEAST_PAIRS or first.std() < 1e-6 or second.std() < 1e-6:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])
