"""The computed series of a benchmark: what is true of it, and that the figures say so."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import phantom

from benchmarks.denoise import series
from benchmarks.denoise.simulated_series import RADII, averaged, fitted, judged, simulate

COUNT, EFFECT = 20, 0.02


@pytest.fixture(scope="module")
def truth():
    return simulate(averaged(phantom(80), 2, 36), COUNT, EFFECT, 0)


def test_averages_are_of_cubes_of_the_middle_slices():
    voxels = np.arange(4 * 4 * 8, dtype=np.float32).reshape(4, 4, 8)
    found = averaged(voxels, 2, 2)
    assert found.shape == (2, 2, 2)
    assert found[0, 0, 0] == voxels[:2, :2, 2:4].mean()


def test_the_response_to_the_task_is_that_of_the_regions(truth):
    rest = truth.clean[0] / (1 + EFFECT * (truth.regions > 0) * truth.task[0])
    response = fitted(truth.clean, truth.task)[2] / np.maximum(rest, 1)
    active = truth.regions > 0
    assert response[active & (rest > 100)].mean() == pytest.approx(EFFECT, rel=0.02)
    assert np.abs(response[~active]).max() < 1e-6 + 0.01 * EFFECT
    assert len(truth.sizes) == 4 * len(RADII)


def test_what_is_true_keeps_all_and_the_mean_keeps_nothing(truth):
    right = judged(truth.clean + np.float32(1e-3), truth, 800.0)
    assert [one["mean"] for one in right["kept"]] == pytest.approx([1.0] * len(RADII))
    assert right["false"] < 1e-3
    still = np.broadcast_to(truth.clean.mean(0), truth.clean.shape)
    assert [one["mean"] for one in judged(still, truth, 800.0)["kept"]] == pytest.approx([0.0] * 3, abs=1e-6)


def test_noise_lowers_the_figures_as_it_should(truth):
    one, two = (judged(truth.noisy(level, 0), truth, 800.0) for level in (0.01, 0.02))
    assert one["psnr"] - two["psnr"] == pytest.approx(6.0, abs=0.3)
    assert one["tsnr"] == pytest.approx(2 * two["tsnr"], rel=0.1)


def test_the_page_has_a_row_for_every_method_and_level():
    kept = [{"mean": 0.5, "error": 0.1}] * len(RADII)
    row = {"psnr": 40.0, "tsnr": 50.0, "kept": kept, "false": 0.1}
    setup = {
        "command": "c",
        "cpu": "p",
        "date": "d",
        "volume": "v",
        "factor": 3,
        "slices": 16,
        "count": 40,
        "shape": "1 x 1 x 1",
        "effect": 0.02,
        "seed": 0,
        "region_voxels": [7, 33, 257],
    }
    rows = [{"level": level, "method": method, **row} for level in (1.0, 3.0) for method in series.TITLES]
    page = series.page({"setup": setup, "rows": rows})
    assert page.count("| 40.00 | 50 | 0.50 ± 0.10 |") == 2 * len(series.TITLES)
    assert "## Noise of 3 %" in page
