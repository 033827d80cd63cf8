"""Metrics of one image by itself: closed forms, MRIQC's own values, and the cases where there is no value."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from statistics import NormalDist

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import erf

from medrestore.errors import InputError
from medrestore.metrics import (
    Regions,
    air_mask,
    cjv,
    cnr,
    edge_width,
    efc,
    evaluate_without_reference,
    fber,
    find_regions,
    noise_power_spectrum,
    snr,
    snr_dietrich,
    two_classes,
)

WIDTH = 2 * math.sqrt(2 * math.log(2))
"""Full width at half maximum of a Gaussian over its standard deviation."""


def line(*values: float) -> np.ndarray:
    return np.array(values).reshape(-1, 1, 1)


@pytest.fixture(scope="module")
def brain() -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers of two noisy tissues in Rayleigh noise, and where what is: 0 air, 1 and 2 tissues."""
    rng = np.random.default_rng(7)
    labels = np.zeros((36, 32, 28), int)
    labels[8:28, 8:24, 8:14], labels[8:28, 8:24, 14:20] = 1, 2
    mean = np.array([0.0, 400.0, 700.0])[labels]
    return np.rint(np.hypot(mean + rng.normal(0, 30, mean.shape), rng.normal(0, 30, mean.shape))), labels


def test_values_are_those_of_mriqc(brain):
    # What the functions of mriqc 24.0.2 (qc/anatomical.py) return for this array and these masks, called as
    # its interface calls them: with median, population deviation and normalised MAD of each region.
    image, labels = brain
    one, two, air = labels == 1, labels == 2, labels == 0
    assert snr(image, tissue=one) == pytest.approx(13.835643286401261, rel=1e-12)
    assert snr_dietrich(image, tissue=two, air=air) == pytest.approx(23.827679502540963, rel=1e-6)
    assert cnr(image, first=one, second=two, air=air) == pytest.approx(6.470422008718558, rel=1e-12)
    assert cjv(image, first=one, second=two) == pytest.approx(0.19338289806594808, rel=1e-12)
    assert efc(image, mask=None) == pytest.approx(0.473456724, abs=1e-9)
    assert efc(image, mask=~air) == pytest.approx(0.963408781, abs=1e-9)
    assert fber(image, head=~air, air=air) == pytest.approx(246.133061224, abs=1e-9)


def test_values_by_hand():
    image = line(1, 2, 6, 10, 12, 17, 0, 1, 4, 7)
    first, second, air = (
        np.isin(np.arange(10), where).reshape(-1, 1, 1) for where in ([0, 1, 2], [3, 4, 5], [6, 7, 8, 9])
    )
    mad = 1 / NormalDist().inv_cdf(0.75)
    assert snr(image, tissue=first) == pytest.approx(2 / math.sqrt(7))  # 1, 2, 6: mean 3, squares 4 + 1 + 9
    # Deviations from the medians 2, 12 and 2.5: 1 0 4, 2 0 5 and 2.5 1.5 1.5 4.5.
    assert cjv(image, first=first, second=second) == pytest.approx(mad * (1 + 2) / 10)
    assert snr_dietrich(image, tissue=second, air=air) == pytest.approx(
        math.sqrt(2 - math.pi / 2) * 12 / (mad * 2), rel=1e-9
    )
    variances = 14 / 3 + 26 / 3 + 30 / 4
    assert cnr(image, first=first, second=second, air=air) == pytest.approx(10 / math.sqrt(variances))
    # Squares in the head: 1 4 36 100 144 289, in air: 0 1 16 49.
    assert fber(image, head=first | second, air=air) == pytest.approx(68 / 8.5)


def test_efc_of_an_even_image_is_one_and_of_one_voxel_zero():
    assert efc(np.full((5, 4, 3), 8, dtype=np.uint8), mask=None) == pytest.approx(1)
    single = np.zeros((5, 4, 3))
    single[1, 2, 0] = 9
    assert efc(single, mask=None) == 0
    half = np.zeros((4, 4, 4))
    half[:2] = 3  # n of N voxels: sqrt(n / N) ln(n) / ln(N)
    assert efc(half, mask=None) == pytest.approx(math.sqrt(0.5) * math.log(32) / math.log(64))


