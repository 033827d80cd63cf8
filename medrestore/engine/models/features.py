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

from medrestore.engine.models.thinned import across, thinned
from medrestore.geometry import Geometry
from medrestore.metrics.mask import otsu_threshold
from medrestore.noise.intensity import FOREGROUND, bright_level
from medrestore.noise.spikes import tallest
from medrestore.types import AIR_HU, UNMEASURED_HU, BoolArray, FloatArray, RealArray

QUANTILES = (1, 10, 25, 50, 75, 90)
"""Percentiles of the brightness."""

LAGS_MM = (7.0, 14.0, 28.0)
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

SIDES = ("LR", "AP", "SI")
"""The axes of the body."""

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
    found.update(_of_hounsfield(voxels))
    found.update(_of_body(voxels / bright, grid))
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


def _of_hounsfield(voxels: FloatArray) -> Named:
    """Yield the only features that know a unit: shares of voxels where air and soft tissue lie in HU.

    Magnitudes, which have nothing below 0, may lie there by chance, and so these are not known of them.
    """
    measured = voxels[voxels >= UNMEASURED_HU]
    air = float(np.mean(measured < -700)) if measured.size else 0.0
    yield "air in HU", math.log10(1e-4 + air)
    if not measured.size or float(measured.min()) > -50:
        return
    body = measured[measured > AIR_HU / 2]
    if body.size:
        yield "soft in HU", float(np.mean((body > -150) & (body < 120)))
        yield "dense in HU", float(np.mean(body > 300))
    yield "metal in HU", math.log10(1e-5 + float(np.mean(measured > 2000)))
    yield "streaks in HU", math.log10(1e-5 + float(np.mean(measured < -1150)))


def _of_body(relative: FloatArray, grid: Geometry) -> Named:
    """Yield how large the largest bright object is along the axes of the body, and what form it has."""
    smooth = ndimage.uniform_filter(np.clip(relative, -3, 3), 3)
    bright = smooth > otsu_threshold(smooth) if smooth.min() < smooth.max() else smooth > 0
    labels, _ = ndimage.label(bright)
    sizes = np.bincount(labels.ravel(), minlength=2)[1:]
    body = labels == 1 + int(sizes.argmax())
    yield "in one piece", float(sizes.max() / max(sizes.sum(), 1))
    mm, inside = _extents(body, grid)
    for side in SIDES:
        yield f"extent {side}", math.log(mm[side]) if inside[side] else math.nan
    for first, second in (("LR", "AP"), ("AP", "SI"), ("LR", "SI")):
        whole = inside[first] and inside[second]
        yield f"{first} over {second}", math.log(mm[first] / mm[second]) if whole else math.nan
    box = ndimage.find_objects(body.astype(np.uint8))
    yield "box filled", float(body[box[0]].mean()) if box and box[0] is not None else math.nan
    yield "symmetry", _symmetry(relative, body, grid) if inside["LR"] else math.nan


def _extents(body: BoolArray, grid: Geometry) -> tuple[dict[str, float], dict[str, bool]]:
    """Return in mm how far an object reaches along the axes of the body, and whether that is all of it."""
    reached: dict[str, float] = dict.fromkeys(SIDES, 1.0)
    inside: dict[str, bool] = dict.fromkeys(SIDES, False)
    for axis, code in enumerate(grid.axis_codes):
        side = next(pair for pair in SIDES if code in pair)
        along = np.flatnonzero(body.any(axis=tuple(other for other in range(3) if other != axis)))
        if along.size:
            size = grid.spacing[axis] * grid.shape[axis] / body.shape[axis]
            reached[side] = float(along[-1] + 1 - along[0]) * size
            inside[side] = bool(along[0] > 0 and along[-1] < body.shape[axis] - 1)
    return reached, inside


def _symmetry(relative: FloatArray, body: BoolArray, grid: Geometry) -> float:
    """Return the correlation of a body with its mirror image from left to right."""
    axis = next(index for index, code in enumerate(grid.axis_codes) if code in "LR")
    along = np.flatnonzero(body.any(axis=tuple(other for other in range(3) if other != axis)))
    part = np.take(relative, range(along[0], along[-1] + 1), axis=axis)
    inside = np.take(body, range(along[0], along[-1] + 1), axis=axis)
    both = inside | np.flip(inside, axis)
    return _correlation(part[both], np.flip(part, axis)[both])


def _correlation(first: FloatArray, second: FloatArray) -> float:
    if first.size < LEAST_PAIRS or first.std() < 1e-6 or second.std() < 1e-6:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


def _of_axes(array: RealArray, grid: Geometry, bright: float) -> Named:
    """Yield how brightness changes from slice to slice across each axis of the body."""
    changes: dict[str, dict[float, float]] = {}
    for axis, code in enumerate(grid.axis_codes):
        side = next(pair for pair in SIDES if code in pair)
        slices = np.clip(across(array, axis) / np.float32(bright), -3, 3)
        yield from ((f"{name} {side}", value) for name, value in _of_slices(slices))
        changes[side] = {lag: _change(slices, lag / grid.spacing[axis]) for lag in LAGS_MM}
        yield from ((f"change {lag:g} mm {side}", value) for lag, value in changes[side].items())
    for lag in LAGS_MM:
        for first, second in (("LR", "AP"), ("AP", "SI"), ("LR", "SI")):
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
