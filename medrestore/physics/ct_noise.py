"""The noise of low-dose CT: quantum and electronic noise of projections, through filtered back projection.

Filtered back projection is linear, so the noise of a scan at a lower dose is the noise of the scan plus the
reconstruction of noise alone, drawn in the projections with the right variance. That variance follows from
the line integrals of the scan, which are smooth enough to be computed on a coarse grid. The beam is parallel:
what a scanner reconstructs from after it has rebinned its fan. Detector blur, crosstalk, beam hardening and
the correlation that rebinning brings are left out.

Sources: Zeng et al., A simple low-dose x-ray CT simulation from high-dose scan, IEEE Trans Nucl Sci 62
(2015); Yu et al., Development and validation of a practical lower-dose-simulation tool for optimizing
computed tomography scan protocols, J Comput Assist Tomogr 36 (2012); Kak and Slaney, Principles of
Computerized Tomographic Imaging (1988), section 3.3, for the filter.

Slices are in units of the attenuation of water (HU / 1000 + 1), axis order (X, Y, Z), one slice for each Z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy import ndimage, sparse

from medrestore.physics.ct_reconstruction import GROUP, KERNELS, Grid, Kernel, back_project, filter_views
from medrestore.types import Float64Array, FloatArray

WATER = 0.0193
"""Linear attenuation of water in 1/mm at 70 keV, about the mean energy of a spectrum of 120 kV."""

COARSE_MM = 4.0
"""Distance of the rays that line integrals are computed along; the pixels are half as large, or the few
that a ray meets would leave a pattern."""

COARSE_VIEWS = 60
"""Views over half a turn that they are computed for; between them they are interpolated."""

FEWEST = 4.0
"""Photons below which a ray counts as this many: a logarithm of fewer is not Gaussian, and no scanner uses it
without smoothing."""


@dataclass(frozen=True)
class Beam:
    """How the projections are measured.

    Attributes:
        photons: Photons that a detector bin gets in air, in one view and slice, at full dose.
        electronic: Standard deviation of the electronic noise, in photons.
        bin_mm: Distance of rays, at the centre of rotation.
        views: Views over half a turn.
        bowtie: 0 for none; 1 for a filter that takes from the outer rays what 100 mm of water would.
        blur: Standard deviation of what mixes neighbouring bins, in bins: crosstalk and rebinning.
    """

    photons: float = 2e5
    electronic: float = 8.0
    bin_mm: float = 0.6
    views: int = 360
    bowtie: float = 0.5
    blur: float = 0.0


@lru_cache(maxsize=8)
def projector(grid: Grid, views: int, bins: int, bin_mm: float) -> sparse.csr_matrix:
    """Return the (views * bins, X * Y) matrix of line integrals in mm; its transpose is the adjoint.

    It is pixel-driven: each pixel gives its area to the two nearest rays, by linear weights, so that every
    view sums to the same mass.
    """
    x, y = (axis.ravel() for axis in np.meshgrid(*grid.axes(), indexing="ij"))
    pixels = np.arange(x.size)
    area = math.prod(grid.pixel_mm) / bin_mm
    rows, columns, weights = [], [], []
    for view in range(views):
        angle = math.pi * view / views
        position = (x * math.cos(angle) + y * math.sin(angle)) / bin_mm + (bins - 1) / 2
        low = np.floor(position).astype(np.int64)
        for ray, weight in ((low, low + 1 - position), (low + 1, position - low)):
            inside = (ray >= 0) & (ray < bins)
            rows.append(view * bins + ray[inside])
            columns.append(pixels[inside])
            weights.append(area * weight[inside])
    entries = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(entries, shape=(views * bins, x.size))


def line_integrals(slices: FloatArray, grid: Grid, beam: Beam, bins: int) -> Float64Array:
    """Return the (Z, views, bins) attenuation along each ray, from a coarse copy of (X, Y, Z) slices."""
    size = [max(round(2 * n * d / COARSE_MM), 2) for n, d in zip(grid.shape, grid.pixel_mm, strict=True)]
    pixel = tuple(n * d / m for n, d, m in zip(grid.shape, grid.pixel_mm, size, strict=True))
    coarse = _mean_pool(np.maximum(slices, 0), size)
    coarse_bins = math.ceil(math.hypot(*(n * d for n, d in zip(size, pixel, strict=True))) / COARSE_MM) + 3
    matrix = projector(Grid((size[0], size[1]), (pixel[0], pixel[1])), COARSE_VIEWS, coarse_bins, COARSE_MM)
    found = (matrix @ coarse.reshape(-1, coarse.shape[2])).T.reshape(-1, COARSE_VIEWS, coarse_bins)
    # The view after the last is the first from the other side.
    found = np.concatenate([found, found[:, :1, ::-1]], axis=1) * WATER
    views = np.arange(beam.views) * COARSE_VIEWS / beam.views
    rays = (np.arange(bins) - (bins - 1) / 2) * beam.bin_mm / COARSE_MM + (coarse_bins - 1) / 2
    along_views = _interpolate(found, np.asarray(views, dtype=np.float64), axis=1)
    return np.maximum(_interpolate(along_views, np.asarray(rays, dtype=np.float64), axis=2), 0)


def _mean_pool(slices: FloatArray, size: list[int]) -> Float64Array:
    """Average (X, Y, Z) slices over the pixels of a coarser grid of the same extent, exactly."""
    pooled = np.asarray(slices, dtype=np.float64)
    for axis, count in enumerate(size):
        planes = np.moveaxis(pooled, axis, 0)
        total = np.concatenate([np.zeros_like(planes[:1]), np.cumsum(planes, axis=0)])
        edges = np.asarray(np.linspace(0, len(planes), count + 1), dtype=np.float64)
        means = np.diff(_interpolate(total, edges, axis=0), axis=0) * count / len(planes)
        pooled = np.moveaxis(means, 0, axis)
    return pooled


def _interpolate(values: Float64Array, at: Float64Array, axis: int) -> Float64Array:
    """Interpolate linearly along an axis; beyond its ends is the end."""
    at = np.clip(at, 0, values.shape[axis] - 1)
    low = np.minimum(at.astype(np.int64), values.shape[axis] - 2)
    shape = [1] * values.ndim
    shape[axis] = -1
    part = (at - low).reshape(shape)
    return np.asarray(values.take(low, axis) * (1 - part) + values.take(low + 1, axis) * part)


def projection_variance(integrals: Float64Array, beam: Beam, dose: float, of: float = 0.0) -> Float64Array:
    """Return the variance of the noise in the logarithm of the projections.

    Zeng et al. (2015): with N photons detected at full dose, 1 / (a N) + s^2 / (a N)^2 at the fraction
    a of it, and what is added to a scan of the dose `of` is the difference of both.

    Args:
        integrals: (..., views, bins) attenuation along each ray.
        beam: How they are measured.
        dose: Dose of the scan, as a fraction of the full one.
        of: Dose of the scan whose noise is there already; 0 for a scan without noise.
    """
    bins = integrals.shape[-1]
    offset = (np.arange(bins) - (bins - 1) / 2) * beam.bin_mm
    # A bowtie takes little at the centre and all it has at 250 mm.
    filtered = beam.bowtie * 100 * WATER * np.minimum((offset / 250) ** 2, 1)
    detected = np.maximum(beam.photons * np.exp(-integrals - filtered), FEWEST / dose)
    variance = 1 / (dose * detected) + (beam.electronic / (dose * detected)) ** 2
    if of:
        variance -= 1 / (of * detected) + (beam.electronic / (of * detected)) ** 2
    return np.asarray(np.maximum(variance, 0))


def bins_for(grid: Grid, beam: Beam) -> int:
    """Return how many detector bins see the whole of a grid."""
    return math.ceil(grid.diagonal / beam.bin_mm) + 4


@dataclass(frozen=True)
class Dose:
    """A dose and what reconstructs it.

    Attributes:
        fraction: Dose of the scan to make, as a fraction of the full one of `beam`.
        of: Dose of the scan that noise is added to; 0 for one without noise.
        beam: How projections are measured.
        kernel: How they are reconstructed.
    """

    fraction: float = 1.0
    of: float = 0.0
    beam: Beam = field(default_factory=Beam)
    kernel: Kernel = KERNELS["soft"]


def low_dose_noise(slices: FloatArray, grid: Grid, dose: Dose, rng: np.random.Generator) -> FloatArray:
    """Draw the noise that a lower dose adds to a scan, independent from slice to slice.

    Args:
        slices: (X, Y, Z) the scan, in units of the attenuation of water.
        grid: Of its slices.
        dose: From which dose to which.
        rng: Source of randomness.

    Returns:
        (X, Y, Z) noise of mean 0, in the same units.
    """
    beam = dose.beam
    bins = bins_for(grid, beam)
    parts = []
    for start in range(0, slices.shape[2], GROUP):
        integrals = line_integrals(slices[:, :, start : start + GROUP], grid, beam, bins)
        deviation = np.sqrt(projection_variance(integrals, beam, dose.fraction, dose.of)).astype(np.float32)
        noise = deviation * rng.standard_normal(deviation.shape, dtype=np.float32)
        if beam.blur:
            noise = ndimage.gaussian_filter1d(noise, beam.blur, axis=2)
        parts.append(back_project(filter_views(noise, dose.kernel, beam.bin_mm), grid, beam.bin_mm))
    return np.concatenate(parts, axis=2) / np.float32(WATER)


def along_z(noise: FloatArray, width: float, period: int | None = None) -> FloatArray:
    """Correlate independent slices (X, Y, Z) as a helical interpolation does; the deviation stays.

    Args:
        noise: Independent from slice to slice.
        width: Standard deviation of the kernel, in slices.
        period: Slices after which the noise repeats; None where it does not.
    """
    if width <= 0:
        return noise
    reach = math.ceil(3 * width)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    # A kernel that is longer than the stack meets slices more than once; their weights add up.
    met = np.bincount(np.arange(weights.size) % min(period or noise.shape[2], noise.shape[2]), weights)
    weights /= np.sqrt((met**2).sum())
    return np.asarray(ndimage.convolve1d(noise, weights, axis=2, mode="wrap"), dtype=np.float32)
