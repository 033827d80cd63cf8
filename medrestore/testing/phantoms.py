"""A computed head: tissues of known place, for MR and for CT. No scan, and no part of any training.

Arrays are (X, Y, Z). It is drawn on the grid of voxels, whatever their size: a corner of a head with folded
cortex, ventricles, skull, scalp and the air around it, at about the scale that voxels of 1 mm show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from medrestore.types import BoolArray, FloatArray

AIR, SCALP, MARROW, BONE, FLUID, GREY, WHITE, NUCLEUS = range(8)

MR_LEVELS = {
    AIR: 0.0,
    SCALP: 900.0,
    MARROW: 500.0,
    BONE: 40.0,
    FLUID: 230.0,
    GREY: 570.0,
    WHITE: 780.0,
    NUCLEUS: 660.0,
}
"""As a T1-weighted scan shows them, in arbitrary units."""

CT_LEVELS = {
    AIR: -1000.0,
    SCALP: -90.0,
    MARROW: 350.0,
    BONE: 1100.0,
    FLUID: 8.0,
    GREY: 38.0,
    WHITE: 29.0,
    NUCLEUS: 36.0,
}
"""In HU, as tabulated in text books of radiology."""

REGIONS = {
    "fluid": FLUID,
    "grey matter": GREY,
    "white matter": WHITE,
    "nuclei": NUCLEUS,
    "fat": SCALP,
    "marrow": MARROW,
    "bone": BONE,
}
"""All but air."""

THICK = ("fluid", "grey matter", "white matter", "fat")
"""Those that are uniform three voxels from their border."""

WATER_HU = 1000.0
"""What fractions of CT are relative to: the attenuation of water, above that of air."""

BIAS = 0.12
"""How much brightness varies over an MR scan with the sensitivity of the coils: standard deviation."""

TEXTURE = {False: 12.0, True: 2.0}
"""Deviation of the faint texture of tissue: of MR, and in HU."""

BLUR = 0.55
"""Standard deviation of the point spread, in voxels: about that of a sinc, and of a CT kernel."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """A computed head.

    Attributes:
        voxels: (X, Y, Z), in HU for CT, in arbitrary units for MR; free of noise.
        tissues: Where each tissue is, at least three voxels from any other, by name.
        regions: Where each is up to its border, those too that are nowhere so thick: all that is not air.
        deep: Where brain is, away from its border: here lesions may lie.
        bright: What fractions of noise are relative to: the 99th percentile in MR, that of water in CT.
        air: Where nothing is, at least three voxels from anything.
    """

    voxels: FloatArray
    tissues: Mapping[str, BoolArray]
    regions: Mapping[str, BoolArray]
    deep: BoolArray
    bright: float
    air: BoolArray


def smooth_field(shape: tuple[int, ...], width: float, rng: np.random.Generator) -> FloatArray:
    """Return a random field of unit deviation and a Gaussian correlation of `width` voxels."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), width, mode="wrap")
    return np.asarray(field / field.std(), dtype=np.float32)


@lru_cache(maxsize=2)
def head(side: int, is_ct: bool, seed: int) -> Phantom:
    """Draw a head, or give the one that was drawn: many checks see it, in other noise.

    Args:
        side: Voxels along each axis.
        is_ct: Whether values are HU.
        seed: Of folds, texture and brightness.
    """
    rng = np.random.default_rng([seed, 104])
    labels = _labels(side, rng)
    levels = CT_LEVELS if is_ct else MR_LEVELS
    table = np.array([levels[label] for label in range(len(levels))], dtype=np.float32)
    texture = TEXTURE[is_ct] * smooth_field(labels.shape, 1.0, rng)
    voxels = table[labels] + np.where((labels == AIR) | (labels == BONE), 0, texture)
    if not is_ct:
        voxels *= np.exp(BIAS * smooth_field(labels.shape, side / 3, rng))
    voxels = ndimage.gaussian_filter(voxels, BLUR)
    voxels = voxels if is_ct else np.maximum(voxels, 0)
    brain = np.isin(labels, (FLUID, GREY, WHITE, NUCLEUS))
    regions = {name: labels == label for name, label in REGIONS.items()}
    tissues = {name: ndimage.binary_erosion(regions[name], iterations=3) for name in THICK}
    bright = WATER_HU if is_ct else float(np.percentile(voxels, 99))
    deep, air = (ndimage.binary_erosion(where, iterations=3) for where in (brain, labels == AIR))
    return Phantom(voxels.astype(np.float32), tissues, regions, deep, bright, air)


def flat(side: int, is_ct: bool, content: str) -> Phantom:
    """Return a volume in which nothing is.

    Args:
        side: Voxels along each axis.
        is_ct: Whether values are HU.
        content: ``"tissue"`` (in CT, water) or ``"air"``.
    """
    bright = WATER_HU if is_ct else MR_LEVELS[WHITE]
    value = (bright if content == "tissue" else 0.0) - (WATER_HU if is_ct else 0.0)
    shape = (side,) * 3
    everywhere = np.ones(shape, dtype=np.bool_)
    air = everywhere if content == "air" else ~everywhere
    return Phantom(np.full(shape, value, dtype=np.float32), {}, {}, everywhere, bright, air)


def _labels(side: int, rng: np.random.Generator) -> FloatArray:
    """Return (side, side, side) of the labels above."""
    axes = np.meshgrid(*(np.arange(side, dtype=np.float32),) * 3, indexing="ij", sparse=True)
    shape = (side,) * 3
    centre, radii = np.array((0.30, 0.34, 0.28)) * side, np.array((0.60, 0.56, 0.62)) * side
    squares = sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, radii, strict=True))
    # Depth below the surface of the brain, in voxels; negative outside of it.
    depth = (1 - np.sqrt(np.asarray(squares))) * radii.mean() + 1.5 * smooth_field(shape, 10, rng)
    folds = smooth_field(shape, 3.0, rng)
    labels = np.full(shape, AIR)
    for reach, label in ((-17, SCALP), (-9, BONE), (-7.5, MARROW), (-5, BONE), (-3, FLUID), (0, GREY)):
        labels[depth > reach] = label
    inside = depth > 0
    labels[inside & (folds > 1.2) & (depth < 9)] = FLUID
    labels[inside & (depth > 3) & (folds < 0.09 * np.minimum(depth, 16) - 0.5)] = WHITE
    inner = np.array([(0.18, 0.30, 0.22), (0.42, 0.34, 0.40), (0.30, 0.52, 0.30)]) * side
    for place, label, size in zip(inner, (FLUID, NUCLEUS, NUCLEUS), (0.09, 0.10, 0.08), strict=True):
        around = sum(((axis - c) / (size * side)) ** 2 for axis, c in zip(axes, place, strict=True))
        labels[np.asarray(around) + 0.15 * folds < 1] = label
    return np.asarray(labels)
