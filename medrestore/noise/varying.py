"""How the noise of a scan varies, and its level where it does, on the grid that was measured."""

from __future__ import annotations

from dataclasses import replace

from medrestore.noise.level import NoiseLevel, level_under_map
from medrestore.noise.map import NoiseMap, estimate_noise_map
from medrestore.noise.measured_grid import MeasuredGrid, find_measured_grid
from medrestore.noise.model import Certainty, NoiseModel
from medrestore.physics.mr_noise import sum_of_squares_as_rician
from medrestore.types import RealArray

LEAST = 0.01
"""Fraction of the bright level below which noise cannot be told from fine anatomy, nor be seen to vary."""

SAME = 1.15
"""How far a level that air and tissue agree on may change under a map of the noise."""


def as_measured(array: RealArray, noise: NoiseModel) -> tuple[MeasuredGrid, RealArray]:
    """Take a scan to the grid that was measured, as the magnitude of one coil.

    Args:
        array: (X, Y, Z) voxels of the scan.
        noise: What was measured of its noise.

    Returns:
        The grid, and the voxels on it.
    """
    voxels = sum_of_squares_as_rician(array, noise.sigma, noise.coils)
    grid = find_measured_grid(voxels, noise.grid)
    return grid, grid.measured(voxels)


def varying_noise(
    voxels: RealArray, noise: NoiseLevel, percentile: float
) -> tuple[NoiseLevel, NoiseMap | None]:
    """Find how noise varies over a scan of MR.

    Args:
        voxels: (X, Y, Z) of the scan on the grid that was measured (`as_measured`).
        noise: Its level, as that of constant noise.
        percentile: The 99th percentile of the scan.

    Returns:
        The level in the median over tissue, and the map relative to it on the same grid; the level as it was
        and None where the noise is constant as far as can be told.
    """
    measured = noise.measured
    varying = None
    if noise.fraction >= LEAST:
        varying = estimate_noise_map(voxels, () if measured is None else measured.axes)
    if varying is None:
        return noise, None
    # Divided by the map, the noise has one level: the level of the air, or the map is a map of anatomy. The
    # differences of a series are read where the noise is weakest, and say nothing of the sort.
    level = level_under_map(voxels / varying.gain, noise, percentile)
    in_air = measured is not None and measured.certainty is Certainty.SURE and measured.source != "series"
    if in_air and not noise.seen / SAME < level.seen < noise.seen * SAME:
        return noise, None
    return replace(level, map=varying.range), varying
