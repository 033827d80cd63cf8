"""Noise as a scanner's reconstruction leaves it: one k-space window on image and noise, coils, resampling.

The mean of a scan is the clean image through the same window, so that is what a model is to return: what the
scanner did not measure is not to be invented.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from medrestore.physics.kspace import (
    Window,
    band_limit,
    colour_details,
    cosine_frequencies,
    fermi,
    gaussian,
    hann,
    lag_correlations,
    outer,
)
from medrestore.physics.mr_noise import sum_of_squares_as_rician
from medrestore.training.recipe import DegradationOptions
from medrestore.types import Float64Array, FloatArray

ELLIPTICAL = 0.15
"""Share of windowed patches whose k-space is covered by an ellipse in two axes."""

PARTIAL = 0.15
"""Share of windowed patches of which half of k-space was measured in part, and the rest filled with zeros."""


@dataclass(frozen=True, eq=False)
class KSpace:
    """What is kept of k-space.

    Attributes:
        image: (X, Y, Z) factors of the image, at the frequencies of the discrete cosine transform.
        noise: (X, Y, Z) factors of the complex noise, at the frequencies of the discrete Fourier transform.
    """

    image: Float64Array
    noise: Float64Array

    def scan(self, clean: FloatArray) -> FloatArray:
        """Return the clean image as it is measured."""
        spectrum = fft.dctn(clean, norm="ortho")
        return np.asarray(fft.idctn(spectrum * self.image.astype(np.float32), norm="ortho"), dtype=np.float32)

    def complex_noise(
        self, rng: np.random.Generator, shape: tuple[int, ...] | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Draw its noise, of unit deviation in the real and in the imaginary part.

        Args:
            rng: Source of randomness.
            shape: (X, Y, Z) voxels; None for those of the window, or more along an axis of one.
        """
        shape = self.noise.shape if shape is None else shape
        white = rng.standard_normal((2, *shape), dtype=np.float32)
        filtered = fft.ifftn(fft.fftn(white[0] + 1j * white[1]) * self.noise.astype(np.float32))
        filtered /= np.float32(math.sqrt(float(np.mean(self.noise**2))))
        return np.ascontiguousarray(filtered.real), np.ascontiguousarray(filtered.imag)


def draw_kspace(shape: tuple[int, ...], rng: np.random.Generator) -> KSpace:
    """Draw windows on one to three axes, an ellipse, and partial coverage."""
    chosen = rng.permutation(3)[: rng.integers(1, 4)]
    same = _draw_window(rng) if rng.random() < 0.6 else None
    windows: list[Window] = [np.ones_like] * 3
    for axis in chosen:
        windows[axis] = _draw_window(rng) if same is None else same
    image = outer([window(cosine_frequencies(n)) for window, n in zip(windows, shape, strict=True)])
    signed = [fft.fftfreq(n) * 2 for n in shape]
    noise = outer([window(np.abs(f)) for window, f in zip(windows, signed, strict=True)])
    if rng.random() < ELLIPTICAL:
        left, right = rng.permutation(3)[:2]
        image *= _ellipse([cosine_frequencies(n) for n in shape], left, right)
        noise *= _ellipse([np.abs(f) for f in signed], left, right)
    if rng.random() < PARTIAL:
        axis, edge = int(rng.integers(3)), rng.uniform(0.1, 0.8)
        place = [1, 1, 1]
        place[axis] = -1
        # The real part of the image has half the weight where one half of k-space is missing.
        image *= np.where(cosine_frequencies(shape[axis]) > edge, 0.5, 1.0).reshape(place)
        noise *= (signed[axis] >= -edge).reshape(place)
    return KSpace(image, noise)


def _draw_window(rng: np.random.Generator) -> Window:
    kind = rng.choice(4, p=(0.25, 0.35, 0.25, 0.15))
    if kind == 0:
        return band_limit(float(rng.uniform(0.5, 0.98)))
    if kind == 1:
        return fermi(float(rng.uniform(0.5, 1.0)), float(np.exp(rng.uniform(*np.log((0.02, 0.15))))))
    if kind == 2:
        return hann(float(rng.uniform(0.75, 1.25)), float(rng.uniform(0, 0.4)))
    edge, deviation = band_limit(float(rng.uniform(0.6, 1.0))), gaussian(float(rng.uniform(0.35, 1.0)))
    return lambda f: edge(f) * deviation(f)


def _ellipse(frequencies: list[Float64Array], left: int, right: int) -> Float64Array:
    ones = [np.zeros_like(f) for f in frequencies]
    ones[left], ones[right] = frequencies[left] ** 2, frequencies[right] ** 2
    x, y, z = ones
    return (x[:, None, None] + y[None, :, None] + z[None, None, :] <= 1).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Measured:
    """What a scanner made of a clean patch.

    Attributes:
        clean: The mean of the scan without noise, (X, Y, Z).
        scan: With noise.
        sigma: Deviation of the noise where its gain is 1.
        details: What the model is told of its colour.
    """

    clean: FloatArray
    scan: FloatArray
    sigma: float
    details: tuple[float, ...]


def measure_patch(
    clean: FloatArray, sigma: float, gain: FloatArray, options: DegradationOptions, rng: np.random.Generator
) -> Measured:
    """Scan a clean patch with noise of some colour.

    Args:
        clean: (X, Y, Z).
        sigma: Level of the noise.
        gain: (X, Y, Z) map of it relative to that.
        options: Shares of what can happen.
        rng: Source of randomness.
    """
    white = KSpace(np.ones(clean.shape), np.ones(clean.shape))
    space = draw_kspace(clean.shape, rng) if rng.random() < options.coloured else white
    if space is not white:
        clean = space.scan(clean)
    magnitude = rng.random() < options.rician
    coils = int(rng.integers(2, 9)) if magnitude and rng.random() < options.coils else 1
    fields = [part for _ in range(coils) for part in space.complex_noise(rng)]
    if rng.random() < options.resampled:
        clean, fields = _resampled(clean, fields, rng)
    # What became of the noise is measured on its draw: resampling has no simple spectrum.
    spread = float(np.std(fields[0]))
    colour = lag_correlations(fields[0])
    level = (np.float32(sigma / spread)) * gain
    real = clean + level * fields[0]
    if magnitude:
        clean = np.abs(clean)
        rest = sum(np.square(level * part) for part in fields[1:])
        scan = sum_of_squares_as_rician(np.sqrt(np.square(real) + rest), sigma * gain, coils)
    else:
        scan = real
    if rng.random() < options.quantised:
        step = np.float32(rng.uniform(0.5, 3) * sigma / 2)
        scan = np.round(scan / step) * step
    return Measured(clean, np.asarray(scan, dtype=np.float32), sigma, _told_colour(colour, options, rng))


def _told_colour(
    colour: tuple[float, ...], options: DegradationOptions, rng: np.random.Generator
) -> tuple[float, ...]:
    if rng.random() < options.untold:
        return colour_details(None)
    return colour_details([value + rng.normal(0, options.estimate_error) for value in colour])


def _resampled(
    clean: FloatArray, fields: list[FloatArray], rng: np.random.Generator
) -> tuple[FloatArray, list[FloatArray]]:
    """Move image and noise to a grid a little off, as the correction of distortion does."""
    order = int(rng.choice((1, 3)))
    scale, offset = rng.uniform(0.94, 1.06, 3), rng.uniform(-0.5, 0.5, 3)

    def moved(part: FloatArray) -> FloatArray:
        return np.asarray(
            ndimage.affine_transform(part, scale, offset, order=order, mode="mirror"), dtype=np.float32
        )

    return moved(clean), [moved(part) for part in fields]
