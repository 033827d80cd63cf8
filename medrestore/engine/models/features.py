"""Numbers that tell what a scan is of: brightness, size of the body, detail along its axes, and texture.

None depends on the scale of the voxels, but for the shares of voxels that lie where air and tissue lie in HU;
and none on the order of the array axes, only on where left, front and top are. What a scan does not show,
as the width of a head in a crop of it, is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from medrestore.engine.models.body import PAIRS, of_body, side_of
from medrestore.engine.models.edges import of_edges
from medrestore.engine.models.hounsfield import of_hounsfield
from medrestore.engine.models.thinned import across, thinned
from medrestore.geometry import Geometry
from medrestore.noise.intensity import FOREGROUND, bright_level
from medrestore.noise.spikes import tallest
from medrestore.types import FloatArray, RealArray

QUANTILES = (1, 10, 25, 50, 75, 90)
"""Percentiles of the brightness."""

LAGS_MM = (3.5, 7.0, 14.0, 28.0)
"""Distances in mm along which the change of brightness is measured."""

TEXTURE_MM = 4.0
"""Voxel size in mm of the copy in which texture is measured; its scales are multiples of that."""

LARGEST = 128
"""Voxels along each axis of that copy at most: an extent that a header states may be anything."""

SCALES = (0.7, 1.4, 2.8)
"""Scales of the texture, in voxels of that copy."""

LEAST_PAIRS = 500
"""Pairs of voxels in tissue that a mean change needs."""

SPIKE_SIDE = 96
"""Side in voxels of the cube in the middle in which spikes in k-space are looked for."""

POOLED = 4
"""Samples along each axis of a slice that are averaged where slices are compared without their noise."""

FEWEST_POOLED = 8
"""Slices that such a comparison needs."""

Named = Iterator[tuple[str, float]]


def scan_features(array: RealArray, grid: Geometry) -> dict[str, float]:
    """Return the features of a scan by name; NaN where the scan does not show one.

    Args:
        array: (X, Y, Z) voxels, in any unit.
        grid: Of the scan.
    """
    voxels = thinned(array)
    bright = _brightness(voxels)
    found = dict(_of_values(voxels, bright))
    found.update(of_hounsfield(array, voxels))
    found.update(of_body(voxels / np.float32(bright), grid))
    found.update(of_edges(array, grid))
    found.update(_of_voxel(grid))
    found.update(_of_axes(array, grid, bright))
    found.update(_of_texture(array, grid, bright))
    found["spikes"] = _spikes(array)
    return found


def _brightness(voxels: FloatArray) -> float:
    """Return the bright level, or the largest magnitude where that is not positive."""
    level = bright_level(voxels)
    return level if level > 0 else float(np.abs(voxels).max()) or 1.0


def _of_values(voxels: FloatArray, bright: float) -> Named:
    relative = voxels / np.float32(bright)
    for percent, value in zip(QUANTILES, np.percentile(relative, QUANTILES), strict=True):
        yield f"p{percent}", float(np.clip(value, -3, 3))
    yield "top", math.log(max(float(np.percentile(relative, 99.9)), 0.1))
    yield "below zero", float(np.mean(relative < -0.02))
    yield "near zero", float(np.mean(np.abs(relative) < 0.05))
    yield "exactly zero", float(np.mean(voxels == 0))
    yield "corners", float(np.clip(np.median(relative[np.ix_((0, -1), (0, -1), (0, -1))]), -3, 3))
    tissue = relative[relative > FOREGROUND]
    yield "tissue share", float(tissue.size / relative.size)
    spread = float(tissue.std()) if tissue.size else 0.0
    yield "tissue spread", math.log(max(spread, 1e-3))
    yield "tissue skew", float(np.mean((tissue - tissue.mean()) ** 3)) / spread**3 if spread > 1e-6 else 0.0
    yield "distinct", math.log10(max(np.unique(voxels).size, 1))


def _of_axes(array: RealArray, grid: Geometry, bright: float) -> Named:
    """Yield how brightness changes from slice to slice across each axis of the body."""
    changes: dict[str, dict[float, float]] = {}
    for axis, code in enumerate(grid.axis_codes):
        side = side_of(code)
        slices = np.clip(across(array, axis) / np.float32(bright), -3, 3)
        yield from ((f"{name} {side}", value) for name, value in _of_slices(slices))
        yield from (
            (f"{name} {side}", value) for name, value in _of_pooled(_pooled(array, axis) / np.float32(bright))
        )
        changes[side] = {lag: _change(slices, lag / grid.spacing[axis]) for lag in LAGS_MM}
        yield from ((f"change {lag:g} mm {side}", value) for lag, value in changes[side].items())
    for lag in LAGS_MM:
        for first, second in PAIRS:
            yield f"change {lag:g} mm {first} over {second}", changes[first][lag] - changes[second][lag]


def _of_slices(slices: FloatArray) -> Named:
    """Yield what neighbouring slices have in common, against slices that are far apart."""
    count = len(slices)
    if count < 4:
        return
    tissue = slices[1:-1] > FOREGROUND
    first, second = np.abs(np.diff(slices, axis=0)), np.abs(np.diff(slices, n=2, axis=0))
    yield "equal neighbours", float(np.mean((slices[1:] == slices[:-1])[slices[1:] >= slices.mean()]))
    if tissue.sum() >= LEAST_PAIRS:
        step = max(float(np.mean(first[1:][tissue])), 1e-4)
        yield "bend over step", math.log(max(float(np.mean(second[tissue])), 1e-4) / step)
        yield "step", math.log(step)
        quarter = np.abs(slices[count // 4 :] - slices[: count - count // 4])
        both = (slices[count // 4 :] > FOREGROUND) & (slices[: count - count // 4] > FOREGROUND)
        if both.sum() >= LEAST_PAIRS:
            yield "step over far", math.log(step / max(float(np.mean(quarter[both])), 1e-4))
    means = slices.mean(axis=1)
    spread = max(float(means.std()), 1e-4)
    yield "jumps of means", math.log(max(float(np.std(np.diff(means, n=2))), 1e-5) / spread)


def _of_pooled(slices: FloatArray) -> Named:
    """Yield how much less neighbouring slices differ than distant ones, without noise and fine detail."""
    count = len(slices)
    if count < FEWEST_POOLED:
        return
    one, two, far = (_mean_step(slices, distance) for distance in (1, 2, count // 4))
    yield "coarse step over far", math.log(one / far)
    yield "coarse step over two", math.log(one / two)


def _pooled(array: RealArray, axis: int) -> FloatArray:
    """Return every slice across an axis, its spread voxels averaged in squares, as (slices, squares)."""
    slices = np.moveaxis(thinned(array, axis), axis, 0)
    steps = [1, *(min(POOLED, side) for side in slices.shape[1:])]
    return _block_means(slices, steps).reshape(len(slices), -1)


def _mean_step(slices: FloatArray, distance: int) -> float:
    return max(float(np.mean(np.abs(slices[distance:] - slices[:-distance]))), 1e-5)


def _of_voxel(grid: Geometry) -> Named:
    """Yield what the sides of a voxel are to each other: of most scans two are equal."""
    sides = np.sort(np.log(grid.spacing))
    yield "finest voxel", float(sides[0])
    yield "coarsest over finest voxel", float(sides[2] - sides[0])
    yield "unequal voxel", min(float(np.diff(sides).min()), 0.3)


def _change(slices: FloatArray, lag: float) -> float:
    """Return the logarithm of the mean change of tissue `lag` slices apart; NaN where there is little."""
    if lag < 1 or lag + 1 >= len(slices):
        return math.nan
    below = int(lag)
    share = lag - below
    return math.log(
        max((1 - share) * _difference(slices, below) + share * _difference(slices, below + 1), 1e-4)
    )


def _difference(slices: FloatArray, distance: int) -> float:
    first, second = slices[:-distance], slices[distance:]
    tissue = (first > FOREGROUND) & (second > FOREGROUND)
    if np.count_nonzero(tissue) < LEAST_PAIRS:
        return math.nan
    return float(np.mean(np.abs(first - second)[tissue]))


def _of_texture(array: RealArray, grid: Geometry, bright: float) -> Named:
    """Yield how much of the variation in tissue there is at each scale, in a copy with cubic voxels."""
    steps = [
        max(1, min(int(TEXTURE_MM / size), side)) for size, side in zip(grid.spacing, grid.shape, strict=True)
    ]
    pooled = np.clip(_block_means(array, steps) / np.float32(bright), -3, 3)
    rest = [
        min(size * step / TEXTURE_MM, LARGEST / side)
        for size, step, side in zip(grid.spacing, steps, pooled.shape, strict=True)
    ]
    cubic = ndimage.zoom(pooled, rest, order=1)
    tissue = cubic > FOREGROUND
    if np.count_nonzero(tissue) < LEAST_PAIRS:
        return
    layers = [cubic, *(ndimage.gaussian_filter(cubic, scale) for scale in SCALES)]
    bands = [float(np.std((fine - coarse)[tissue])) for fine, coarse in zip(layers, layers[1:], strict=False)]
    whole = max(float(np.std(cubic[tissue])), 1e-4)
    for scale, band in zip(SCALES, bands, strict=True):
        yield f"texture {scale * TEXTURE_MM:g} mm", math.log(max(band, 1e-4) / whole)
    slope = ndimage.gaussian_gradient_magnitude(cubic, 1.0)[tissue]
    for percent in (25, 50, 90):
        yield f"slope p{percent}", math.log(max(float(np.percentile(slope, percent)), 1e-4))


def _block_means(array: RealArray, steps: list[int]) -> FloatArray:
    """Return the means over blocks of so many voxels; what is left over at the ends is not used."""
    counts = [side // step for side, step in zip(array.shape, steps, strict=True)]
    whole = array[tuple(slice(count * step) for count, step in zip(counts, steps, strict=True))]
    x, y, z = counts
    blocks = whole.reshape(x, steps[0], y, steps[1], z, steps[2])
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))


def _spikes(array: RealArray) -> float:
    """Return the logarithm of the height of the largest spike in k-space, of a cube in the middle."""
    middle = tuple(slice(max(0, (side - SPIKE_SIDE) // 2), (side + SPIKE_SIDE) // 2) for side in array.shape)
    return math.log1p(tallest(array[middle]))
