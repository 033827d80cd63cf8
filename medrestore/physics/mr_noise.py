"""Noise models of magnitude MR images.

Arrays have any shape; `sigma` is the standard deviation of the noise in each receiver channel (the Gaussian
noise of the real and the imaginary part), in the units of the image, a number or an array that broadcasts.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import ive

from medrestore.types import Float64Array, FloatArray, RealArray


def add_gaussian(image: FloatArray, sigma: float | FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return `image` with independent Gaussian noise added.

    Args:
        image: Voxels of any shape and unit.
        sigma: Standard deviation in that unit, one or one for each voxel.
        rng: Source of randomness.
    """
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(image + np.float32(sigma) * noise, dtype=np.float32)


def add_rician(image: FloatArray, sigma: float | FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return the magnitude of `image` with complex Gaussian noise: a Rician variable at every voxel.

    Source: Gudbjartsson and Patz, The Rician distribution of noisy MRI data, Magn Reson Med 34 (1995), eq. 1.

    Args:
        image: Non-negative voxels of any shape and unit.
        sigma: Standard deviation of either channel in that unit, one or one for each voxel.
        rng: Source of randomness.
    """
    level = np.float32(sigma)
    real = image + level * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = level * rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.hypot(real, imaginary), dtype=np.float32)


def sum_of_squares_as_rician(magnitude: RealArray, sigma: float | FloatArray, coils: int) -> FloatArray:
    """Take the noise floor of further coils out of a sum of squares: its second moment becomes a Rician one.

    The square of a sum of squares over `coils` is on average A^2 + 2 coils sigma^2, the square of a Rician
    variable A^2 + 2 sigma^2. Source: Constantinides, Atalar and McVeigh, Magn Reson Med 38 (1997), eq. 3.

    Args:
        magnitude: Voxels of any shape.
        sigma: Deviation of the noise in each channel, one or one for each voxel.
        coils: How many were combined; 1 leaves the voxels as they are.
    """
    voxels = np.asarray(magnitude, dtype=np.float32)
    if coils == 1:
        return voxels
    excess = np.float32(2 * (coils - 1)) * np.square(np.asarray(sigma, dtype=np.float32))
    return np.asarray(np.sqrt(np.maximum(np.square(voxels) - excess, 0)), dtype=np.float32)


FAR = 1e4
"""Signal, in units of sigma, beyond which noise is Gaussian to eight digits; Bessel functions end at 8e4."""


def rice_moments(signal: RealArray) -> tuple[Float64Array, Float64Array]:
    """Return mean and standard deviation of the magnitude where sigma is 1 (Gudbjartsson and Patz, eq. 4).

    Args:
        signal: Non-negative voxels without noise, in units of sigma, of any shape.
    """
    signal = np.asarray(signal, dtype=np.float64)
    nu = np.minimum(signal, FAR)
    t = nu**2 / 4
    mean = np.sqrt(np.pi / 2) * ((1 + 2 * t) * ive(0, t) + 2 * t * ive(1, t))
    deviation = np.sqrt(np.maximum(2 + nu**2 - mean**2, 0.0))
    far = signal > FAR
    return np.where(far, np.hypot(signal, 1), mean), np.where(far, 1.0, deviation)


def rician_expectation(signal: RealArray, sigma: float | RealArray) -> FloatArray:
    """Return the expected magnitude of voxels in Rician noise, in their unit.

    Args:
        signal: Non-negative voxels without noise, of any shape and unit.
        sigma: Deviation of the noise in each channel in that unit, above 0, one or one for each voxel.
    """
    relative: FloatArray = np.divide(signal, sigma, dtype=np.float32)
    at, mean = _expectations()
    beyond = np.hypot(relative, 1)  # nu + 1 / (2 nu), to the first order
    found = np.where(relative < at[-1], np.interp(relative, at, mean), beyond)
    return np.asarray(found * sigma, dtype=np.float32)


def signal_of_expectation(expected: RealArray, sigma: float | RealArray) -> FloatArray:
    """Return the signal whose magnitudes have an expectation; 0 where that is less than noise alone gives.

    The inverse of `rician_expectation`, for averages of many magnitudes (Koay and Basser, J Magn Reson 179,
    2006, do the same by a fixed point).

    Args:
        expected: Expected magnitudes, of any shape and unit.
        sigma: As for `rician_expectation`.
    """
    relative: FloatArray = np.divide(expected, sigma, dtype=np.float32)
    at, mean = _expectations()
    beyond = np.sqrt(np.maximum(np.square(relative) - 1, 0))
    return np.asarray(
        np.where(relative < mean[-1], np.interp(relative, mean, at), beyond) * sigma, np.float32
    )


@lru_cache(maxsize=1)
def _expectations() -> tuple[Float64Array, Float64Array]:
    """Return signals up to ten times the noise, and the expectations of their magnitudes."""
    signal = np.linspace(0.0, 10.0, 2001)
    return signal, rice_moments(signal)[0]
