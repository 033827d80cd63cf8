"""The statistics of a residual: each sees what it is for, and noise alone shows nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medrestore.engine.evidence import slabs as slabbed
from medrestore.engine.evidence.consistency import LEAST_TISSUE, ExpectedNoise, consistency

SHAPE = (40, 36, 32)
SIGMA = 5.0


def head() -> np.ndarray:
    """Smooth tissue all over, with as much detail as a scan has."""
    rng = np.random.default_rng(1)
    coarse, fine = (ndimage.gaussian_filter(rng.normal(size=SHAPE), width) for width in (6, 1.2))
    return (100 + 20 * coarse / coarse.std() + 8 * fine / fine.std()).astype(np.float32)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, SIGMA, SHAPE).astype(np.float32)


def found(result: np.ndarray, scan: np.ndarray | None = None, expected: ExpectedNoise | None = None):
    scan = head() + noise() if scan is None else scan
    return consistency(scan, result, expected or ExpectedNoise(SIGMA, correlations=(0.0, 0.0, 0.0)))


def test_noise_alone_shows_nothing():
    seen = found(head()).statistics
    assert seen["deviation"] == pytest.approx(1, abs=0.02)
    for name in ("mean", "colour", "edges", "detail", "intensity", "displacement"):
        assert abs(seen[name]) < 0.03, name
    assert seen["drift"] < 0.06
    assert seen["excursion"] < 6
    assert seen["step"] < 5
    assert abs(seen["stripes"]) < 4
    assert seen["unevenness"] < 0.06


def test_planes_of_few_voxels_and_a_neck_that_is_cut_off_are_no_seam():
    distance = sum(
        ((axis - c) / r) ** 2
        for axis, c, r in zip(np.ogrid[:40, :36, :32], (19, 18, 16), (19, 17, 15), strict=True)
    )
    scan = np.where(distance < 1, head(), 0).astype(np.float32)
    steps = [found(scan, scan + noise(seed) * (scan > 0)).statistics["step"] for seed in range(8)]
    assert max(steps) < 5.5
    cut = np.where(np.ogrid[:40, :36, :32][2] < 24, scan, 0).astype(np.float32)
    result = cut + np.float32(2) * (np.ogrid[:40, :36, :32][2] == 23) * (cut > 0)
    assert found(result, cut + noise() * (cut > 0)).statistics["step"] < 5.5


def test_where_the_field_of_view_cuts_tissue_off_the_last_plane_is_no_seam():
    clean = np.full((40, 36, 32), 100, dtype=np.float32)
    result = clean + np.float32(2) * (np.ogrid[:40, :36, :32][1] == 35)
    assert found(result, clean + noise()).statistics["step"] < 5.5
    seam = clean + np.float32(2) * (np.ogrid[:40, :36, :32][1] > 33)
    assert found(seam, clean + noise()).statistics["step"] > 10


def ball(at: tuple[int, int, int], radius: float) -> np.ndarray:
    distance = sum((axis - c) ** 2 for axis, c in zip(np.ogrid[:40, :36, :32], at, strict=True))
    return (distance <= radius**2).astype(np.float32)


def half(axis: int) -> np.ndarray:
    return np.asarray(np.indices(SHAPE)[axis] >= SHAPE[axis] // 2, np.float32)


@pytest.mark.parametrize(
    ("name", "change", "least"),
    [
        ("detail", lambda x: ndimage.gaussian_filter(x, 1.0), 0.2),
        ("displacement", lambda x: ndimage.shift(x, (0, 0.5, 0), mode="nearest"), 0.2),
        ("mean", lambda x: x * 0.98, 0.3),
        ("intensity", lambda x: 100 + 0.9 * (x - 100), 0.2),
        ("drift", lambda x: x + 2 * (half(0) - half(1)), 0.15),
        ("excursion", lambda x: x + 10 * ball((20, 18, 16), 2.5), 12),
        ("excursion", lambda x: x - 10 * ball((20, 18, 16), 2.5), 12),
        ("step", lambda x: x + 2 * half(1), 10),
        ("stripes", lambda x: x + 1.0 * (np.indices(SHAPE)[2] % 2), 8),
        ("unevenness", lambda x: x + noise() * 0.6 * half(2), 0.3),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_a_result_shows_in_its_statistic(name, change, least):
    assert abs(found(head()).statistics[name]) < least / 2
    assert abs(found(change(head()).astype(np.float32)).statistics[name]) > least


def test_edges_that_went_with_the_noise_are_seen():
    scan = head() + 40 * (np.indices(SHAPE).sum(axis=0) // 12 % 2).astype(np.float32)
    seen = found(ndimage.gaussian_filter(scan, 1.0), scan + noise()).statistics
    assert seen["edges"] > 0.2


def test_the_place_of_the_excursion_is_told():
    at = (9, 25, 20)
    place = found(head() + 15 * ball(at, 2.5)).place
    assert place is not None
    assert np.abs(np.subtract(place, at)).max() <= 1


def test_colour_is_compared_with_that_of_the_noise():
    coloured = ndimage.gaussian_filter1d(noise(), 1.0, axis=1)
    scan = head() + coloured * np.float32(SIGMA / coloured.std())
    assert found(head(), scan).statistics["colour"] > 0.6
    told = ExpectedNoise(SIGMA, correlations=(0.0, float(np.exp(-0.25)), 0.0))
    assert abs(found(head(), scan, told).statistics["colour"]) < 0.05
    assert found(head(), scan, ExpectedNoise(SIGMA)).statistics["colour"] is None


def test_of_a_share_of_the_noise_the_share_is_expected():
    result = head() + np.float32(0.7) * noise()
    assert found(result, expected=ExpectedNoise(SIGMA, share=0.3)).statistics["deviation"] == pytest.approx(
        1, abs=0.02
    )


def test_a_scan_that_is_reproduced_shows_nothing():
    """What rounding leaves has a pattern, and is far below the noise."""
    seen = dict(found(head() * np.float32(1 + 1e-7), head()).statistics)
    assert seen.pop("balance") < 0.5  # beside detail some noise may stay, and no more did
    assert max(abs(value) for value in seen.values()) < 0.01


def wiener(scan: np.ndarray, spectrum: np.ndarray, sigma: float) -> np.ndarray:
    """Return the best estimate of a Gaussian field in white noise of a level."""
    gain = spectrum / (spectrum + sigma**2 * scan.size)
    return (100 + np.fft.ifftn(np.fft.fftn(scan - 100) * gain).real).astype(np.float32)


@pytest.mark.parametrize("strength", [0.1, 1, 3])
def test_what_is_taken_out_and_what_stays_beside_detail_add_up_to_the_noise(strength):
    """However much detail there is; not where twice the noise is told, which the deviation does not tell."""
    fine = ndimage.gaussian_filter(np.random.default_rng(4).normal(size=SHAPE), 0.7)
    field = 100 + strength * SIGMA * fine / fine.std()
    spectrum = ndimage.gaussian_filter(np.abs(np.fft.fftn(field - 100)) ** 2, 3, mode="wrap")
    scan = field.astype(np.float32) + noise()
    best, over = (wiener(scan, spectrum, factor * SIGMA) for factor in (1, 2))
    assert 0.75 < found(best, scan).statistics["balance"] < 1.1
    assert found(over, scan, ExpectedNoise(2 * SIGMA)).statistics["balance"] < 0.55


@pytest.mark.parametrize("rows", [1, 7, 16])
def test_the_thickness_of_the_slabs_makes_no_difference(monkeypatch, rows):
    scan = head() + noise() + 12 * ball((17, 18, 16), 2)
    whole = found(head(), scan)
    monkeypatch.setattr(slabbed, "_SLAB", 1)  # as thick as what is looked at around a voxel
    parts = found(head(), scan)
    assert parts.statistics == pytest.approx(whole.statistics, rel=1e-4, abs=1e-6)
    assert parts.place == whole.place


def test_a_level_for_each_voxel_is_that_of_its_residual():
    level = np.broadcast_to(np.linspace(2, 8, SHAPE[2], dtype=np.float32), SHAPE)
    scan = head() + noise() / SIGMA * level
    seen = found(head(), scan, ExpectedNoise(level)).statistics
    assert seen["deviation"] == pytest.approx(1, abs=0.02)
    assert seen["unevenness"] < 0.06
    assert found(head(), scan).statistics["unevenness"] > 0.3


def test_little_tissue_is_not_measured():
    little = np.zeros(SHAPE, np.float32)
    little[:10, :10, :10] = 100
    seen = found(little, little + noise())
    assert 500 < seen.voxels < LEAST_TISSUE
    assert seen.statistics == {}


def test_planes_are_compared_only_along_axes_with_enough_of_them():
    cut = (slice(None), slice(None), slice(0, 8))
    seen = found(head()[cut], (head() + noise() + 9 * (np.indices(SHAPE)[2] == 3))[cut]).statistics
    assert seen["step"] < 5  # along the other axes there are enough, and nothing to see


def test_the_same_stripes_and_step_are_judged_alike_in_a_larger_scan():
    def seen(side: int) -> dict:
        shape = (side,) * 3
        truth = np.full(shape, 100, np.float32)
        scan = truth + np.random.default_rng(2).normal(0, SIGMA, shape).astype(np.float32)
        result = truth + SIGMA * np.float32(0.05) * (np.indices(shape)[0] % 2).astype(np.float32)
        result[:, side // 2 :] += SIGMA * np.float32(0.1)
        return found(result, scan, ExpectedNoise(SIGMA)).statistics

    usual, larger = seen(96), seen(144)
    for name in ("stripes", "step"):
        assert larger[name] == pytest.approx(usual[name], rel=0.3), name
        assert usual[name] > 5