def test_fber_of_two_levels_is_the_square_of_their_ratio():
    image = np.full((6, 6, 6), 20, dtype=np.int16)
    head = np.zeros(image.shape, dtype=bool)
    head[2:4] = True
    image[head] = 3000  # its square is no int16
    assert fber(image, head=head, air=~head) == 150**2


@pytest.mark.parametrize("scale", [1e-6, 250.0])
def test_no_metric_depends_on_the_scale(brain, scale):
    image, labels = brain
    regions = Regions(
        head=labels > 0, air=labels == 0, first=labels == 1, second=labels == 2, tissues="given"
    )
    one, other = (evaluate_without_reference(array, (1, 1, 1), regions) for array in (image, image * scale))
    for name, metric in one.items():
        assert metric.value is not None, metric.reason
        assert other[name].value == pytest.approx(metric.value, rel=1e-4), name


def test_contrast_does_not_depend_on_the_zero_and_signal_needs_one(brain):
    image, labels = brain
    one, two, air = labels == 1, labels == 2, labels == 0
    shifted = image - 1000
    assert cnr(shifted, first=one, second=two, air=air) == cnr(image, first=one, second=two, air=air)
    assert cjv(shifted, first=one, second=two) == cjv(image, first=one, second=two)
    for compute in (
        lambda: snr(shifted, tissue=one),
        lambda: snr_dietrich(shifted, tissue=one, air=air),
        lambda: efc(shifted, mask=None),
        lambda: fber(shifted, head=~air, air=air),
    ):
        with pytest.raises(InputError, match="voxels are negative"):
            compute()


def test_what_cannot_be_had_says_why():
    image, all_of_it = np.full((4, 4, 4), 0.1), np.ones((4, 4, 4), dtype=bool)
    half = np.arange(64).reshape(4, 4, 4) < 32
    zero = np.zeros((4, 4, 4))
    for compute, reason in (
        (lambda: snr(image, tissue=all_of_it), "one value"),
        (lambda: snr_dietrich(image, tissue=half, air=~half), "noise was removed"),
        (lambda: cnr(image, first=half, second=half, air=~half), "deviation"),
        (lambda: cjv(image, first=half, second=~half), "same median"),
        (lambda: efc(zero, mask=None), "not 0"),
        (lambda: fber(zero, head=half, air=~half), "half of the air is 0"),
        (lambda: snr(image, tissue=~all_of_it), "tissue: the mask selects no voxel"),
        (lambda: snr(image[0], tissue=all_of_it[0]), "a volume"),
        (lambda: edge_width(image, (1, 1, 1), mask=all_of_it), "0 edges"),
        (lambda: edge_width(image, (1, 1, 0), mask=all_of_it), "sizes of voxels in mm"),
        (lambda: noise_power_spectrum(image, (1, 1, 1), mask=half), "no cube of 4 x 4 x 4"),
        (lambda: noise_power_spectrum(image, (1, 1, 1), mask=all_of_it).mean_frequency, "no noise"),
    ):
        with pytest.raises(InputError, match=reason):
            compute()


# Sharpness


def ball(deviation: float, spacing: tuple[float, ...] = (1, 1, 1), size: int = 56) -> np.ndarray:
    """Return a ball of 100 whose surface is a step blurred by a Gaussian of `deviation` mm."""
    centred = [(np.arange(size) - (size / 2 - 0.7)) * mm for mm in spacing]
    radius = np.sqrt(sum(np.square(axis) for axis in np.meshgrid(*centred, indexing="ij")))
    return 50 * (1 - erf((radius - size * 0.3) / (deviation * math.sqrt(2))))


@pytest.mark.parametrize("deviation", [0.8, 1.0, 1.5, 2.5])
def test_width_of_a_blurred_step(deviation):
    image = ball(deviation)
    width = edge_width(image, (1, 1, 1), mask=np.ones(image.shape, dtype=bool))
    assert width == pytest.approx(WIDTH * deviation, rel=0.05)


