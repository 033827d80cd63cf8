"""Stripes between resolved slices: gradients by their place, and the best estimate of a Gaussian field."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage
from tiny import phantom, save

from benchmarks.superres import stripes
from benchmarks.superres.gaussian import field_like
from benchmarks.superres.stripes import CALCULATED, gradients, modulation, page
from medrestore.physics.slices import SliceStack

FACTOR, SIDE = 4, 32


def stack(side: int = SIDE) -> SliceStack:
    return SliceStack(side, side // FACTOR, float(FACTOR), float(FACTOR), first=(FACTOR - 1) / 2)


def drawn(seed: int = 0, side: int = SIDE) -> np.ndarray:
    white = np.random.default_rng(seed).standard_normal((side,) * 3)
    return ndimage.gaussian_filter(white, 1.2, mode="wrap")


def test_a_step_at_every_border_is_told_from_one_inside_a_slice():
    inside = np.ones((2, 2, 12), dtype=bool)
    slices = np.repeat(np.arange(3.0), FACTOR) * np.ones((2, 2, 1))
    np.testing.assert_allclose(gradients(slices, inside, FACTOR), [0, 0, 0, 1])
    ramp = np.arange(12.0) * np.ones((2, 2, 1))
    assert modulation(gradients(ramp, inside, FACTOR)) == 0
    inside[..., 6:] = False  # what lies outside of the head does not count
    ramp[..., 6:] *= 5
    np.testing.assert_allclose(gradients(ramp, inside, FACTOR), 1)


def test_the_estimate_of_a_field_is_better_than_a_spline_and_reproduces_the_slices():
    truth = drawn()
    found = field_like(truth).estimate(stack().forward(truth.astype(np.float32)), stack())
    np.testing.assert_allclose(stack().forward(found), stack().forward(truth), atol=1e-3 * truth.std())
    spline = stack().interpolate(stack().forward(truth))
    assert np.square(found - truth).mean() < 0.9 * np.square(spline - truth).mean()


def test_the_steepness_by_calculation_is_that_of_estimates():
    fields = [drawn(seed) for seed in range(6)]
    model = field_like(drawn(9))
    inside = np.ones((SIDE,) * 3, dtype=bool)
    made = [model.estimate(stack().forward(one), stack()) for one in fields]
    ratio = np.mean([gradients(a, inside, FACTOR) for a in made], axis=0)
    ratio /= np.mean([gradients(one, inside, FACTOR) for one in fields], axis=0)
    expected = model.steepness(stack())[FACTOR:-FACTOR]
    by_place = [expected[n::FACTOR].mean() for n in range(FACTOR)]
    assert ratio == pytest.approx(by_place, rel=0.08)
    # The best of estimates is steeper at the border of two slices than inside of one.
    assert by_place[-1] > 1.15 * by_place[1]


def test_a_spline_is_measured_and_the_report_written(tmp_path, monkeypatch):
    monkeypatch.setattr(stripes, "RESOLVED", ("cubic", "cubic-consistent"))
    scan = save(tmp_path / "head.nii", phantom(48))
    stripes.main(["--volume", str(scan), "--cases", "x4", "--quick", "--out", str(tmp_path)])
    report = json.loads((tmp_path / "stripes-quick.json").read_text())
    found = {row["method"]: row for row in report["rows"]}
    assert found["truth"]["psnr"] is None and found["truth"]["modulation"] < found["cubic"]["modulation"]
    assert found["cubic"]["modulation"] < found["cubic-consistent"]["modulation"]
    assert "## head.nii" in (tmp_path / "stripes-quick.md").read_text()


def test_the_page_has_a_line_for_every_method():
    row = {
        "volume": "v",
        "case": "x4",
        "method": "ours",
        "psnr": 30.0,
        "modulation": 0.2,
        "steep": [0.4, 0.6],
    }
    setup = {"command": "c", "cpu": "p", "date": "d", "side": 96, "seed": 0}
    text = page({"setup": setup, "rows": [row, {**row, "method": CALCULATED, "psnr": None}]})
    assert "| x4 | medrestore | 30.00 | 0.200 | 0.40 | 0.60 |" in text
    assert f"| x4 | {CALCULATED} |  | 0.200 | 0.40 | 0.60 |" in text
