"""From a scan to the model of its noise: air, tissue and spectrum, each a check of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np

from medrestore.noise.air import LAGS, Air, read_air
from medrestore.noise.band import AxisGrid, measured_grid
from medrestore.noise.hints import verdict_on
from medrestore.noise.model import AxisNoise, Certainty, Distribution, NoiseModel, SamplingHints
from medrestore.noise.spikes import find_spikes
from medrestore.noise.tissue import (
    GROWTH,
    MANY,
    NO_WINDOW,
    BlockPower,
    FermiWindow,
    Tissue,
    Windows,
    block_power,
    correlations,
    read_tissue,
)
from medrestore.noise.wavelet import estimate_noise
from medrestore.physics.kspace import crop_band
from medrestore.types import FloatArray, RealArray

AGREE = (0.8, 1.25)
"""Level of air over level of tissue within which both agree: air is not much below the noise of tissue, nor
much above all of its signal at the highest frequencies."""

FAR = 2.0
"""Level of tissue over level of air above which tissue shows fine anatomy and not the noise."""

LEAST_CORRELATION = 0.12
"""A correlation in the air below this counts as zero: its square is lost in the error of the estimate."""

NOISY = 0.8
"""Share of noise at the highest frequencies of tissue above which tissue alone is believed."""

_EDGES = np.concatenate([np.linspace(0.35, 1.2, 35), [1.6]])
_WIDTHS = (0.02, 0.04, 0.06, 0.09, 0.12, 0.16, 0.2)
SHAPES = tuple(FermiWindow(float(edge), width) for edge, width in product(_EDGES, _WIDTHS))
"""Windows that the correlations in air are compared with."""

Pair: TypeAlias = "tuple[RealArray, RealArray]"


def measure_noise(
    array: RealArray,
    spacing: tuple[float, ...],
    pairs: Sequence[Pair] = (),
    hints: SamplingHints | None = None,
) -> NoiseModel:
    """Measure the noise of an MR scan.

    Args:
        array: (X, Y, Z) voxels.
        spacing: Voxel sizes, in mm.
        pairs: Neighbouring volumes of the series that the scan is from, whose differences hold noise but no
            anatomy (`medrestore.engine.series.noise_pairs` tells).
        hints: What the header states (`sampling_hints`); the spectrum decides.

    Returns:
        Level, band and colour, distribution, and how certain each is. The level of a scan in which no two
        voxels differ is 0.
    """
    hints = hints or SamplingHints()
    spikes, voxels = find_spikes(array)
    found = measured_grid(voxels, hints.bands)
    grid = tuple(axis.size for axis in found)
    band = tuple(size / whole for size, whole in zip(grid, voxels.shape, strict=True))
    fine = tuple(step / part for step, part in zip(spacing, band, strict=True))
    small = crop_band(voxels, grid)
    blocks = block_power(small)
    tissue = read_tissue(blocks, fine)
    ceiling = np.inf if tissue is None else AGREE[1] * _most(tissue)
    air = read_air(voxels, ceiling)
    if air is not None and air.sigma > ceiling:
        air = None
    if air is not None and tissue is not None and _counts_better(tissue, air):
        air = air.recounted(tissue.sigma)
    reading = _combined(small, blocks, fine, air, tissue, band)
    series = _read_series(pairs, grid, fine)
    if series is not None:
        reading = _with_series(reading, series)
    coils = 1 if air is None else max(air.coils, 1)
    return NoiseModel(
        sigma=reading.sigma,
        axes=_axes_noise(voxels.shape, found, reading.windows, hints),
        distribution=_distribution(voxels, coils),
        coils=coils,
        source=reading.source,
        certainty=reading.certainty,
        air=None if air is None else air.sigma,
        tissue=None if tissue is None else tissue.sigma,
        series=None if series is None else series.sigma,
        spikes=spikes,
        hints=hints,
    )


def _axes_noise(
    shape: tuple[int, ...], grid: Sequence[AxisGrid], windows: Windows, hints: SamplingHints
) -> tuple[AxisNoise, AxisNoise, AxisNoise]:
    x, y, z = (
        _axis_noise(size, axis, window, stated)
        for size, axis, window, stated in zip(shape, grid, windows, hints.bands, strict=True)
    )
    return x, y, z


def _axis_noise(size: int, grid: AxisGrid, window: FermiWindow, stated: float | None) -> AxisNoise:
    """Return the noise along an axis of `size` voxels, and whether it confirms the stated band."""
    return AxisNoise(
        band=grid.size / size,
        size=grid.size,
        correlation=window.correlation(),
        edge=window.edge,
        width=window.width,
        stated=stated,
        verdict=verdict_on(stated, grid.edge, size),
    )


@dataclass(frozen=True, eq=False)
class _Reading:
    sigma: float
    windows: Windows
    source: str
    certainty: Certainty


def _combined(
    small: FloatArray,
    blocks: BlockPower | None,
    spacing: tuple[float, ...],
    air: Air | None,
    tissue: Tissue | None,
    band: tuple[float, ...],
) -> _Reading:
    """Weigh the noise read in air against the noise read in tissue."""
    if tissue is None and air is None:
        return _Reading(estimate_noise(small), (NO_WINDOW,) * 3, "tissue", Certainty.UNSURE)
    if air is None:
        assert tissue is not None
        return _of_tissue(tissue)
    windows = windows_of(air, band)
    if min(window.edge for window in windows) <= SHAPES[0].edge:
        windows = (NO_WINDOW,) * 3 if tissue is None else tissue.windows  # anatomy, or ghosts, in the air
    told = read_tissue(blocks, spacing, windows)
    if told is None or tissue is None:
        return _Reading(air.sigma, windows, "air", Certainty.LIKELY)
    if AGREE[0] * told.sigma <= air.sigma <= AGREE[1] * told.highest:
        return _Reading(air.sigma, windows, "air and tissue", Certainty.SURE)
    most = min(told.sigma, tissue.sigma)
    if most > FAR * air.sigma:
        # The reading in tissue is mostly fine anatomy: stay a little above the floor that air sets.
        return _Reading(2**0.5 * air.sigma, tissue.windows, "air", Certainty.UNSURE)
    return _Reading((air.sigma * most) ** 0.5, tissue.windows, "air and tissue", Certainty.UNSURE)


def _most(tissue: Tissue) -> float:
    """Return the most noise that tissue can hold: the level as read, where its signal is mostly noise."""
    return tissue.sigma if tissue.coloured and tissue.share > NOISY else tissue.highest


def _counts_better(tissue: Tissue, air: Air) -> bool:
    """Whether the coils are counted from the level in much tissue, rather than from little air."""
    return air.coils > 1 and air.blocks < MANY <= tissue.blocks and _is_sure(tissue)


def _is_sure(tissue: Tissue) -> bool:
    """Whether the highest frequencies of tissue hold noise, and not anatomy."""
    return tissue.growth < GROWTH and tissue.share > NOISY and tissue.sigma > NOISY * tissue.highest


def _of_tissue(tissue: Tissue) -> _Reading:
    """Believe tissue as far as its highest frequencies hold noise, and not anatomy."""
    certainty = Certainty.LIKELY if _is_sure(tissue) else Certainty.UNSURE
    return _Reading(tissue.sigma, tissue.windows, "tissue", certainty)


def windows_of(air: Air, band: tuple[float, ...]) -> Windows:
    """Return the windows, on the measured grid, that the correlations in the air fit best.

    Args:
        air: The noise read in air.
        band: Part of the frequencies that was measured, for each axis: correlations in air are on the scan's
            own grid.
    """
    x, y, z = (_window_of(air.correlations[axis], band[axis]) for axis in range(3))
    return x, y, z


def _window_of(measured: RealArray, band: float) -> FermiWindow:
    if band == 1 and measured[0] < LEAST_CORRELATION:
        return NO_WINDOW
    seen = np.square(measured)
    lags = band * np.arange(1, LAGS + 1)  # in voxels of the measured grid

    expected = correlations([NO_WINDOW, *SHAPES], lags)
    misfit = np.sum(np.square(np.square(expected) - seen), axis=1)
    best = int(np.argmin(misfit[1:]))
    # No window where a window is hardly better: the last voxel of the band does not justify one.
    return NO_WINDOW if misfit[0] < misfit[1 + best] + LEAST_CORRELATION**4 else SHAPES[best]


def _read_series(pairs: Sequence[Pair], grid: tuple[int, ...], spacing: tuple[float, ...]) -> Tissue | None:
    """Read the noise in the differences of volumes.

    Args:
        pairs: See `measure_noise`.
        grid: Voxels that were measured along each axis.
        spacing: Sizes of those voxels, in mm.

    Returns:
        The median reading of the pairs; None where no pair gives one, or it is mostly anatomy.
    """
    read = []
    for first, second in pairs:
        difference = (np.asarray(second, dtype=np.float32) - first) / np.float32(2**0.5)
        found = read_tissue(block_power(crop_band(difference, grid), crop_band(first, grid)), spacing)
        if found is not None and found.growth < GROWTH and found.share > NOISY:
            read.append(found)
    return sorted(read, key=lambda one: one.sigma)[len(read) // 2] if read else None


def _with_series(reading: _Reading, series: Tissue) -> _Reading:
    """Weigh the reading in the differences of a series against the reading in the scan itself.

    Where both agree, the differences count: they hold no texture. Otherwise they raise no level that a scan
    gives for certain or likely, as a signal that fluctuates makes the differences exceed the noise of one
    volume; of an unsure one nothing is known but that. They lower no level that is sure, as differences fall
    short where volumes share measured data or were smoothed over time; a level that is not sure then leans to
    the low side.
    """
    if AGREE[0] * reading.sigma <= series.sigma <= AGREE[1] * reading.sigma:
        return _Reading(series.sigma, series.windows, "series", Certainty.SURE)
    if series.sigma < reading.sigma and reading.certainty is not Certainty.SURE:
        return _Reading(series.sigma, series.windows, "series", Certainty.UNSURE)
    if series.sigma > reading.sigma and reading.certainty is Certainty.UNSURE:
        return _Reading(series.sigma, series.windows, "series", Certainty.LIKELY)
    return reading


def _distribution(voxels: RealArray, coils: int) -> Distribution:
    if float(np.mean(voxels < 0)) > 0.01:
        return Distribution.GAUSSIAN
    return Distribution.NONCENTRAL_CHI if coils > 1 else Distribution.RICIAN