def test_width_is_in_mm_along_every_axis():
    image = ball(1.5, (1, 0.8, 1.4))
    width = edge_width(image, (1, 0.8, 1.4), mask=np.ones(image.shape, dtype=bool))
    assert width == pytest.approx(WIDTH * 1.5, rel=0.05)
    twice = edge_width(image, (2, 1.6, 2.8), mask=np.ones(image.shape, dtype=bool))
    assert twice == pytest.approx(2 * width, rel=1e-3)


def test_a_single_slice_is_measured_in_its_plane():
    image = ball(1.5, (1, 1, 1))[:, :, 28:29]
    width = edge_width(image, (1, 1, 6), mask=np.ones(image.shape, dtype=bool))
    assert width == pytest.approx(WIDTH * 1.5, rel=0.1)


def test_noise_does_not_change_the_width_across_given_edges():
    clean = ball(1.5)
    image = clean + np.random.default_rng(0).normal(0, 10, clean.shape)
    inside = np.ones(clean.shape, dtype=bool)
    width = edge_width(image, (1, 1, 1), mask=inside, guide=clean)
    assert width == pytest.approx(WIDTH * 1.5, rel=0.05)
    # Found in the noise, the edges lie where it is steep by chance: this is what the guide is for.
    assert edge_width(image, (1, 1, 1), mask=inside) < 0.97 * width


def test_blur_widens_and_the_mask_chooses():
    image = ball(1.0)
    image[:28] = ndimage.gaussian_filter(image, 1.5)[:28]
    half = np.zeros(image.shape, dtype=bool)
    half[32:] = True
    assert edge_width(image, (1, 1, 1), mask=half) == pytest.approx(WIDTH, rel=0.05)
    blurred = edge_width(image, (1, 1, 1), mask=np.roll(half, -32, axis=0))
    assert blurred == pytest.approx(WIDTH * math.hypot(1, 1.5), rel=0.05)


# Noise power


@pytest.fixture(scope="module")
def white() -> np.ndarray:
    return np.random.default_rng(3).normal(50, 3, (48, 48, 48))


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1, 0.5, 2), (0.5, 0.5, 5)])
def test_white_noise_is_flat_at_its_variance_times_the_volume_of_a_voxel(white, spacing):
    found = noise_power_spectrum(white, spacing, mask=np.ones(white.shape, dtype=bool))
    assert found.cubes == 5**3
    level = found.power / (9 * math.prod(spacing))
    np.testing.assert_allclose(level[1:], 1, rtol=0.06)
    assert 0.8 < level[0] < 1.02
    assert len(found.frequency) == 8
    assert found.frequency.max() <= 1 / (2 * min(spacing))
    assert found.mean_frequency == pytest.approx(found.frequency.mean(), rel=0.03)


def test_filtered_noise_has_the_shape_of_the_filter(white):
    kernel = np.array([0.25, 0.5, 0.25])
    image = white
    for axis in range(3):
        image = ndimage.convolve1d(image, kernel, axis=axis, mode="wrap")
    found = noise_power_spectrum(image, (1, 1, 1), mask=np.ones(white.shape, dtype=bool))
    # In a cube of 16 voxels, a lag of k voxels occurs 16 - k times: what its DFT knows of the correlation.
    lags = np.arange(-2, 3)
    seen = np.convolve(kernel, kernel) * (1 - np.abs(lags) / 16)
    axis = np.cos(2 * np.pi * np.outer(np.fft.fftfreq(16), lags)) @ seen
    transfer = axis[:, None, None] * axis[:, None] * axis
    radius = np.sqrt(sum(one**2 for one in np.meshgrid(*[np.fft.fftfreq(16)] * 3, indexing="ij")))
    expected = [9 * transfer[np.rint(16 * radius) == ring].mean() for ring in range(2, 8)]
    np.testing.assert_allclose(found.power[1:7], expected, rtol=0.1)
    assert (np.diff(found.power) < 0).all()
    assert found.mean_frequency < 0.7 * found.frequency.mean()


