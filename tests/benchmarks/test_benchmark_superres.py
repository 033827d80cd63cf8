"""The benchmarks of super-resolution and of uncertainty measure what they say."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
from scipy import ndimage
from tiny import phantom

from medrestore import Modality, RestoreOptions, Volume
from medrestore.engine.tasks.slice_grid import plan_slices
from medrestore.metrics import head_mask
from medrestore.training import anatomy

pytest.importorskip("matplotlib")

from benchmarks.denoise.tables import volume_line
from benchmarks.harness.common import COMPUTED, Truth, load_truth, run_method
from benchmarks.superres import run as superres
from benchmarks.superres.methods import METHODS
from benchmarks.uncertainty import run as uncertainty

ARGS = argparse.Namespace(seed=0, modality="MR", model="")
AFFINE = np.array([[-0.9, 0, 0, 40], [0, 0, 1.1, -20], [0, 1, 0, 5], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def truth():
    voxels = phantom(26)
    return Truth(
        "phantom", "", voxels, AFFINE, head_mask(voxels), float(np.percentile(voxels, 99)), 800.0, ""
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("name", ["x4", "x3-gap", "x4-gaussian"])
def test_the_slices_lie_where_the_engine_takes_them_to_be(truth, axis, name):
    case = superres.parse_case(name)
    whole = superres.cut(truth, axis, case.factor)
    scan = superres.make_slices(whole, axis, case, ARGS)
    volume = Volume.from_array(scan.voxels, scan.affine, Modality.MR)
    thickness = scan.width * scan.spacing
    options = RestoreOptions(spacing=scan.spacing, slice_axis="ijk"[axis], slice_thickness=thickness)
    plan = plan_slices(volume, options)
    assert plan.geometry.shape == whole.voxels.shape
    np.testing.assert_allclose(plan.geometry.affine, truth.affine, atol=1e-9)
    assert (plan.stack.slices, plan.stack.first) == (scan.stack.slices, pytest.approx(scan.stack.first))
    assert plan.stack.width == pytest.approx(scan.stack.width)
    assert superres.residual(whole.voxels, scan) < 1e-6


@pytest.mark.parametrize("method", ["linear", "lanczos", "cubic", "cubic-consistent"])
@pytest.mark.parametrize("axis", [0, 2])
def test_interpolation_keeps_constants_and_lines(truth, method, axis):
    case = superres.parse_case("x4")
    whole = superres.cut(truth, axis, 4)
    ramp = np.moveaxis(np.broadcast_to(np.arange(24, dtype=np.float32), (26, 26, 24)), -1, axis)
    for voxels, tolerance in ((np.full_like(whole.voxels, 7), 1e-4), (ramp, 0.6)):
        made = Truth(**{**vars(whole), "voxels": voxels})
        scan = superres.make_slices(made, axis, case, ARGS)
        found = np.moveaxis(METHODS[method].load()(scan) - voxels, axis, -1)
        assert np.abs(found[..., 8:-8]).max() < tolerance


def test_consistency_takes_the_residual_away_and_the_noise_leaves_some(truth):
    whole = superres.cut(truth, 2, 4)
    clean, noisy = (superres.make_slices(whole, 2, superres.parse_case(n), ARGS) for n in ("x4", "x4-noise"))
    assert noisy.sigma == pytest.approx(0.02 * np.percentile(clean.voxels, 99))
    assert np.std(noisy.voxels - clean.voxels) == pytest.approx(noisy.sigma, rel=0.2)
    left = [superres.residual(METHODS["cubic-consistent"].load()(scan), scan) for scan in (clean, noisy)]
    assert left[0] < 1e-3 < left[1]
    assert superres.residual(METHODS["cubic"].load()(clean), clean) > 5 * left[0]


@pytest.mark.parametrize("text", ["x1", "4", "x4-sinc", "x44"])
def test_what_is_no_case_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is no case"):
        superres.parse_case(text)


def test_a_method_runs_in_a_process_of_its_own(truth):
    whole = superres.cut(truth, 1, 4)
    scan = superres.make_slices(whole, 1, superres.parse_case("x4"), ARGS)
    given = {key: value for key, value in vars(scan).items() if key != "notes"}
    image, measured = run_method("superres", "cubic", given)
    np.testing.assert_array_equal(image, METHODS["cubic"].load()(scan))
    assert measured["peak_mb"] > 0
    with pytest.raises(RuntimeError, match="KeyError"):
        run_method("superres", "none", given)


def test_right_deviations_are_found_right(truth):
    rng = np.random.default_rng(0)
    std = (5 + 20 * (np.indices(truth.voxels.shape)[0] > 13)).astype(np.float32)
    error = std * rng.standard_normal(std.shape).astype(np.float32)
    found = uncertainty.calibration(truth.voxels + error, std, truth)
    assert found["error_over_deviation"] == pytest.approx(1, abs=0.05)
    assert found["rank_cubes"] > 0.7 > found["rank_voxels"] > 0.3
    assert found["within_two"] == pytest.approx(0.954, abs=0.01)
    wrong = uncertainty.calibration(truth.voxels + error, std[::-1] / 2, truth)
    assert wrong["error_over_deviation"] == pytest.approx(2, abs=0.1)
    assert wrong["rank_cubes"] < -0.3


def test_sharpness_is_that_of_the_truth_where_it_is_one(truth):
    same = uncertainty.quality(truth.voxels + 0.01, truth)
    assert (same["gradient"], same["power"]) == (pytest.approx(1), pytest.approx(1, abs=1e-3))
    blurred = uncertainty.quality(ndimage.uniform_filter(truth.voxels, 3), truth)
    assert blurred["gradient"] < 0.97
    assert blurred["power"] < 0.9


def test_ct_is_taken_from_a_computed_body_in_hu(monkeypatch):
    tissue = np.full((32, 32, 16), 50, dtype=np.float32)
    tissue[:8] = -1000
    body = anatomy.Phantom(tissue, (1.5, 1.5, 1.5))
    monkeypatch.setattr(anatomy, "torso", lambda rng: body)
    made = load_truth(COMPUTED, quick=False, modality="CT")
    np.testing.assert_array_equal(made.voxels, tissue + 1000)
    assert "no file" in volume_line(made.describe())
    args = argparse.Namespace(seed=0, modality="CT", model="")
    slices = uncertainty.make_scan(made, "superres", args)
    assert slices.shape == (32, 32, 4) and slices.modality is Modality.CT
    np.testing.assert_allclose(slices.array[:, :, 0], tissue[:, :, 0])
    noise = uncertainty.make_scan(made, "denoise", args).array - tissue
    assert noise[12:, 4:-4].std() == pytest.approx(2 * uncertainty.FULL, rel=0.25)


def test_zero_filled_slices_have_a_truth_that_was_measured(truth):
    case = superres.parse_case("x4-filled")
    whole = superres.cut(truth, 2, 4)
    seen = superres.seen(whole, 2, case)
    power = [np.square(np.abs(np.fft.fft(one.voxels, axis=0))[10:17]).sum() for one in (seen, whole)]
    assert power[0] < 0.2 * power[1]  # what is left comes from the magnitude
    assert superres.seen(whole, 2, superres.parse_case("x4")) is whole
    noisy = superres.make_slices(seen, 2, case, ARGS)
    assert noisy.sigma > 0
    assert superres.residual(seen.voxels, noisy) == pytest.approx(superres.NOISE["filled"], rel=0.25)


def test_a_page_goes_on_with_the_runs_that_it_has():
    def report(command, volume, *runs):
        named = {"methods": {"cubic": {}}, "weights": {}, "packages": {}, "volumes": [{"name": volume}]}
        made = [
            {"volume": volume, "case": case, "method": method, "psnr": value} for case, method, value in runs
        ]
        return {"setup": {"command": command, "pictured": "x4", **named}, "runs": made}

    before = report("one", "a", ("x2", "cubic", 1), ("x4", "ours", 2))
    made = superres.with_kept(report("two", "b", ("x2", "ours", 3)), before)
    made = superres.with_kept(report("three", "a", ("x4", "ours", 4), ("x2", "ours", 5)), made)
    assert [run["psnr"] for run in made["runs"]] == [1, 5, 4, 3]
    assert made["setup"]["command"] == "one` and `two` and `three"
    assert [volume["name"] for volume in made["setup"]["volumes"]] == ["a", "b"]
