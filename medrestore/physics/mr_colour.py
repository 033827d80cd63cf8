"""Noise of a known level and colour: white noise that passed, with the image, through a window in k-space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from medrestore.physics.kspace import Window, band_limit, fermi, fourier_frequencies, hann, outer
from medrestore.types import FloatArray, RealArray


def everything(frequencies: RealArray) -> RealArray:
    """Let every frequency through."""
    return np.ones_like(frequencies, dtype=np.float64)


@dataclass(frozen=True)
class Colour:
    """How a reconstruction treats k-space.

    Attributes:
        title: Its name in the tables.
        windows: One for each axis.
        band: Part of the frequencies up to Nyquist that was measured, by axis; a window that falls to
            nothing at Nyquist, or nowhere, leaves all of them.
    """

    title: str
    windows: tuple[Window, Window, Window]
    band: tuple[float, float, float] = (1.0, 1.0, 1.0)


def _in_plane(title: str, edge: float) -> Colour:
    window = band_limit(edge)
    return Colour(title, (window, window, everything), (edge, edge, 1.0))


COLOURS = {
    "white": Colour("white", (everything,) * 3),
    "band-0.9": _in_plane("band 0.9 in plane", 0.9),
    "band-0.8": _in_plane("band 0.8 in plane", 0.8),
    "filled-1.5": _in_plane("zero-filled x1.5 in plane", 1 / 1.5),
    "filled-2": _in_plane("zero-filled x2 in plane", 1 / 2),
    "fermi-0.85": Colour("Fermi 0.85, width 0.05", (fermi(0.85, 0.05),) * 3),
    "fermi-0.75": Colour("Fermi 0.75, width 0.07", (fermi(0.75, 0.07),) * 3),
    "hann": Colour("Hann in plane", (hann(), hann(), everything)),
}


@dataclass(frozen=True, eq=False)
class Draw:
    """A scan of one draw of the noise, all (X, Y, Z) float32.

    Attributes:
        noisy: Magnitude of the image and its complex noise.
        clean: The same without the noise, after the window.
        noise: Real part of the noise.
        sigma: Standard deviation of that, in the units of the voxels, where its gain is 1.
    """

    noisy: FloatArray
    clean: FloatArray
    noise: FloatArray
    sigma: float

    def cut(self, where: tuple[slice, ...]) -> Draw:
        """Return a part of it: the window was that of the whole scan."""
        noisy, clean, noise = (
            np.ascontiguousarray(part[where]) for part in (self.noisy, self.clean, self.noise)
        )
        return Draw(noisy, clean, noise, self.sigma)


def simulate(
    clean: FloatArray,
    colour: Colour,
    sigma: float,
    rng: np.random.Generator,
    gain: FloatArray | None = None,
) -> Draw:
    """Reconstruct an image and complex noise through the same window.

    Args:
        clean: (X, Y, Z) voxels without noise.
        colour: The window.
        sigma: Standard deviation of one channel of the noise after the window, in the units of the voxels.
        rng: The white noise depends on it alone: one state draws the same for every colour.
        gain: (X, Y, Z) factor of the noise after the window, as that of parallel imaging; None for 1.
    """
    factors = _factors(clean.shape, colour)
    white = 1j * rng.standard_normal(clean.shape, dtype=np.float32)
    white += rng.standard_normal(clean.shape, dtype=np.float32)
    noise = _windowed(white, factors) * np.float32(sigma / np.sqrt(_mean_power(factors)))
    if gain is not None:
        noise *= gain
    image = _windowed(clean, factors).real
    return Draw(np.abs(image + noise), np.abs(image), np.ascontiguousarray(noise.real), sigma)


def spectrum(shape: tuple[int, ...], colour: Colour, sigma: float) -> FloatArray:
    """Return the power spectrum of the noise, (X, Y, Z): the mean square of its Fourier transform.

    Its sum is that of the squares of the noise times the number of voxels; that of white noise is sigma
    squared times the number of voxels at each frequency. BM4D takes it so.
    """
    power = np.square(_factors(shape, colour), dtype=np.float64)
    return np.asarray(power * (sigma**2 * power.size / power.mean()), dtype=np.float32)


def _factors(shape: tuple[int, ...], colour: Colour) -> FloatArray:
    along = [window(fourier_frequencies(n)) for window, n in zip(colour.windows, shape, strict=True)]
    return outer(along).astype(np.float32)


def _mean_power(factors: FloatArray) -> float:
    return float(np.mean(np.square(factors, dtype=np.float64)))


def _windowed(image: npt.NDArray[Any], factors: FloatArray) -> npt.NDArray[Any]:
    return np.asarray(fft.ifftn(fft.fftn(image) * factors, overwrite_x=True))
