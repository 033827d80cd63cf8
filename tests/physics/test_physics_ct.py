"""Low-dose CT noise: the projector, the variance, the filter, and what the noise looks like in the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from medrestore.physics.ct_noise import (
    WATER,
    Beam,
    Dose,
    along_z,
    bins_for,
    line_integrals,
    low_dose_noise,
    projection_variance,
    projector,
)
from medrestore.physics.ct_reconstruction import KERNELS, Grid, back_project, filter_views

GRID = Grid((72, 72), (3.0, 3.0))
BEAM = Beam(photons=1e5, electronic=0.0, bin_mm=1.5, views=120, bowtie=0.0)
RNG = 7


def cylinder(radii=(90.0, 90.0), slices=8) -> np.ndarray:
    """Water in air, with soft edges."""
    x, y = GRID.axes()
    inside = (x[:, None] / radii[0]) ** 2 + (y / radii[1]) ** 2 < 1
    disc = ndimage.gaussian_filter(inside.astype(np.float32), 0.5)
    return np.repeat(disc[:, :, None], slices, axis=2)


def noise_of(scan, dose=None, seed=RNG):
    return 1000 * low_dose_noise(scan, GRID, dose or Dose(beam=BEAM), np.random.default_rng(seed))


def within(radius, image):
    x, y = GRID.axes()
    return image[np.hypot(x[:, None], y) < radius]


def test_the_projector_measures_mass_and_its_transpose_is_the_adjoint():
    rng = np.random.default_rng(0)
    matrix = projector(Grid((20, 24), (2.0, 3.0)), 9, 41, 2.5)
    image, sinogram = rng.normal(size=20 * 24), rng.normal(size=9 * 41)
    assert np.dot(matrix @ image, sinogram) == pytest.approx(np.dot(image, matrix.T @ sinogram), rel=1e-12)
    masses = (matrix @ image).reshape(9, 41).sum(axis=1) * 2.5
    np.testing.assert_allclose(masses, image.sum() * 6.0)


def test_line_integrals_are_those_of_a_disc():
    bins = bins_for(GRID, BEAM)
    integrals = line_integrals(cylinder(), GRID, BEAM, bins) / WATER
    offset = (np.arange(bins) - (bins - 1) / 2) * BEAM.bin_mm
    chord = 2 * np.sqrt(np.maximum(90**2 - offset**2, 0))
    inner = np.abs(offset) < 75
    assert integrals.shape == (8, BEAM.views, bins)
    assert np.abs(integrals[..., inner] - chord[inner]).max() < 5  # mm of 180


def test_filtered_back_projection_gives_the_scan_back():
    """The filter and the back projection are those of a scanner: they reconstruct, with the right HU."""
    bins = bins_for(GRID, BEAM)
    integrals = line_integrals(cylinder(slices=1), GRID, BEAM, bins).astype(np.float32)
    filtered = filter_views(integrals, KERNELS["soft"], BEAM.bin_mm)
    image = back_project(filtered, GRID, BEAM.bin_mm) / WATER
    assert within(75, image).mean() == pytest.approx(1, abs=0.01)
    assert within(75, image).std() < 0.02
    assert abs(image[:6].mean()) < 0.02  # air stays air


def test_variance_follows_the_dose_and_the_noise_that_is_there():
    paths = np.array([[0.0, 2.0, 4.0]])
    beam = replace(BEAM, electronic=10.0)
    detected = beam.photons * np.exp(-paths)
    np.testing.assert_allclose(
        projection_variance(paths, beam, 0.25), 1 / (0.25 * detected) + (10 / (0.25 * detected)) ** 2
    )
    # Zeng et al. (2015), as it is written there.
    a = 0.25
    written = (1 - a) / a / detected * (1 + (1 + a) / a * beam.electronic**2 / detected)
    np.testing.assert_allclose(projection_variance(paths, beam, a, of=1.0), written)
    assert not projection_variance(paths, beam, 1.0, of=1.0).any()
    starved = projection_variance(np.array([[50.0]]), beam, 1.0)
    assert np.isfinite(starved).all() and starved.max() < 10


def test_noise_goes_with_the_root_of_the_dose_and_has_no_bias():
    full, quarter = noise_of(cylinder()), noise_of(cylinder(), Dose(0.25, beam=BEAM), seed=8)
    inner = within(70, full).std()
    assert within(70, quarter).std() / inner == pytest.approx(2, rel=0.05)
    assert abs(within(70, full).mean()) < 0.05 * inner


def test_noise_is_the_same_for_the_same_seed_only():
    scan = cylinder(slices=2)
    np.testing.assert_array_equal(noise_of(scan), noise_of(scan))
    assert not np.array_equal(noise_of(scan), noise_of(scan, seed=9))


def test_noise_is_stronger_in_the_middle_and_runs_along_thick_directions():
    noise = noise_of(cylinder(slices=24))
    x, y = GRID.axes()
    radius = np.hypot(x[:, None], y)
    assert noise[radius < 30].std() > 1.2 * noise[(radius > 70) & (radius < 85)].std()
    # A wide ellipse: rays along x are starved, and their noise is streaks along x.
    streaks = noise_of(cylinder((100, 50), slices=24))[28:44, 28:44]
    along = np.mean(streaks[1:] * streaks[:-1])
    across = np.mean(streaks[:, 1:] * streaks[:, :-1])
    assert along > across + 0.1 * streaks.var()


def radial_spectrum(kernel: str):
    """Frequencies in cycles/mm, the noise power there in a disc of water, and what it should be like."""
    grid = Grid((64, 64), (0.4, 0.4))
    x, y = grid.axes()
    disc = (np.hypot(x[:, None], y) < 11).astype(np.float32)[:, :, None].repeat(48, axis=2)
    dose = Dose(beam=replace(BEAM, bin_mm=0.4), kernel=KERNELS[kernel])
    noise = low_dose_noise(disc, grid, dose, np.random.default_rng(RNG))[16:48, 16:48]
    power = np.square(np.abs(np.fft.fft2(noise, axes=(0, 1)))).mean(axis=2)
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(32, 0.4),) * 2))
    edges = np.arange(0.1, 0.65, 0.1) if kernel == "soft" else np.arange(0.1, 1.1, 0.1)
    rings = np.digitize(frequency, edges)
    parts = (frequency, power, frequency * KERNELS[kernel].window(frequency) ** 2)
    return tuple(np.array([part[rings == i].mean() for i in range(1, len(edges))]) for part in parts)


@pytest.mark.parametrize("kernel", ["soft", "sharp"])
def test_the_spectrum_is_the_ramp_times_the_square_of_the_kernel(kernel):
    """Riederer et al., Phys Med Biol 23 (1978): NPS(f) is proportional to |f| H(f)^2."""
    _, power, expected = radial_spectrum(kernel)
    ratio = power / expected
    assert np.all(np.abs(ratio / np.median(ratio) - 1) < 0.3), ratio / np.median(ratio)


def test_a_sharp_kernel_has_more_and_finer_noise():
    (at_soft, soft, _), (at_sharp, sharp, _) = radial_spectrum("soft"), radial_spectrum("sharp")
    assert 0.15 < at_soft[soft.argmax()] < 0.4
    assert 0.5 < at_sharp[sharp.argmax()] < 0.9
    assert sharp.sum() > 5 * soft.sum()


def test_slices_are_independent_until_they_are_correlated():
    noise = noise_of(cylinder(slices=24))
    helical = along_z(noise, 0.7)
    correlation = [np.corrcoef(v[..., 1:].ravel(), v[..., :-1].ravel())[0, 1] for v in (noise, helical)]
    assert abs(correlation[0]) < 0.05
    assert correlation[1] > 0.4
    assert helical.std() == pytest.approx(noise.std(), rel=0.05)
    assert along_z(noise, 0) is noise


@pytest.mark.parametrize("slices", [1, 2, 3])
@pytest.mark.parametrize("copies", [1, 4])
def test_slices_of_a_short_stack_keep_their_deviation(slices, copies):
    stack = np.random.default_rng(0).standard_normal((64, 64, slices)).astype(np.float32)
    helical = along_z(np.tile(stack, copies), 0.8, period=slices)
    assert helical.std() == pytest.approx(1, rel=0.05)
