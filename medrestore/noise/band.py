"""The band of a scan: up to which frequency its scanner measured, along each axis.

A reconstruction that fills k-space with zeros leaves a cliff in the spectrum: noise within the band, next to
nothing beyond it. In air the magnitude smears the cliff, so the spectrum is read in tissue, where the noise
of a magnitude is the noise of its real part. The cliff is sharp in whole lines of voxels through tissue,
under Hann's window, which leaks little. Ends that are not sharp are read in all of tissue, after a high pass,
which leaves less anatomy.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
from scipy import fft, ndimage

from medrestore.noise.intensity import FOREGROUND, bright_level
from medrestore.types import Float64Array, FloatArray, RealArray

CLIFF = 10.0
"""How many times the power just within a sharp end of the band exceeds the power just beyond it."""

STATED_CLIFF = 3.0
"""The same factor at an end that the header states: axes of real scans without zero-filling reach 2.5."""

NARROW = 0.03
"""Width of the spectrum, as a fraction of Nyquist, that is compared on either side of a sharp end."""

SLOPE = 6.0
"""How many times the power within a band that ends gently exceeds the floor beyond it."""

WALL = (0.06, 0.14)
"""Where the power within a band that ends gently is read, from its end inwards, as fractions of Nyquist."""

FLAT = 0.5
"""How far the logarithm of the power may rise above its mean on the floor."""

LEAST_BAND, MOST_BAND = 0.3, 0.97
"""Least and largest band that is looked for."""

SHORTEST = 24
"""Fewest voxels along an axis for which a band is told."""

HALF = 0.3
"""Part of a sample by which a band may exceed the grid that it is taken to."""

LEAST_SHARP = 0.2
"""Least band with a sharp end that is looked for: 128 samples of 512 voxels have 0.25."""

SHORTEST_LINE = 40
"""Fewest voxels of a line in which a sharp end is sought: in shorter ones smooth anatomy falls as fast."""

STEEPER = 3.0
"""How many times a sharp end exceeds the fall just before it, both as logarithms."""

MOSTLY, MOST_LINES = 0.9, 0.1
"""Part of a line that lies in tissue, and part of the lines that are taken where fewer hold as much of it."""


def axis_spectra(array: RealArray) -> tuple[Float64Array, ...]:
    """Return the power spectrum of detail in tissue along each axis, at frequencies from 0 to Nyquist.

    Args:
        array: (X, Y, Z) voxels.

    Returns:
        For each axis of n voxels n // 2 + 1 powers, averaged over the other two.
    """
    detail = _detail_in_tissue(array)
    found = []
    for axis in range(3):
        power = np.square(np.abs(fft.rfft(detail, axis=axis)))
        others = tuple(other for other in range(3) if other != axis)
        found.append(np.asarray(power.mean(axis=others, dtype=np.float64)))
    return tuple(found)


class AxisGrid(NamedTuple):
    """The measured grid along one axis, as its spectrum shows it.

    Attributes:
        size: Voxels that the scanner measured: fewer than the scan has where the scanner interpolated.
        edge: The end of the band, as a fraction of Nyquist, before it is rounded to voxels; 1 where the band
            has no end, None where the spectrum cannot tell.
    """

    size: int
    edge: float | None


def measured_grid(array: RealArray, stated: Sequence[float | None] = (None,) * 3) -> tuple[AxisGrid, ...]:
    """Return how many voxels along each axis the scanner measured.

    Args:
        array: (X, Y, Z) voxels.
        stated: The ends of the band that a header states, as fractions of Nyquist, for each axis.
    """
    grids = []
    spectra = zip(array.shape, line_spectra(array), axis_spectra(array), stated, strict=True)
    for size, lines, power, said in spectra:
        if size < SHORTEST or not power.max() > 0:
            grids.append(AxisGrid(size, None))
            continue
        sharp = sharp_edge(lines)
        edge = band_edge(power, said) if sharp is None else sharp
        whole = AxisGrid(size, 1.0)
        grids.append(whole if edge is None else AxisGrid(_samples(edge, size), edge))
    return tuple(grids)


def _samples(edge: float, size: int) -> int:
    """Return how many samples an axis of `size` voxels has within its band; half a sample counts as one."""
    return min(2 * ceil(edge * size / 2 - HALF), size)


def line_spectra(array: RealArray) -> tuple[Float64Array, ...]:
    """Return the power spectrum of lines of voxels through tissue along each axis, from 0 to Nyquist.

    Args:
        array: (X, Y, Z) voxels.

    Returns:
        For each axis of n voxels n // 2 + 1 powers, averaged over the lines that lie mostly in tissue.
    """
    smooth = ndimage.uniform_filter(np.asarray(array, dtype=np.float32), 3)
    tissue = smooth > FOREGROUND * bright_level(smooth)
    found = []
    for axis, size in enumerate(array.shape):
        window = np.hanning(size + 2)[1:-1].astype(np.float32)
        share = np.moveaxis(tissue, axis, -1) @ np.square(window) / np.sum(np.square(window))
        chosen = share >= min(MOSTLY, float(np.quantile(share, 1 - MOST_LINES)))
        lines = np.moveaxis(array, axis, -1)[chosen].astype(np.float32)
        lines = (lines - lines.mean(axis=-1, keepdims=True)) * window
        power = np.square(np.abs(fft.rfft(lines, axis=-1)))
        found.append(np.asarray(power.mean(axis=0, dtype=np.float64)))
    return tuple(found)


def sharp_edge(power: Float64Array) -> float | None:
    """Return where the power of lines falls at once, as a fraction of Nyquist; None if it does not.

    Smooth anatomy falls fast too, but not faster than just before.

    Args:
        power: Power at evenly spaced frequencies from 0 to Nyquist.
    """
    last = len(power) - 1
    if 2 * last < SHORTEST_LINE or not power.max() > 0:
        return None
    log = _logarithm(power)
    place = _cliff(log, 1, LEAST_SHARP)
    if place is None or place < 5:
        return None
    before = float(log[place - 5 : place - 2].mean() - log[place - 2 : place].mean())
    edge = _middle(log, place, 1) / last
    return edge if _fall(log, place, 1) > STEEPER * before and edge >= LEAST_SHARP else None


def band_edge(power: Float64Array, stated: float | None = None) -> float | None:
    """Return the end of the band in a spectrum, as a fraction of Nyquist; None if there is no cliff.

    Args:
        power: Power at evenly spaced frequencies from 0 to Nyquist.
        stated: The end that a header states. Where no cliff is clear, a lower cliff there is enough.
    """
    if not power.max() > 0:
        return None
    log, last = _logarithm(power), len(power) - 1
    near = _near(last)
    place = _cliff(log, near)
    if place is not None:
        return _middle(log, place, near) / last
    if stated is not None and _falls_at(log, stated):
        return stated
    found = _floor(log)
    return None if found is None else found / last


def _logarithm(power: Float64Array) -> Float64Array:
    return np.asarray(np.log(np.maximum(power, 1e-12 * power.max())))


def _falls_at(log: Float64Array, stated: float) -> bool:
    """Whether the power falls where a header states the end of the band, if less than a cliff does."""
    last = len(log) - 1
    if not LEAST_BAND <= stated <= MOST_BAND:
        return False
    place, reach = round(stated * last), _near(last)
    falls = [_fall(log, index, reach) for index in range(place - reach, min(place + reach, last - 1) + 1)]
    return max(falls) > float(np.log(STATED_CLIFF))


def _fall(log: Float64Array, index: int, near: int) -> float:
    """Return by how much the power just within a frequency exceeds the power beyond it, as a logarithm."""
    inside = log[max(index - 2 * near, 0) : index + 1 - near // 2]
    return float(inside.mean() - max(log[index + 1 : index + 1 + near].mean(), log[index + 1 :].mean()))


def _cliff(log: Float64Array, near: int, least: float = LEAST_BAND) -> int | None:
    """Return where the power falls at once: zeros were filled in, and no smoothing came after.

    Args:
        log: Logarithm of the power at evenly spaced frequencies from 0 to Nyquist.
        near: How many of them it may take to fall.
        least: Frequency from which on it is looked for, as a fraction of Nyquist.
    """
    last = len(log) - 1
    best, place = np.log(CLIFF), None
    for index in range(round(least * last), min(round(MOST_BAND * last), last - 1) + 1):
        fall = _fall(log, index, near)
        if fall > best:
            best, place = fall, index
    return place


def _middle(log: Float64Array, place: int, near: int) -> float:
    """Return where the power comes half way down a cliff; leakage rounds it off."""
    power = np.exp(log - log.max())
    within, beyond = slice(place - 3 * near, place - near + 1), slice(place + near, place + 2 * near + 1)
    top, foot = (float(np.exp(log[part].mean() - log.max())) for part in (within, beyond))
    middle = (top + foot) / 2
    below = next((i for i in range(place - near, place + 2 * near) if power[i] < middle), place)
    return below - float((middle - power[below]) / max(power[below - 1] - power[below], 1e-30))


def _near(last: int) -> int:
    """Return how many frequencies are compared on either side of an end that leakage rounds off."""
    return max(round(NARROW * last), 1)


def _floor(log: Float64Array) -> float | None:
    """Return where the power comes down to a floor: a window, or smoothing, ends there."""
    last = len(log) - 1
    beyond = last + 1 - max(round(NARROW * last), 2)
    # Inwards from Nyquist for as long as the floor is flat.
    while beyond > LEAST_BAND * last and log[beyond - 1 :].max() - log[beyond - 1 :].mean() < FLAT:
        beyond -= 1
    outer, inner = (beyond - round(part * last) for part in WALL)
    if not LEAST_BAND * last < beyond <= MOST_BAND * last:
        return None
    rise = float(log[max(inner, 0) : outer + 1].mean() - log[beyond:].mean())
    return float(beyond) if rise > np.log(SLOPE) else None


def _detail_in_tissue(array: RealArray) -> FloatArray:
    voxels = np.asarray(array, dtype=np.float32)
    smooth = ndimage.gaussian_filter(voxels, 1.5)
    tissue = ndimage.binary_erosion(smooth > FOREGROUND * bright_level(smooth), iterations=2)
    taper = ndimage.gaussian_filter(tissue.astype(np.float32), 2.0)
    detail = (voxels - smooth) * taper
    # Edges of anatomy are large and few; noise is neither.
    usual = float(np.median(np.abs(detail[tissue]))) / 0.6745 if tissue.any() else 0.0
    return np.asarray(np.clip(detail, -4 * usual, 4 * usual) if usual > 0 else detail)
