"""Windows and grids of k-space: adjoints, round trips, what is kept; and the sum of squares of coils."""

from __future__ import annotations

import numpy as np
import pytest

from medrestore.physics.kspace import (
    COLOUR_SCALE,
    apply_window,
    band_limit,
    colour_details,
    cosine_frequencies,
    crop_band,
    cut_axes,
    fermi,
    fill_band,
    fourier_frequencies,
    gaussian,
    hann,
    lag_correlations,
    outer,
)
from medrestore.physics.mr_noise import sum_of_squares_as_rician

WINDOWS = {
    "band_limit": band_limit(0.6),
    "fermi": fermi(0.7, 0.07),
    "hann": hann(),
    "hamming": hann(floor=0.08),
    "gaussian": gaussian(0.5),
}
GRIDS = [
    ((16, 12, 20), (24, 18, 33)),
    ((15, 11, 9), (24, 17, 9)),
    ((16, 9, 1), (17, 10, 1)),
    ((8, 7, 6), (9, 8, 12)),
]
"""Coarse and fine: even to even, even to odd, odd to even, odd to odd, and axes that stay."""


def voxels(shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def dot(a, b) -> float:
    return float(np.sum(a.astype(np.float64) * b))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_a_window_is_its_own_adjoint(window, axis):
    a, b = voxels((12, 15, 10), 1), voxels((12, 15, 10), 2)
    forth, back = dot(apply_window(a, window, axis), b), dot(a, apply_window(b, window, axis))
    assert forth == pytest.approx(back, abs=1e-3)
    assert abs(forth) > 1


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_a_window_keeps_brightness_and_adds_no_power(window):
    at_rest = float(window(np.zeros(1))[0])
    assert at_rest == pytest.approx(1, abs=1e-4)
    assert apply_window(np.full((9, 8, 7), 5.0), window, 0) == pytest.approx(5 * at_rest, rel=1e-5)
    image = voxels((16, 16, 16))
    assert np.square(apply_window(image, window, 1)).sum() < np.square(image).sum()


def test_a_band_limit_is_a_projection_that_keeps_what_is_within():
    once = apply_window(voxels((20, 16, 12)), band_limit(0.5), 0)
    assert apply_window(once, band_limit(0.5), 0) == pytest.approx(once, abs=1e-5)
    assert apply_window(once, band_limit(1.0), 0) == pytest.approx(once, abs=1e-5)


def test_windows_are_what_they_are_called():
    f = np.linspace(0, 1, 11)
    assert fermi(0.5, 0.1)(np.array([0.5]))[0] == pytest.approx(0.5)
    assert hann()(f) == pytest.approx((1 + np.cos(np.pi * f)) / 2)
    assert hann(floor=0.08)(f) == pytest.approx(0.54 + 0.46 * np.cos(np.pi * f))
    assert hann(0.5, 0.2)(np.array([0.5, 0.9])) == pytest.approx(0.2)
    assert gaussian(0.5)(np.array([0.5]))[0] == pytest.approx(np.exp(-0.5))


def test_frequencies_are_fractions_of_nyquist():
    assert cosine_frequencies(4).tolist() == [0, 0.25, 0.5, 0.75]
    assert fourier_frequencies(4).tolist() == [0, 0.5, 1, 0.5]
    assert fourier_frequencies(5) == pytest.approx([0, 0.4, 0.8, 0.8, 0.4])


PERIODIC, MIRRORED, BOTH = [False] * 3, [True] * 3, [True, False, True]


@pytest.mark.parametrize("mirrored", [PERIODIC, MIRRORED, BOTH], ids=["periodic", "mirrored", "both"])
@pytest.mark.parametrize(("coarse", "fine"), GRIDS)
def test_what_was_filled_is_cropped_to_what_it_was(coarse, fine, mirrored):
    image = voxels(coarse)
    filled = fill_band(image, fine, mirrored)
    assert filled.shape == fine
    assert crop_band(filled, coarse, mirrored) == pytest.approx(image, abs=1e-5)


@pytest.mark.parametrize(("coarse", "fine"), GRIDS)
def test_to_crop_a_mirrored_image_is_the_adjoint_of_to_fill_it_but_for_the_grids(coarse, fine):
    image, other = voxels(coarse, 1), voxels(fine, 2)
    forth, back = dot(fill_band(image, fine, MIRRORED), other), dot(image, crop_band(other, coarse, MIRRORED))
    assert forth == pytest.approx(back * np.prod(fine) / np.prod(coarse), abs=1e-2)
    assert abs(forth) > 1


def test_an_image_that_was_cut_after_its_reconstruction_is_told_from_a_whole_one():
    wave = 100 * np.sin(2 * np.pi * np.arange(32) / 32)[:, None, None] + voxels((32, 32, 32))
    whole = fill_band(np.float32(wave), (64, 64, 32))
    assert cut_axes(whole, (32, 32, 32)) == (False, False, False)
    assert cut_axes(whole[12:40], (14, 32, 32)) == (True, False, False)


def test_an_image_that_steps_but_rings_repeats():
    ramp = np.linspace(0, 100, 64, dtype=np.float32)[:, None, None] + voxels((64, 16, 16))
    ringing = fill_band(crop_band(ramp, (32, 16, 16)), (64, 16, 16))
    assert cut_axes(ringing, (32, 16, 16)) == (False, False, False)
    assert cut_axes(ramp, (32, 16, 16)) == (True, False, False)


@pytest.mark.parametrize(("coarse", "fine"), GRIDS)
def test_to_crop_is_the_adjoint_of_to_fill_but_for_the_grids(coarse, fine):
    image, other = voxels(coarse, 1), voxels(fine, 2)
    for axis, size in enumerate(coarse):
        # At the Nyquist frequency of an even grid, to undo is twice the adjoint: it is left out.
        image = fill_band(crop_band(image, _odd(coarse, axis)), coarse) if size % 2 == 0 else image
    forth, back = dot(fill_band(image, fine), other), dot(image, crop_band(other, coarse))
    assert forth == pytest.approx(back * np.prod(fine) / np.prod(coarse), abs=1e-2)
    assert abs(forth) > 1


def _odd(shape, axis):
    return tuple(n - (index == axis) for index, n in enumerate(shape))


@pytest.mark.parametrize("mirrored", [PERIODIC, MIRRORED], ids=["periodic", "mirrored"])
@pytest.mark.parametrize(("coarse", "fine"), GRIDS)
def test_brightness_stays(coarse, fine, mirrored):
    assert fill_band(np.full(coarse, 7.0), fine, mirrored) == pytest.approx(7, rel=1e-5)
    assert crop_band(np.full(fine, 7.0), coarse, mirrored) == pytest.approx(7, rel=1e-5)
    image = voxels(fine) + 3
    assert crop_band(image, coarse, mirrored).mean() == pytest.approx(image.mean(), rel=1e-4)


def test_the_first_voxel_stays_where_it_is_and_the_field_of_view_what_it_was():
    wave = np.cos(2 * np.pi * 3 * np.arange(20) / 20)[:, None, None].astype(np.float32)
    finer = np.cos(2 * np.pi * 3 * np.arange(33) / 33)[:, None, None]
    assert fill_band(wave, (33, 1, 1)) == pytest.approx(finer, abs=1e-5)


def test_noise_within_the_band_keeps_its_deviation():
    coarse = voxels((40, 40, 40))
    assert fill_band(coarse, (60, 60, 60)).std() == pytest.approx(coarse.std(), rel=0.02)


def test_a_grid_that_stays_is_left_alone():
    image = voxels((6, 7, 8))
    assert np.array_equal(crop_band(image, (6, 7, 8)), image)


def test_white_noise_knows_nothing_of_its_neighbours():
    noise = voxels((40, 40, 40))
    assert lag_correlations(noise) == pytest.approx((0, 0, 0), abs=0.02)


def test_correlations_are_those_of_the_window_along_its_axis():
    noise = apply_window(voxels((96, 32, 32)), hann(), 0)
    f = np.linspace(0, 1, 1001)
    power = hann()(f) ** 2
    expected = float(np.sum(power * np.cos(np.pi * f)) / power.sum())
    assert lag_correlations(noise) == pytest.approx((expected, 0, 0), abs=0.03)


def test_correlations_of_nothing_are_none():
    assert lag_correlations(np.zeros((4, 4, 4))) == (0, 0, 0)
    assert lag_correlations(voxels((20, 1, 1)))[1:] == (0, 0)


def test_a_denoiser_is_told_whether_the_colour_is_known():
    assert colour_details(None) == (0, 0, 0, 0)
    assert colour_details((0.0, 0.0, 0.0)) == (0, 0, 0, 1)
    assert colour_details((0.1, 0.2, 0.3)) == pytest.approx(
        (COLOUR_SCALE * 0.1, COLOUR_SCALE * 0.2, COLOUR_SCALE * 0.3, 1)
    )


def test_the_outer_product_has_a_factor_for_each_axis():
    factors = [np.array([1.0, 2.0]), np.array([3.0]), np.array([5.0, 7.0])]
    assert outer(factors)[1, 0, 1] == 2 * 3 * 7
    assert outer(factors).shape == (2, 1, 2)


def magnitude(truth: float, coils: int, count: int = 200_000) -> np.ndarray:
    """Sums of squares over coils of unit noise; the signal is shared evenly."""
    rng = np.random.default_rng(coils)
    parts = rng.standard_normal((coils, 2, count))
    parts[:, 0] += truth / coils**0.5
    return np.sqrt(np.square(parts).sum(axis=(0, 1)))


@pytest.mark.parametrize("coils", [2, 4, 8])
def test_a_sum_of_squares_gets_the_second_moment_of_a_rician(coils):
    truth = 12.0
    taken = sum_of_squares_as_rician(magnitude(truth, coils), 1.0, coils)
    assert np.square(taken, dtype=np.float64).mean() == pytest.approx(truth**2 + 2, rel=3e-3)
    assert taken.std() == pytest.approx(1, rel=0.03)


def test_the_level_may_vary_over_the_scan():
    bright = magnitude(12.0, 4, 1000)
    levels = np.linspace(0.5, 2, 1000).astype(np.float32)
    assert sum_of_squares_as_rician(levels * bright, levels, 4) == pytest.approx(
        levels * sum_of_squares_as_rician(bright, 1.0, 4), rel=1e-4
    )


def test_one_coil_is_left_alone_and_nothing_becomes_negative():
    values = np.array([0.0, 0.5, 3.0], dtype=np.float32)
    assert np.array_equal(sum_of_squares_as_rician(values, 1.0, 1), values)
    assert sum_of_squares_as_rician(values, 1.0, 2).tolist() == pytest.approx([0, 0, 7**0.5])
