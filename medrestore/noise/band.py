"""The band of a scan: up to which frequency its scanner measured, along each axis.

A reconstruction that fills k-space with zeros leaves a cliff in the spectrum: noise within the band, next to
nothing beyond it. In air the magnitude smears the cliff, so the spectrum is read in tissue, where the noise
of a magnitude is the noise of its real part; and after a high pass, which leaves less anatomy.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    for size, power, said in zip(array.shape, axis_spectra(array), stated, strict=True):
        if size < SHORTEST or not power.max() > 0:
            grids.append(AxisGrid(size, None))
            continue
        edge = band_edge(power, said)
        whole = AxisGrid(size, 1.0)
        grids.append(whole if edge is None else AxisGrid(min(2 * round(edge * size / 2), size), edge))
    return tuple(grids)


def band_edge(power: Float64Array, stated: float | None = None) -> float | None:
    """Return the end of the band in a spectrum, as a fraction of Nyquist; None if there is no cliff.

    Args:
        power: Power at evenly spaced frequencies from 0 to Nyquist.
        stated: The end that a header states. Where no cliff is clear, a lower cliff there is enough.
    """
    if not power.max() > 0:
        return None
    log = np.log(np.maximum(power, 1e-12 * power.max()))
    last = len(log) - 1
    found = _cliff(log)
    if found is None and stated is not None and _falls_at(log, stated):
        return stated
    found = _floor(log) if found is None else found
    return None if found is None else found / last


def _falls_at(log: Float64Array, stated: float) -> bool:
    """Whether the power falls where a header states the end of the band, if less than a cliff does."""
    last = len(log) - 1
    if not LEAST_BAND <= stated <= MOST_BAND:
        return False
    place, reach = round(stated * last), max(round(NARROW * last), 1)
    falls = [_fall(log, index) for index in range(place - reach, min(place + reach, last - 1) + 1)]
    return max(falls) > float(np.log(STATED_CLIFF))


def _fall(log: Float64Array, index: int) -> float:
    """Return by how much the power just within a frequency exceeds the power beyond it, as a logarithm."""
    near = max(round(NARROW * (len(log) - 1)), 1)
    inside = log[max(index - 2 * near, 0) : index + 1 - near // 2]
    return float(inside.mean() - max(log[index + 1 : index + 1 + near].mean(), log[index + 1 :].mean()))


def _cliff(log: Float64Array) -> float | None:
    """Return where the power falls at once: zeros were filled in, and no smoothing came after."""
    last = len(log) - 1
    near = max(round(NARROW * last), 1)
    best, place = np.log(CLIFF), None
    for index in range(round(LEAST_BAND * last), min(round(MOST_BAND * last), last - 1) + 1):
        fall = _fall(log, index)
        if fall > best:
            best, place = fall, index
    if place is None:
        return None
    # Leakage rounds the end off: the end is where the power crosses the middle.
    top, foot = (
        log[place - 3 * near : place - near + 1].mean(),
        log[place + near : place + 2 * near + 1].mean(),
    )
    middle = (top + foot) / 2
    below = next((i for i in range(place - near, place + 2 * near) if log[i] < middle), place)
    return below - float((middle - log[below]) / max(log[below - 1] - log[below], 1e-9))


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
