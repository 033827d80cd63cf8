"""Filtered back projection of parallel beams: kernels, pixel grids, filter and back projection.

Source: Kak and Slaney, Principles of Computerized Tomographic Imaging (1988), section 3.3, for the filter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import fft

from medrestore.types import Float64Array, FloatArray

OVERSAMPLED = 4
"""Samples of a filtered view for each detector bin: back projection then takes the nearest one."""

ROWS = 32
"""Rows of pixels that are summed at a time, so that they stay in the cache."""

GROUP = 16
"""Slices that are back-projected together: the geometry is worked out once for all of them."""


@dataclass(frozen=True)
class Kernel:
    """A reconstruction kernel: the ramp times a window of the frequency f in cycles/mm.

    The window is ``(1 + boost (f / cutoff)**2) cos(pi f / (2 cutoff))**power`` below `cutoff`, and 0 above.

    Attributes:
        cutoff: Highest frequency, in cycles/mm.
        power: 2 is the Hann window; less is sharper.
        boost: Emphasis of edges.
    """

    cutoff: float
    power: float = 2.0
    boost: float = 0.0

    def window(self, frequency: Float64Array) -> Float64Array:
        """Return the window at frequencies in cycles/mm."""
        relative = np.minimum(np.abs(frequency) / self.cutoff, 1.0)
        edge = 1 + self.boost * relative**2
        return np.asarray(edge * np.cos(np.pi / 2 * relative) ** self.power)


KERNELS = {
    "soft": Kernel(cutoff=0.75),
    "standard": Kernel(cutoff=0.85, power=1.5, boost=0.6),
    "sharp": Kernel(cutoff=1.15, power=1.0, boost=3.0),
}
"""Kernels like the kernels for soft tissue, for most things, and for lung and bone."""


@dataclass(frozen=True)
class Grid:
    """A square pixel grid of slices, its centre the centre of rotation.

    Attributes:
        shape: (X, Y) pixels.
        pixel_mm: Pixel sizes along X and Y.
    """

    shape: tuple[int, int]
    pixel_mm: tuple[float, float]

    def axes(self) -> tuple[Float64Array, Float64Array]:
        """Return (X,) and (Y,) positions in mm."""
        x, y = (
            np.asarray((np.arange(n) - (n - 1) / 2) * d, dtype=np.float64)
            for n, d in zip(self.shape, self.pixel_mm, strict=True)
        )
        return x, y

    @property
    def diagonal(self) -> float:
        """Length in mm of its diagonal, which every ray through it is within."""
        return math.hypot(*(n * d for n, d in zip(self.shape, self.pixel_mm, strict=True)))


def filter_views(views: FloatArray, kernel: Kernel, bin_mm: float) -> FloatArray:
    """Filter (..., bins) views with the ramp and a kernel; the result has `OVERSAMPLED` samples a bin."""
    bins = views.shape[-1]
    padded = fft.next_fast_len(2 * bins, real=True)
    padded += padded % 2
    spectrum = fft.rfft(views, padded, axis=-1)
    frequency = np.asarray(np.fft.rfftfreq(padded, bin_mm), dtype=np.float64)
    response = (_ramp(padded, bin_mm) * kernel.window(frequency)).astype(np.float32)
    fine = fft.irfft(spectrum * response, padded * OVERSAMPLED, axis=-1)[..., : bins * OVERSAMPLED]
    return np.asarray(fine * OVERSAMPLED, dtype=np.float32)


def _ramp(size: int, bin_mm: float) -> Float64Array:
    """Return the ramp as the transform of its sampled band-limited kernel, which keeps the mean right."""
    n = fft.fftfreq(size, 1 / size)
    odd = np.where(n % 2 != 0, n, np.inf)
    kernel = -1 / (np.pi * odd * bin_mm) ** 2
    kernel[0] = 1 / (4 * bin_mm**2)
    return np.asarray(fft.rfft(kernel).real * bin_mm)


def back_project(filtered: FloatArray, grid: Grid, bin_mm: float) -> FloatArray:
    """Sum (Z, views, samples) filtered views over a grid: (X, Y, Z)."""
    slices, views, samples = filtered.shape
    x, y = (axis.astype(np.float32) * np.float32(OVERSAMPLED / bin_mm) for axis in grid.axes())
    centre = np.float32((samples // OVERSAMPLED - 1) / 2 * OVERSAMPLED + 0.5)
    angles = np.arange(views) * (math.pi / views)
    by_sample = np.ascontiguousarray(filtered.transpose(1, 2, 0))
    image = np.empty((x.size, y.size, slices), dtype=np.float32)
    for start in range(0, x.size, ROWS):
        rows = x[start : start + ROWS]
        total = np.zeros((rows.size * y.size, slices), dtype=np.float32)
        taken = np.empty_like(total)
        for angle, view in zip(angles, by_sample, strict=True):
            along_x, along_y = rows * np.float32(math.cos(angle)), y * np.float32(math.sin(angle))
            index = (along_x[:, None] + (along_y + centre)).astype(np.intp)
            total += view.take(index.ravel(), axis=0, out=taken, mode="clip")
        image[start : start + ROWS] = total.reshape(rows.size, y.size, slices)
    return np.asarray(image * np.float32(math.pi / views))
