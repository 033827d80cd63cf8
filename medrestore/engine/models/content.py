"""Whether the voxels of a scan are such as the model was made for, by rules that a person can follow.

Every rule looks at a few hundred thousand voxels, needs no training, and leaves the scan as it is. Limits are
set where scans of the body lie well to one side; see `benchmarks/evidence/domain.py`, which counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medrestore.engine.models.thinned import across, thinned
from medrestore.engine.models.voxel_size import check_detail, check_extent
from medrestore.findings import (
    AIR_IS_BRIGHT,
    REGIONS_ARE_FLAT,
    SLICES_UNRELATED,
    VALUES_OUTSIDE_MODEL,
    Finding,
)
from medrestore.noise.intensity import bright_level
from medrestore.plugin import Intensity, ModelSpec
from medrestore.types import AIR_HU, LEAST_HU, UNMEASURED_HU, FloatArray
from medrestore.volume import Volume

LEAST_SIDE = 48
"""Two axes need as many voxels, or nothing is said: less holds no statistics of a scan."""

FLAT = 0.6
"""Share of equal neighbours among bright voxels above which an image is in pieces; scans have up to 0.2."""

RELATED = 0.1
"""Part of the way from the correlation of far slices to 1 that neighbours go at least; scans go above 0.2."""

LIVELY = 0.25
"""Deviation of a slice that holds some of what is imaged, over that of the liveliest; air has less."""

MOSTLY = 0.6
"""Part of the slices that are lively in most scans."""

FEWEST_SLICES = 16
"""With fewer slices, neighbours are not compared with far ones."""

AIR = (AIR_HU - 100, AIR_HU + 100)
SOFT = (-50.0, 100.0)
"""Air and soft tissue in HU."""

DENSE = 0.15
"""Share of voxels above 800 HU that no body has: there is bone."""


def is_seen(volume: Volume) -> bool:
    """Whether a scan has voxels enough for anything to be said of its content."""
    return sum(side >= LEAST_SIDE for side in volume.shape) >= 2


def check_content(volume: Volume, spec: ModelSpec) -> tuple[Finding, ...]:
    """Warn where voxels are not such as the model was made for, whatever the header says.

    Args:
        volume: The scan, in its own units, or what is said to be one.
        spec: The model. Of one that takes the numbers as they are (`Intensity.RAW`), nothing is known.
    """
    array = volume.array
    if spec.intensity is Intensity.RAW or not is_seen(volume):
        return ()
    voxels, slices = thinned(array), [across(array, axis) for axis in range(3)]
    flat = _flat(slices)
    if flat:  # and so neither air nor tissue
        return flat
    found = (_of_ct(voxels) if spec.is_ct else _of_mr(voxels)) + _unrelated(slices)
    if found:  # no body, of which the size could be judged
        return found
    size = check_extent(voxels, volume.geometry, spec.is_ct)
    return size if size or spec.is_ct else check_detail(slices, volume.geometry, bright_level(voxels))


def _flat(slices: Sequence[FloatArray]) -> tuple[Finding, ...]:
    """Warn of labels, masks, and slices that were repeated: bright neighbours have the same value."""
    share = max(_equal(along) for along in slices if len(along) > 1)
    if share < FLAT:
        return ()
    text = f"{share:.0%} of bright voxels equal their neighbour: labels, a mask or repeated slices, no scan"
    return (REGIONS_ARE_FLAT.found(text, share=share),)


def _equal(slices: FloatArray) -> float:
    """Return the share of bright voxels that are equal to the one in the next slice."""
    bright = slices[:-1] >= slices.mean()
    if not bright.any():  # as rounding of the mean may leave none of a constant
        return float(slices.min() == slices.max())
    return float(np.mean((slices[1:] == slices[:-1])[bright]))


def _unrelated(slices: Sequence[FloatArray]) -> tuple[Finding, ...]:
    """Warn of shuffled slices, and of noise: neighbours are hardly more alike than slices far apart."""
    for axis, along in zip("ijk", slices, strict=True):
        filled = _filled(along)
        if len(filled) < FEWEST_SLICES:
            continue
        near, far = _likeness(filled)
        if near - far < RELATED * (1 - far):
            text = (
                f"neighbouring slices across the axis {axis} correlate by {near:.2f}, slices far apart by "
                f"{far:.2f}: they are out of order, or hold no anatomy"
            )
            return (SLICES_UNRELATED.found(text, axis=axis, neighbours=near, far=far),)
    return ()


def _filled(slices: FloatArray) -> FloatArray:
    """Return the slices that hold something: medians over them are of tissue.

    Those of noisy air are left out where they are many, as around a small head in a wide field of view: noise
    is alike nowhere.
    """
    spread = slices.std(axis=1, dtype=np.float64)
    lively = spread > LIVELY * np.percentile(spread, 95)
    kept: FloatArray = slices[lively if lively.mean() < MOSTLY else slices.min(axis=1) < slices.max(axis=1)]
    return kept


def _likeness(slices: FloatArray) -> tuple[float, float]:
    """Return the correlation of neighbouring slices, and that of slices a quarter to half of all apart."""
    normal = slices / np.abs(slices).max()  # of which float32 holds squares
    normal -= normal.mean(axis=1, keepdims=True)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    far = np.linspace(len(normal) // 4, len(normal) // 2, 5).astype(int)
    return _alike(normal, 1), float(np.mean([_alike(normal, distance) for distance in far]))


def _alike(slices: FloatArray, distance: int) -> float:
    """Return the median correlation of normalised slices at a distance."""
    return float(np.median(np.einsum("ij,ij->i", slices[distance:], slices[:-distance])))


def _of_ct(voxels: FloatArray) -> tuple[Finding, ...]:
    """Warn where voxels are no HU: something in a body is darker than water, and little is bone."""
    measured = voxels[voxels >= UNMEASURED_HU]
    if not measured.size:
        return ()
    dark, dense = float(np.mean(measured < 0)), float(np.mean(measured > 800))
    span = float(np.subtract(*np.percentile(measured, (99, 1))))
    if dark > 1e-4 and dense < DENSE and span > 10:
        return ()
    if _is_hounsfield(measured + LEAST_HU):
        what = "they are HU + 1024: subtract 1024 first"
    else:
        what = "they are not in HU, or this is no CT"
    text = f"{dark:.2%} of the voxels are below 0, {dense:.0%} above 800, and 98 % span {span:.3g}: {what}"
    return (VALUES_OUTSIDE_MODEL.found(text, dark=dark, dense=dense, span=span),)


def _of_mr(voxels: FloatArray) -> tuple[Finding, ...]:
    """Warn where voxels are HU, and where air is bright."""
    for shift, name in ((0.0, "HU"), (LEAST_HU, "HU + 1024")):
        if _is_hounsfield(voxels + shift):
            text = (
                f"air and soft tissue lie where they lie in {name}, so this is a CT, and the model is for MR"
            )
            return (VALUES_OUTSIDE_MODEL.found(text, shift=shift),)
    bright = float(np.percentile(voxels, 99))
    corners = float(np.median(voxels[np.ix_((0, -1), (0, -1), (0, -1))]))
    share = float(np.mean(voxels > 0.85 * bright))
    if bright <= 0 or corners < 0.85 * bright or share < 0.25:
        return ()
    text = (
        f"the corners of the scan are as bright as {corners / bright:.0%} of its bright end: is it inverted?"
    )
    return (AIR_IS_BRIGHT.found(text, corners=corners / bright, share=share),)


def _is_hounsfield(values: FloatArray) -> bool:
    """Whether values are HU: much of what is no air is soft tissue, beside air and nothing far below it."""
    measured = values[values >= UNMEASURED_HU]
    if not measured.size:
        return False
    air = float(np.mean((measured >= AIR[0]) & (measured <= AIR[1])))
    body = measured[measured > AIR_HU / 2]
    soft = float(np.mean((body > SOFT[0]) & (body < SOFT[1]))) if body.size else 0.0
    return air > 0.01 and soft > 0.35 and float(np.mean(measured < AIR[0])) < 0.01
