"""Spikes in k-space: single samples that a spark or interference made large, and stripes in the image.

Anatomy is smooth in k-space compared with a spike, so each sample is compared with the mean of the samples
around it.

Source: Foo, Grigsby, Mitchell and Slayman, SNORE: spike noise removal and detection, IEEE TMI 13 (1994).
"""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from medrestore.noise.model import Spike
from medrestore.types import BoolArray, FloatArray, RealArray

HEIGHT = 12.0
"""How many times a spike exceeds the mean of the samples around it: noise reaches 5."""

INNER, OUTER = 5, 9
"""Sides in samples of the cube that a spike's leakage may fill, and of the larger cube around it."""

SHARE = 0.002
"""Least amplitude over the centre's amplitude in k-space: weaker stripes are below 0.4 % of the mean."""

NEAR_CENTRE = 0.08
"""Frequencies, as fractions of Nyquist, below which anatomy itself stands out."""

FEWEST_CYCLES = 6
"""Stripes over the field of view, along some axis, below which anatomy stands out too."""

MOST = 8
"""Most spikes that are reported."""


def find_spikes(array: RealArray) -> tuple[tuple[Spike, ...], FloatArray]:
    """Find spikes, and return the scan without them.

    Args:
        array: (X, Y, Z) voxels.

    Returns:
        The spikes, the largest first, each pair of conjugate samples once; and the voxels with those samples
        lowered to the mean amplitude of their neighbours, so that they do not distort the noise.
    """
    voxels = np.asarray(array, dtype=np.float32)
    spectrum = fft.rfftn(voxels)
    amplitude = np.abs(spectrum)
    around = _around(amplitude)
    centre = float(amplitude[0, 0, 0]) or 1.0
    found = (amplitude > HEIGHT * around) & (amplitude > SHARE * centre) & _is_outer(voxels.shape)
    if not found.any():
        return (), voxels
    places = np.argwhere(found)
    places = places[np.argsort(-amplitude[found])]
    spikes: list[Spike] = []
    for place in places:
        cycles = [int(k) if 2 * k <= n else int(k - n) for k, n in zip(place, voxels.shape, strict=True)]
        at = tuple(place)
        height = float(amplitude[at] / max(float(around[at]), 1e-12 * centre))
        spike = Spike((cycles[0], cycles[1], cycles[2]), float(amplitude[at]) / centre, height)
        twin = tuple(-k for k in cycles)
        if all(other.cycles != twin for other in spikes):
            spikes.append(spike)
    spectrum[found] *= around[found] / amplitude[found]
    return tuple(spikes[:MOST]), np.asarray(fft.irfftn(spectrum, s=voxels.shape), dtype=np.float32)


def tallest(array: RealArray) -> float:
    """Return how many times a sample of k-space exceeds those around it, at most, away from the centre.

    Noise reaches 5, and a spike is above `HEIGHT`. A part of a scan will do: it is faded out to its borders,
    so that stripes which do not fit into it a whole number of times stay narrow in k-space.

    Args:
        array: (X, Y, Z) voxels.
    """
    voxels = np.asarray(array, dtype=np.float32)
    for axis, size in enumerate(voxels.shape):
        fade = np.hanning(size + 2)[1:-1].astype(np.float32)
        voxels = voxels * fade.reshape(-1, *(1,) * (2 - axis))
    amplitude = np.abs(fft.rfftn(voxels))
    far = _is_outer(voxels.shape) & (amplitude > SHARE * float(amplitude[0, 0, 0]))
    if not far.any():
        return 0.0
    around = np.maximum(_around(amplitude), 1e-12 * float(amplitude.max()))
    return float((amplitude[far] / around[far]).max())


def _is_outer(shape: tuple[int, ...]) -> BoolArray:
    """Tell which samples of a half spectrum are far enough from the centre."""
    cycles = [np.abs(np.rint(fft.fftfreq(n) * n)) for n in shape[:2]] + [np.arange(shape[2] // 2 + 1)]
    x, y, z = np.meshgrid(*cycles, indexing="ij", sparse=True)
    parts = [np.square(2 * count / size) for count, size in zip((x, y, z), shape, strict=True)]
    far = np.maximum(np.maximum(x, y), z) >= FEWEST_CYCLES
    return np.asarray(far & (parts[0] + parts[1] + parts[2] > NEAR_CENTRE**2))


def _around(amplitude: FloatArray) -> FloatArray:
    """Return the mean of the samples around each sample, without its nearest neighbours.

    It is the mean of the cube around the sample or, where that is larger, the mean of the line through it
    along an axis: borders of the field of view and flat slices make lines and planes of k-space bright.
    """
    found = _ring(amplitude, [(min(INNER, n), min(OUTER, n)) for n in amplitude.shape])
    for axis, size in enumerate(amplitude.shape):
        sides = [(1, 1)] * amplitude.ndim
        sides[axis] = (min(INNER, size), min(OUTER, size))
        found = np.maximum(found, _ring(amplitude, sides))
    return found


def _ring(amplitude: FloatArray, sides: list[tuple[int, int]]) -> FloatArray:
    """Return the mean over a box around each sample, less a smaller box inside."""
    inner, outer = zip(*sides, strict=True)
    sums = [ndimage.uniform_filter(amplitude, box, mode="wrap") * int(np.prod(box)) for box in (inner, outer)]
    count = max(int(np.prod(outer)) - int(np.prod(inner)), 1)
    return np.asarray(np.maximum((sums[1] - sums[0]) / count, 0), dtype=np.float32)
