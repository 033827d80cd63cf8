"""The noise level of CT: right on simulated doses, and sane where there is nothing to read."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medrestore.noise.ct import commonest, estimate_ct_noise, without_padding
from medrestore.noise.level import noise_level
from medrestore.physics.ct_noise import Beam, Dose, low_dose_noise
from medrestore.physics.ct_reconstruction import KERNELS, Grid
from medrestore.plugin import Intensity

GRID = Grid((72, 72), (3.0, 3.0))
BEAM = Beam(photons=3e4, electronic=5.0, bin_mm=1.5, views=120)


def body(kind: str, slices: int = 12) -> np.ndarray:
    """A section in HU: a chest with lungs, an abdomen with organs, a head in its skull."""
    x, y = (axis for axis in np.meshgrid(*GRID.axes(), indexing="ij"))

    def ellipse(cx, cy, rx, ry):
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1

    plane = np.full(x.shape, -1000.0)
    if kind == "head":
        for radius, value in ((95, 40), (90, -95), (86, 1100), (80, 34)):
            plane[ellipse(0, 0, radius * 0.85, radius)] = value
        plane[ellipse(0, 10, 10, 25)] = 6
    else:
        for inset, value in ((0, 40), (3, -100), (14, 55)):
            plane[ellipse(0, 0, 104 - inset, 80 - inset)] = value
        if kind == "chest":
            for side in (-1, 1):
                plane[ellipse(side * 42, 8, 32, 50)] = -850
            plane[ellipse(10, 20, 30, 26)] = 60
        else:
            plane[ellipse(0, 5, 80, 50)] = -105
            plane[ellipse(-35, 10, 40, 38)] = 110
            plane[ellipse(45, 0, 20, 25)] = 48
        plane[ellipse(0, -45, 18, 14)] = 500
    return ndimage.gaussian_filter(plane, 0.6)[:, :, None].repeat(slices, axis=2).astype(np.float32)


def simulated(kind: str, kernel: str, level: float) -> tuple[np.ndarray, np.ndarray]:
    """A section with noise of about `level` HU, and the noise."""
    clean = body(kind)
    rng = np.random.default_rng(3)
    noise = 1000 * low_dose_noise(clean / 1000 + 1, GRID, Dose(beam=BEAM, kernel=KERNELS[kernel]), rng)
    noise *= level / noise[(clean > 0) & (clean < 120)].std()
    return clean + noise, noise


@pytest.mark.parametrize("level", [12.0, 40.0, 120.0])
@pytest.mark.parametrize("kernel", ["soft", "sharp"])
@pytest.mark.parametrize("kind", ["chest", "abdomen", "head"])
def test_the_level_in_soft_tissue_is_found(kind, kernel, level):
    scan, noise = simulated(kind, kernel, level)
    tissue = ndimage.binary_erosion((body(kind) > 20) & (body(kind) < 120), np.ones((3, 3, 1)))
    assert estimate_ct_noise(scan) == pytest.approx(noise[tissue].std(), rel=0.12)


def test_without_wide_soft_tissue_the_estimate_is_of_the_right_order():
    scan, _ = simulated("chest", "soft", 20.0)
    scan[42:50, 33:53] -= 2 * 60  # fat where the heart was: all that is left is a thin wall
    assert 10 < estimate_ct_noise(scan) < 60


def test_thick_slices_and_few_of_them_will_do():
    scan, noise = simulated("abdomen", "soft", 30.0)
    thick = scan.reshape(72, 72, 3, 4).mean(axis=3)
    tissue = (body("abdomen", 3) > 20) & (body("abdomen", 3) < 120)
    expected = noise.reshape(72, 72, 3, 4).mean(axis=3)[tissue].std()
    assert estimate_ct_noise(thick) == pytest.approx(expected, rel=0.15)
    assert estimate_ct_noise(thick[:, :, :1]) == pytest.approx(expected, rel=0.25)


def test_padding_changes_nothing():
    scan, _ = simulated("chest", "soft", 25.0)
    padded = np.pad(scan, ((20, 20), (20, 20), (0, 0)), constant_values=-3024)
    assert estimate_ct_noise(padded) == pytest.approx(estimate_ct_noise(scan), rel=0.03)
    assert without_padding(padded)[0, 0, 0] == -1000
    assert without_padding(padded).min() >= -1024


@pytest.mark.parametrize("outside", [-1024, -1100, -2000, -3024])
def test_what_lies_around_a_lung_is_not_taken_for_calm(outside):
    scan = np.full((64, 64, 8), outside, dtype=np.float32)
    lung = np.hypot(*np.meshgrid(*(np.arange(64) - 31.5,) * 2)) < 24
    scan[lung] = np.random.default_rng(0).normal(-850, 30, (lung.sum(), 8))
    assert estimate_ct_noise(scan) == pytest.approx(30, rel=0.1)


@pytest.mark.parametrize("mean", [-1000.0, -300.0, 40.0, 900.0])
def test_pure_noise_is_measured_whatever_its_mean(mean):
    noise = np.random.default_rng(0).normal(mean, 8, (40, 40, 10)).astype(np.float32)
    assert estimate_ct_noise(noise) == pytest.approx(8, rel=0.06)


def test_where_there_is_nothing_to_read():
    assert estimate_ct_noise(np.full((20, 20, 4), -1000.0)) == 0
    assert estimate_ct_noise(np.full((20, 20, 4), -1024.0)) == 0
    assert estimate_ct_noise(np.full((3, 2, 1), 40.0)) == 0
    tiny = np.random.default_rng(0).normal(40, 10, (4, 5, 6)).astype(np.float32)
    assert 5 < estimate_ct_noise(tiny) < 15


def test_a_slope_and_the_smoothest_scan_are_no_noise():
    x, y, _ = np.meshgrid(*(np.arange(40.0),) * 3, indexing="ij")
    assert estimate_ct_noise((20 + x + 0.5 * y).astype(np.float32)) < 0.05


def test_the_mode_is_that_of_the_majority():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(10, 1, 6000), rng.uniform(20, 90, 3000)]).astype(np.float32)
    assert commonest(values) == pytest.approx(10, rel=0.05)
    assert commonest(np.array([3.0], dtype=np.float32)) == pytest.approx(3, rel=0.02)


def test_a_model_in_units_of_attenuation_gets_this_estimate():
    scan, _ = simulated("abdomen", "soft", 30.0)
    found = noise_level(scan, "auto", 1000.0, Intensity.ATTENUATION)
    assert found.method == "local deviation in soft tissue"
    assert found.sigma == pytest.approx(estimate_ct_noise(scan), rel=1e-3)
    assert found.fraction == pytest.approx(found.sigma / 1000)
    assert noise_level(scan, "2%", 1000.0, Intensity.ATTENUATION).sigma == 20


def test_edges_are_no_noise_where_there_is_no_soft_tissue():
    """A part of a scan beside the body, with a table in it: what is no air is edges alone."""
    part = np.full((64, 64, 24), -940, dtype=np.float32)
    part[:, 20:24] = -300
    part[28:30] = 200
    for level in (10.0, 25.0):
        noisy = part + np.random.default_rng(2).normal(0, level, part.shape).astype(np.float32)
        assert estimate_ct_noise(noisy) == pytest.approx(level, rel=0.15)
