"""The level of white noise, from the finest wavelet band."""

from __future__ import annotations

import numpy as np
import pywt

from medrestore.noise.intensity import FOREGROUND, bright_level
from medrestore.types import RealArray

SMOOTH = 0.2
"""Fraction of the tissue in which noise is read: the tissue with the least detail."""


def estimate_noise(array: RealArray) -> float:
    """Estimate the standard deviation of white noise from the finest diagonal wavelet coefficients.

    The robust median estimator of Donoho and Johnstone, Ideal spatial adaptation by wavelet shrinkage
    (Biometrika 81, 1994), on a Daubechies-2 transform, read only in tissue (in the air Rician noise has two
    thirds of its deviation in tissue) and there in the smoothest fifth (at low noise the rest is anatomy).

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
    if not tissue.any():  # no voxel is positive: there is no dark background to leave out
        tissue = np.ones_like(tissue)
    detail = sum(np.abs(band) for name, band in bands.items() if name.count("d") == 1)
    smooth = tissue & (detail <= np.quantile(detail[tissue], SMOOTH))
    return float(np.median(np.abs(bands["d" * len(axes)][smooth])) / 0.6745)
