"""The noise level of a scan, given or estimated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pywt

from medrestore.engine.intensity import bright_level
from medrestore.engine.noise_ct import estimate_ct_noise
from medrestore.errors import ConfigError
from medrestore.plugin import Intensity
from medrestore.types import RealArray

FOREGROUND = 0.3
"""Fraction of the 99th percentile above which a voxel is tissue: Rician noise is Gaussian there."""

SMOOTH = 0.2
"""Fraction of the tissue, that with the least detail, in which noise is read."""


@dataclass(frozen=True)
class NoiseRange:
    """How far the noise varies over a scan, relative to its level.

    Attributes:
        p5: 5th percentile over tissue.
        median: Median, which the level is that of.
        p95: 95th percentile.
        method: Name of the estimator.
    """

    p5: float
    median: float
    p95: float
    method: str


@dataclass(frozen=True)
class NoiseLevel:
    """A noise level and how it was found.

    Attributes:
        sigma: Standard deviation in the units of the voxels.
        fraction: The same as a fraction of the 99th percentile of the scan; in CT, of 1000 HU.
        method: ``"given"`` or the name of the estimator.
        map: How it varies over the scan; None where it was taken to be constant.
    """

    sigma: float
    fraction: float
    method: str
    map: NoiseRange | None = None


def noise_level(
    array: RealArray,
    wish: float | str,
    percentile: float,
    intensity: Intensity = Intensity.P99,
) -> NoiseLevel:
    """Find the noise level that a scan is to be restored with.

    Args:
        array: (X, Y, Z) voxels; of CT in HU, slices along the last axis.
        wish: A number in the units of the voxels, a percentage of `percentile`, or ``"auto"``.
        percentile: The 99th percentile of the scan; in CT, the attenuation of water.
        intensity: Units of the model; those of attenuation say that the scan is one of CT.

    Raises:
        ConfigError: The wish is neither.
    """
    given = parse_noise(wish)
    if given is None and intensity is Intensity.ATTENUATION:
        sigma = estimate_ct_noise(array)
        return NoiseLevel(sigma, sigma / percentile, "local deviation in soft tissue")
    if given is None:
        sigma = estimate_noise(array)
        return NoiseLevel(sigma, sigma / percentile, "wavelet MAD in smooth tissue")
    value, is_fraction = given
    sigma = value * percentile if is_fraction else value
    return NoiseLevel(sigma, sigma / percentile, "given")


def parse_noise(wish: float | str) -> tuple[float, bool] | None:
    """Read a wish for a noise level; None for ``"auto"``.

    Returns:
        The number, and whether it is a fraction (see `NoiseLevel`) rather than in voxel units.

    Raises:
        ConfigError: It is no number, negative or not finite.
    """
    if wish == "auto":
        return None
    text = str(wish).strip()
    is_fraction = text.endswith("%")
    try:
        value = float(text[:-1]) / 100 if is_fraction else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < np.inf:
        raise ConfigError(f"noise is {wish!r}; expected 'auto', a level in voxel units, or one like '5%'")
    return value, is_fraction


def estimate_noise(array: RealArray) -> float:
    """Estimate the standard deviation of white noise from the finest diagonal wavelet coefficients.

    The robust median estimator of Donoho and Johnstone, Ideal spatial adaptation by wavelet shrinkage
    (Biometrika 81, 1994), on a Daubechies-2 transform, read only in tissue (in the air around it Rician noise
    has two thirds of its deviation) and there in the smoothest fifth (at low noise the rest is anatomy).

    Args:
        array: (X, Y, Z) voxels; axes shorter than four voxels are not transformed.

    Returns:
        Standard deviation in the units of the voxels; 0 where no two voxels differ.
    """
    voxels = np.asarray(array, dtype=np.float32)
    axes = tuple(axis for axis, size in enumerate(voxels.shape) if size >= 4)
    if not axes:
        return float(voxels.std())
    bands = pywt.dwtn(voxels, "db2", axes=axes)
    low = bands["a" * len(axes)] / 2 ** (len(axes) / 2)
    tissue = low > FOREGROUND * bright_level(low)
    if not tissue.any():  # nothing is positive: there is no dark background to leave out
        tissue = np.ones_like(tissue)
    detail = sum(np.abs(band) for name, band in bands.items() if name.count("d") == 1)
    smooth = tissue & (detail <= np.quantile(detail[tissue], SMOOTH))
    return float(np.median(np.abs(bands["d" * len(axes)][smooth])) / 0.6745)