def test_mean_and_trend_of_a_region_are_no_noise(white):
    inside = np.zeros(white.shape, dtype=bool)
    inside[8:40, 8:40, 8:40] = True
    ramp = white + sum(5 * axis for axis in np.indices(white.shape))
    ramp[~inside] = 1e4  # nor is what is outside
    expected = noise_power_spectrum(white, (1, 1, 1), mask=inside)
    np.testing.assert_allclose(noise_power_spectrum(ramp, (1, 1, 1), mask=inside).power, expected.power)


def test_a_region_of_one_cube_is_found_wherever_it_lies(white):
    inside = np.zeros(white.shape, dtype=bool)
    inside[13:29, 31:47, 0:16] = True
    found = noise_power_spectrum(white, (1, 1, 1), mask=inside)
    alone = white[inside].reshape(16, 16, 16)
    assert found.cubes == 1
    np.testing.assert_array_equal(
        found.power, noise_power_spectrum(alone, (1, 1, 1), mask=np.ones(alone.shape)).power
    )
    inside[13, 31, 0] = False
    with pytest.raises(InputError, match="no cube of 16 x 16 x 16"):
        noise_power_spectrum(white, (1, 1, 1), mask=inside)


def test_a_single_slice_has_the_spectrum_of_its_plane(white):
    slice_ = white[:, :, :1]
    found = noise_power_spectrum(slice_, (1, 1, 5), mask=np.ones(slice_.shape, dtype=bool))
    np.testing.assert_allclose(found.power[1:] / (9 * 5), 1, rtol=0.25)
    assert found.frequency.max() <= 0.5


# Regions


def test_air_is_measured_and_away_from_the_head():
    rng = np.random.default_rng(1)
    image = np.hypot(*rng.normal(0, 5, (2, 40, 40, 40)))
    head = np.zeros(image.shape, dtype=bool)
    head[15:25, 15:25, 15:25] = True
    image[:, :, 30:] = 0  # defaced
    air = air_mask(image, head=head)
    assert not air[:, :, 31:].any()
    assert not air[12:28, 20, 20].any()
    assert air[:11, :, :29].all()
    assert not air_mask(np.zeros(image.shape), head=head).any()


def test_two_classes_part_tissues_in_noise_without_their_border(brain):
    image, labels = brain
    darker, brighter = two_classes(image, head=labels > 0)
    assert (labels[darker] == 1).all()
    assert (labels[brighter] == 2).all()
    assert not darker[:, :, 13].any()
    with pytest.raises(InputError, match="one value"):
        two_classes(np.ones(image.shape), head=labels > 0)


def test_evaluation_agrees_with_the_single_functions_and_is_json(brain):
    image, labels = brain
    regions = find_regions(image, acquired=image, head=labels > 0)
    found = evaluate_without_reference(image, (1, 1, 1), regions)
    assert found["snr_2"].value == snr(image, tissue=regions.second)
    assert found["snrd_1"].value == snr_dietrich(image, tissue=regions.first, air=regions.air)
    assert found["cnr"].value == cnr(image, first=regions.first, second=regions.second, air=regions.air)
    assert found["edge_width"].value == edge_width(image, (1, 1, 1), mask=regions.head)
    assert "no segmentation of tissues" in found["cnr"].definition
    assert f"{np.count_nonzero(regions.air)} voxels of air" in found["fber"].definition
    json.dumps({name: asdict(value) for name, value in found.items()}, allow_nan=False)


def test_without_air_or_classes_the_rest_has_values():
    image = np.full((30, 30, 30), 4.0)
    image[5:25, 5:25, 5:25] = 10.0
    whole = np.ones(image.shape, dtype=bool)
    found = evaluate_without_reference(image, (1, 1, 1), find_regions(image, acquired=image, head=whole))
    assert found["fber"].reason == "no voxel outside the head was measured"
    assert found["cnr"].reason == found["fber"].reason
    assert found["efc"].value is not None
    assert found["edge_width"].value is not None
    cube = image == 10.0
    found = evaluate_without_reference(
        image, (1, 1, 1), find_regions(image * cube, acquired=image, head=cube)
    )
    assert found["snr_1"].value is None
