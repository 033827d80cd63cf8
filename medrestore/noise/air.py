"""Noise read in the air around the head, where there is no signal.

Of complex Gaussian noise that is combined from `coils` coils, the squared magnitude q has the mean
2 coils sigma^2 and the variance 4 coils sigma^4, and the correlation of q at any distance is the square of
the noise's. So level, coils and colour follow from first and second moments of q, whatever the colour.

Sources: Constantinides, Atalar and McVeigh, Magn Reson Med 38 (1997), for the moments; Koay, Oezarslan and
Pierpaoli, PIESNO, J Magn Reson 199 (2009), for telling the voxels of noise by their distribution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from medrestore.noise.intensity import bright_level
from medrestore.types import Float64Array, FloatArray, RealArray

BLOCK = 8
"""Side of the blocks in voxels."""

DARK = 0.4
"""Root mean square of a block, as a fraction of the bright level, up to which it may be air."""

EVEN = (0.08, 2.6)
"""Variance of q over its squared mean within a block of noise, from many coils to none (real values)."""

SPREAD = 0.3
"""Departure of the logarithm of a block's mean from the commonest up to which a block is the same air."""

FEWEST = 24
"""Fewest blocks of air in which noise is read."""

MOST = 4000
"""Blocks that are read, evenly spread: two million voxels, which bounds the memory."""

LAGS = 4
"""Distances in voxels at which correlations are read."""


@dataclass(frozen=True, eq=False)
class Air:
    """The noise as read in air.

    Attributes:
        sigma: Deviation of the noise of one channel, in the units of the voxels.
        coils: How many coils were combined; 1 for a Rician magnitude, 0 for real values (Gaussian noise).
        shape: Squared mean of q over its variance, of which `coils` is the nearest possible number: 1/2 for
            real values.
        correlations: (3, LAGS) correlations of the noise, at 1, 2, ... voxels along each axis; never
            negative, as only their squares can be read.
        blocks: Number of blocks of air that were read.
    """

    sigma: float
    coils: int
    shape: float
    correlations: Float64Array
    blocks: int

    @property
    def is_noise(self) -> bool:
        """Whether the air is distributed as noise is, and not smoothed, masked or full of ghosts."""
        expected = self.coils or 0.5
        return abs(self.shape / expected - 1) < 0.2

    def recounted(self, sigma: float) -> Air:
        """Return this air with the coils that fit a level from elsewhere: few blocks count coils badly."""
        power = self.sigma**2 * self.coils
        coils = max(round(power / sigma**2), 1)
        return replace(self, sigma=(power / coils) ** 0.5, coils=coils)


def read_air(array: RealArray, ceiling: float = np.inf) -> Air | None:
    """Read the noise in the air of an MR scan.

    Args:
        array: (X, Y, Z) voxels.
        ceiling: A level that the noise does not exceed, such as the deviation of fine detail in tissue:
            voxels darker than tissue and brighter than such noise are anatomy.

    Returns:
        The noise in air; None where there is too little air, air was blanked, or is not distributed as noise.
    """
    for coils in (1, 2, 4, 8):
        air = _read(array, (2 * coils) ** 0.5 * ceiling)
        if air is not None and air.is_noise and (air.coils <= 2 * coils):
            return air
    return None


def _read(array: RealArray, brightest: float) -> Air | None:
    """Read blocks whose root mean square is at most `brightest`."""
    blocks = _blocks(array)
    power = np.square(blocks, dtype=np.float32).reshape(*blocks.shape[:3], -1)
    mean, variance = power.mean(axis=-1), power.var(axis=-1)
    level = bright_level(array)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = variance / np.square(mean)
    blank = np.mean(power[..., ::7] == 0, axis=-1) > 0.5
    could = (
        (mean > 0)
        & (mean < min(DARK * level, brightest) ** 2)
        & (ratio > EVEN[0])
        & (ratio < EVEN[1])
        & ~blank
    )
    if np.count_nonzero(could) < FEWEST:
        return None
    logs = np.log(mean[could])
    common = _mode(logs)
    departure = np.abs(logs - common)
    usual = 1.4826 * float(np.median(departure[departure < SPREAD]))
    index = np.argwhere(could)[departure < min(SPREAD, 3.5 * usual)]
    if len(index) < FEWEST:
        return None
    index = index[:: -(-len(index) // MOST)]
    chosen = blocks[tuple(index.T)]
    return _moments(np.square(chosen, dtype=np.float64), signed=bool(np.mean(chosen < 0) > 0.25))


def _blocks(array: RealArray) -> FloatArray:
    sides = [min(BLOCK, n) for n in array.shape]
    view = sliding_window_view(np.asarray(array, dtype=np.float32), sides)
    return view[:: sides[0], :: sides[1], :: sides[2]]


def _mode(values: RealArray) -> float:
    """Return the half-sample mode: the middle of the densest half, of its densest half, and so on."""
    values = np.sort(values)
    while len(values) > 4:
        half = len(values) // 2
        widths = values[half:] - values[: len(values) - half]
        start = int(np.argmin(widths))
        values = values[start : start + half + 1]
    return float(values.mean())


def _moments(power: Float64Array, *, signed: bool) -> Air:
    """Return the noise that has the moments of (N, x, y, z) squared voxels."""
    mean, variance = float(power.mean()), float(power.var())
    shape = mean**2 / variance
    coils = 0 if signed else max(round(shape), 1)
    sigma = (mean / (2 * coils if coils else 1)) ** 0.5
    # Departures within blocks, so that air of varying brightness is not taken for correlation.
    departure = power - power.mean(axis=(1, 2, 3), keepdims=True)
    inside = float(np.mean(departure**2))
    correlations = np.zeros((3, LAGS))
    for axis in range(3):
        size = power.shape[axis + 1]
        for lag in range(1, min(LAGS, size - 1) + 1):
            near = departure.take(range(size - lag), axis=axis + 1)
            far = departure.take(range(lag, size), axis=axis + 1)
            correlations[axis, lag - 1] = float(np.mean(near * far)) / inside
        # Correlation at the largest distance is not of noise: such blocks are brighter to one side.
        plain = max(float(correlations[axis, -1]), 0.0)
        correlations[axis] = np.sqrt(np.maximum(correlations[axis] - plain, 0) / (1 - plain))
    return Air(sigma, coils, shape, correlations, len(power))
