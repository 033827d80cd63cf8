"""k-space windows and grids: what a reconstruction does to the image and to its noise alike.

Frequencies are fractions of the Nyquist frequency of the grid, from 0 to 1. A window is a real factor at each
frequency; applied along an axis it is a self-adjoint linear operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
from scipy import fft

from medrestore.types import Float64Array, FloatArray, RealArray

Window = Callable[[RealArray], RealArray]
"""From frequencies, as fractions of Nyquist, to factors."""

COLOUR_DETAILS = 4
"""How many numbers a denoiser is told of the colour of the noise."""

COLOUR_SCALE = 4.0
"""A correlation is told this many times larger: networks see changes of about 0.1 to 3."""

STEP = 1.5
"""Mean square of the step from the last plane of an image to the first, over that of neighbouring planes at
the borders, above which the image does not repeat. Where it does repeat it is about 1."""

REPEATS = 0.9
"""Signal beyond the band over that of the mirrored image, below which the image repeats all the same: images
that were cut off have 1.4 and more, images that ring at their borders 0 to 0.9."""

SPARSE = 3
"""Every how many lines are looked at."""


def band_limit(edge: float) -> Window:
    """Return the window of a scan that was zero-filled: nothing beyond `edge`."""
    return lambda f: (np.asarray(f) <= edge).astype(np.float64)


def fermi(edge: float, width: float) -> Window:
    """Return the Fermi window: a half at `edge`, falling over a few `width`.

    Source: Bernstein, King and Zhou, Handbook of MRI Pulse Sequences (2004), section 13.1.
    """
    return lambda f: 1 / (1 + np.exp((np.asarray(f) - edge) / width))


def hann(edge: float = 1.0, floor: float = 0.0) -> Window:
    """Return a raised cosine that falls to `floor` at `edge`: Hann's with 0, Hamming's with 0.08."""

    def window(f: RealArray) -> RealArray:
        inside = np.minimum(np.asarray(f) / edge, 1)
        return np.asarray(floor + (1 - floor) * np.cos(np.pi / 2 * inside) ** 2)

    return window


def gaussian(deviation: float) -> Window:
    """Return a Gaussian of the frequency."""
    return lambda f: np.exp(-(np.asarray(f) ** 2) / (2 * deviation**2))


def cosine_frequencies(size: int) -> Float64Array:
    """Return the frequencies of the discrete cosine transform of `size` samples."""
    return np.arange(size) / size


def fourier_frequencies(size: int) -> Float64Array:
    """Return the absolute frequencies of the discrete Fourier transform of `size` samples."""
    return np.asarray(np.abs(fft.fftfreq(size)) * 2)


def apply_window(image: RealArray, window: Window, axis: int) -> FloatArray:
    """Weight the spectrum of an image along an axis.

    The image goes on as its mirror image (by the discrete cosine transform), so that its borders do not wrap.

    Args:
        image: (X, Y, Z).
        window: Factor at each frequency.
        axis: Along which.
    """
    shape = [1] * image.ndim
    shape[axis] = image.shape[axis]
    factors = window(cosine_frequencies(image.shape[axis])).reshape(shape)
    spectrum = fft.dct(np.asarray(image, dtype=np.float32), axis=axis, norm="ortho")
    return np.asarray(
        fft.idct(spectrum * factors.astype(np.float32), axis=axis, norm="ortho"), dtype=np.float32
    )


def crop_band(image: RealArray, sizes: Sequence[int], mirrored: Sequence[bool] = ()) -> FloatArray:
    """Take an image to coarser grids by cropping its spectrum.

    It is the adjoint of `fill_band` times the ratio of the grids, but for the Nyquist frequency of a coarse
    grid of even size along an axis that is not mirrored, which stands for both signs.

    The field of view stays what it was; brightness and the deviation of noise within the band stay too. Voxel
    (0, 0, 0) stays where it is, but along mirrored axes, where the borders of the grids coincide.

    Args:
        image: (X, Y, Z).
        sizes: Voxels along each axis, at most as many as there are.
        mirrored: Whether the image goes on as its mirror image along each axis (`cut_axes` tells where to);
            if empty, it repeats along all, as an image from k-space does.
    """
    return _regrid(image, sizes, mirrored)


def fill_band(image: RealArray, sizes: Sequence[int], mirrored: Sequence[bool] = ()) -> FloatArray:
    """Take an image to finer grids by filling its spectrum with zeros, as a reconstruction does.

    `crop_band` undoes it exactly.

    Args:
        image: (X, Y, Z).
        sizes: Voxels along each axis, at least as many as there are.
        mirrored: As for `crop_band`.
    """
    return _regrid(image, sizes, mirrored)


def cut_axes(image: RealArray, sizes: Sequence[int]) -> tuple[bool, ...]:
    """Tell the axes along which a band-limited image was cut off after its reconstruction.

    An image from k-space repeats: its last plane is as near to the first as neighbours are, in anatomy and,
    since the band correlates it, in noise. Where it was cut it steps, and the step spreads beyond the band;
    where an image that steps was given a band afterwards, it rings, and nothing lies beyond.

    Args:
        image: (X, Y, Z).
        sizes: Voxels of the band along each axis, at most as many as there are.

    Returns:
        For each axis with a narrower band, whether the step is above `STEP` times that of neighbours, and the
            image does not ring.
    """
    return tuple(
        size < image.shape[axis] and _steps(image, axis) and not _repeats(image, axis, size)
        for axis, size in enumerate(sizes)
    )


def _steps(image: RealArray, axis: int) -> bool:
    """Whether the last plane along an axis is farther from the first than neighbours are."""

    def step(one: int, other: int) -> float:
        planes = (image.take(index, axis=axis).astype(np.float64) for index in (one, other))
        return float(np.square(next(planes) - next(planes)).mean())

    return step(0, -1) > STEP * (step(0, 1) + step(-2, -1)) / 2


def _repeats(image: RealArray, axis: int, size: int) -> bool:
    """Whether clearly less lies beyond the band along an axis if the image repeats than if it is mirrored."""
    sparse = tuple(slice(None, None, 1 if other == axis else SPARSE) for other in range(image.ndim))
    lines = np.asarray(image[sparse], dtype=np.float32)

    def beyond(regrid: Callable[[FloatArray, int, int], FloatArray]) -> float:
        within = regrid(regrid(lines, axis, size), axis, lines.shape[axis])
        return float(np.square(lines - within, dtype=np.float64).mean())

    return beyond(_regrid_periodic) < REPEATS**2 * beyond(_regrid_mirrored)


def _regrid(image: RealArray, sizes: Sequence[int], mirrored: Sequence[bool]) -> FloatArray:
    result = np.asarray(image, dtype=np.float32)
    for axis, (size, mirror) in enumerate(zip(sizes, mirrored or [False] * len(sizes), strict=True)):
        if size != result.shape[axis]:
            result = (_regrid_mirrored if mirror else _regrid_periodic)(result, axis, size)
    return np.asarray(result, dtype=np.float32)


def _regrid_mirrored(image: FloatArray, axis: int, size: int) -> FloatArray:
    old = image.shape[axis]
    kept = (slice(None),) * axis + (slice(min(size, old)),)
    spectrum = fft.dct(image, axis=axis, norm="ortho")[kept]
    finer = fft.idct(spectrum, n=size, axis=axis, norm="ortho")
    return np.asarray(finer * np.float32((size / old) ** 0.5), dtype=np.float32)


def _regrid_periodic(image: FloatArray, axis: int, size: int) -> FloatArray:
    old = image.shape[axis]
    spectrum = fft.rfft(image, axis=axis)
    kept = min(size, old) // 2 + 1
    spectrum = spectrum[(slice(None),) * axis + (slice(kept),)]
    if min(size, old) % 2 == 0:
        # The Nyquist frequency of an even grid stands for both signs: they part, or meet.
        end = (slice(None),) * axis + (slice(kept - 1, kept),)
        spectrum = spectrum.copy()
        spectrum[end] *= 0.5 if size > old else 2.0
        if size < old:
            spectrum[end] = spectrum[end].real
    result = fft.irfft(spectrum, n=size, axis=axis)
    result *= np.float32(size / old)
    return np.asarray(result, dtype=np.float32)


def lag_correlations(noise: RealArray) -> tuple[float, ...]:
    """Return the correlation of a stationary field of zero mean with itself one voxel on, by axis."""
    power = float(np.mean(np.square(noise, dtype=np.float64))) or 1.0
    found = []
    for axis in range(noise.ndim):
        size = noise.shape[axis]
        near, far = (noise.take(range(*span), axis=axis) for span in ((0, size - 1), (1, size)))
        found.append(float(np.mean(near * far, dtype=np.float64)) / power if size > 1 else 0.0)
    return tuple(found)


def colour_details(correlations: Sequence[float] | None) -> tuple[float, ...]:
    """Return what a denoiser is told of the colour of the noise; see `Condition.details`.

    Args:
        correlations: Of neighbouring voxels along each axis; None where they are not known.
    """
    if correlations is None:
        return (0.0,) * COLOUR_DETAILS
    return (*(COLOUR_SCALE * value for value in correlations), 1.0)


def outer(factors: Sequence[RealArray]) -> Float64Array:
    """Return the product of one factor for each axis, (X, Y, Z)."""
    return np.asarray(reduce(np.multiply.outer, factors), dtype=np.float64)
