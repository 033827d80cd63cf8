"""How noise varies over an MR scan, relative to the noise level: the g-factor of parallel imaging.

The finest diagonal wavelet band is noise nearly alone. The logarithm of its magnitude is fitted with a
quadratic of the position, as the logarithm of a g-factor map nearly is quadratic and as the fit continues
smoothly into the air; the residual of the fit is smoothed over a large neighbourhood by normalised
convolution (Knutsson and Westin, CVPR 1993). Only smooth tissue is used, chosen by the gradient of the low
band, which is independent of the noise in the diagonal band. Where the smoother and the rougher half of that
tissue give different maps, anatomy varies rather than noise, and there is no map. Where a window has left too
little of the noise in that band, the highest frequencies are cut off first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pywt
from scipy import ndimage
from scipy.special import ive

from medrestore.noise.intensity import FOREGROUND, bright_level
from medrestore.noise.level import NoiseRange
from medrestore.noise.model import AxisNoise
from medrestore.noise.tissue import FermiWindow
from medrestore.physics.kspace import crop_band, cut_axes
from medrestore.types import BoolArray, FloatArray, RealArray

METHOD = "quadratic and normalised convolution of the wavelet magnitude in smooth tissue"

TRAINED = (0.3, 3.0)
"""Smallest and largest relative noise that the shipped models saw."""

SMOOTH = 0.6
"""Fraction of the tissue in which the noise is read: the tissue with the least gradient."""

LEAST = 0.1
"""Standard deviation of the logarithm of a map below which the noise counts as constant."""

AGREEMENT = 1.6
"""How many times larger than the difference of the two halves' maps a variation must be."""

SMALLEST = 24
"""Side in voxels below which there is too little to see a variation in."""

FEWEST = 4000
"""Coefficients in smooth tissue below which there are too few to see a variation in."""

THINNEST = 8
"""Coefficients along an axis that smooth tissue must extend over."""

WIDTH = 0.08
"""Deviation of the kernel that smooths the fit's residual, as a fraction of the largest side."""

TRUST = 0.05
"""Share of smooth tissue in that neighbourhood at which half of the fit's residual is believed."""

COLOURED = 0.45
"""Correlation of neighbours above which the finest detail of an axis holds too little of the noise."""

HELD = 0.25
"""Part of its power at low frequencies that noise of such a colour has at the highest that are kept."""

ALL = slice(None)

MEAN_LOG = 0.6351814
"""Minus the mean of the logarithm of the magnitude of a standard normal variable."""


@dataclass(frozen=True, eq=False)
class NoiseMap:
    """A map of relative noise.

    Attributes:
        gain: (X, Y, Z) float32, 1 in the median over tissue.
        range: Range that the gain varies over.
    """

    gain: FloatArray
    range: NoiseRange


def estimate_noise_map(array: RealArray, axes: Sequence[AxisNoise] = ()) -> NoiseMap | None:
    """Estimate how noise varies over an MR scan.

    Args:
        array: (X, Y, Z) voxels on the grid that was measured. If no voxel is negative the noise is taken for
            Rician: weaker than its level where the tissue is not well above that level.
        axes: The colour of the noise along each axis of that grid; none if it is white.

    Returns:
        The map, or None where the noise is constant as far as can be told.
    """
    voxels = np.asarray(array, dtype=np.float32)
    if min(voxels.shape) < SMALLEST:
        return None
    is_rician = bool(voxels.min() >= 0)
    if axes:
        held = tuple(map(_noisy_samples, voxels.shape, axes))
        voxels = crop_band(voxels, held, cut_axes(voxels, held))
    kept = np.divide(voxels.shape, array.shape)
    bands = pywt.dwtn(voxels, "db2")
    low = np.asarray(bands["aaa"] / 8**0.5, dtype=np.float32)
    brightness = ndimage.gaussian_filter(low, 1.0)
    tissue = brightness > FOREGROUND * bright_level(brightness)
    reading = _read(np.abs(bands["ddd"]), brightness, tissue, rician=is_rician)
    if reading is None:
        return None
    surface = _surface(low.shape, reading.fit())
    halves = reading.positions @ (reading.fit(reading.smoother) - reading.fit(~reading.smoother))
    if surface[tissue].std() < max(LEAST, AGREEMENT * float(halves.std())):
        return None
    log = surface + _rest(surface, reading, kept)
    log -= np.median(log[tissue])
    low_end, median, high_end = (float(level) for level in np.exp(np.percentile(log[tissue], (5, 50, 95))))
    gain = np.exp(enlarged(log, array.shape)).clip(*TRAINED)
    return NoiseMap(np.asarray(gain, dtype=np.float32), NoiseRange(low_end, median, high_end, METHOD))


def _noisy_samples(size: int, axis: AxisNoise) -> int:
    """Return how many of the samples along an axis hold noise enough to see it vary."""
    if axis.correlation <= COLOURED:
        return size
    frequencies = np.arange(1, size // 2 + 1) / (size // 2)
    power = FermiWindow(axis.edge, axis.width).power(frequencies)
    return max(SMALLEST, 2 * int(np.count_nonzero(power >= HELD * power[0])))


@dataclass(frozen=True, eq=False)
class _Reading:
    """Logarithms of single noise coefficients.

    Attributes:
        index: Places of the coefficients in the band.
        positions: (N, 10) monomials of the position.
        values: (N,) logarithms whose mean is the logarithm of the noise level.
        brightness: (N,) brightness of the tissue.
        smoother: (N,) whether each is in the smoother half.
        rician: Whether the noise is Rician.
    """

    index: tuple[RealArray, ...]
    positions: RealArray
    values: RealArray
    brightness: RealArray
    smoother: BoolArray
    rician: bool

    def corrected(self, fit: RealArray, part: BoolArray | slice = ALL) -> RealArray:
        """Return the values as they would be in tissue far above the noise, given a fit to the values."""
        deficit = _rician_deficit(self.brightness[part] / np.exp(fit)) if self.rician else 0.0
        return np.asarray(self.values[part] + deficit)

    def fit(self, part: BoolArray | slice = ALL) -> RealArray:
        """Return the (10,) coefficients of a robust quadratic fit to a part of the values."""
        basis, wanted = self.positions[part], self.values[part]
        weight: RealArray = np.ones(len(wanted))
        found: RealArray = np.zeros(basis.shape[1])
        for _ in range(4):
            weighted = basis * weight[:, None]
            found = np.linalg.solve(weighted.T @ basis, weighted.T @ wanted)
            fit = basis @ found
            wanted = self.corrected(fit, part)
            # Anatomy only ever adds: a coefficient far above the fit counts for less.
            weight = 1 / np.maximum(1, (wanted - fit) / 1.2)
        return np.asarray(found)


def _read(detail: RealArray, brightness: RealArray, tissue: BoolArray, *, rician: bool) -> _Reading | None:
    gradient = np.sqrt(sum(np.square(part) for part in np.gradient(brightness)))
    if np.count_nonzero(tissue) < FEWEST:
        return None
    half, whole = np.quantile(gradient[tissue], (SMOOTH / 2, SMOOTH))
    index = np.nonzero(tissue & (gradient <= whole))
    found = detail[index].astype(np.float64)
    middle = float(np.median(found)) / 0.6745
    smoother = gradient[index] <= half
    # A constant scan has one half only, and a thin slab does not show how noise varies across it.
    thin = any(np.count_nonzero(np.bincount(places)) < THINNEST for places in index)
    if len(found) < FEWEST or middle <= 0 or np.count_nonzero(~smoother) < FEWEST / 4 or thin:
        return None
    values = np.log(np.maximum(found, 0.02 * middle)) + MEAN_LOG
    basis = np.stack([term[index] for term in _monomials(detail.shape)], axis=1).astype(np.float64)
    return _Reading(index, basis, values, brightness[index], smoother, rician)


def _monomials(shape: tuple[int, ...]) -> list[RealArray]:
    """Return the ten monomials of up to the second degree, the constant first, on a grid from -1 to 1."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    powers = [p for p in product(range(3), repeat=3) if sum(p) <= 2]
    return [np.broadcast_to(axes[0] ** i * axes[1] ** j * axes[2] ** k, shape) for i, j, k in powers]


def _surface(shape: tuple[int, ...], coefficients: RealArray) -> FloatArray:
    surface = np.zeros(shape, dtype=np.float32)
    for factor, term in zip(coefficients, _monomials(shape), strict=True):
        surface += np.float32(factor) * term
    return surface


def _rest(surface: FloatArray, reading: _Reading, kept: RealArray) -> FloatArray:
    """Return the smoothed residual of the quadratic fit; zero where there is no tissue near.

    The part `kept` of the samples along each axis is left: positions are farther apart by its inverse.
    """
    shape = surface.shape
    fit = surface[reading.index]
    left = np.clip(reading.corrected(fit) - fit, -3.0, 1.8)
    rest, there = (np.zeros(shape, dtype=np.float32) for _ in range(2))
    rest[reading.index], there[reading.index] = left - left.mean(), 1
    width = WIDTH * max(shape / kept) * kept
    smooth, share = (
        ndimage.gaussian_filter(part, width, mode="constant", truncate=2.5) for part in (rest, there)
    )
    return np.asarray(smooth / (share + TRUST), dtype=np.float32)


def enlarged(coarse: RealArray, shape: tuple[int, ...]) -> RealArray:
    """Return a smooth (X, Y, Z) map on a finer grid with the same field of view."""
    zoom = [wide / narrow for wide, narrow in zip(shape, coarse.shape, strict=True)]
    return np.asarray(ndimage.zoom(coarse, zoom, order=1, mode="nearest", grid_mode=True))


def _rice_table() -> tuple[RealArray, RealArray]:
    """Return mean over deviation of a Rice variable, and the logarithm of sigma over its deviation.

    Gudbjartsson and Patz, Magn Reson Med 34 (1995); inverted as by Koay and Basser, J Magn Reson 179 (2006).
    """
    signal = np.linspace(0, 12, 400)
    t = signal**2 / 4
    mean = np.sqrt(np.pi / 2) * ((1 + 2 * t) * ive(0, t) + 2 * t * ive(1, t))
    deviation = np.sqrt(2 + signal**2 - mean**2)
    return mean / deviation, -np.log(deviation)


_RATIO, _DEFICIT = _rice_table()


def _rician_deficit(brightness_over_level: RealArray) -> RealArray:
    """Return by how much the logarithm of a deviation is below the logarithm of sigma.

    Args:
        brightness_over_level: Mean of the magnitude over the last estimate of sigma.
    """
    return np.asarray(np.interp(brightness_over_level, _RATIO * np.exp(-_DEFICIT), _DEFICIT))
