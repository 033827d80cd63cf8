"""The parts of a verification: figures and limits, detectors, phantoms, given scans, FDA's phantom."""

from __future__ import annotations

import json
import math
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
from bad_models import declared
from scipy import ndimage

import medrestore
from medrestore import Intensity
from medrestore.engine.intervals.calibration import FILE
from medrestore.errors import ConfigError, InputError, OutputError
from medrestore.testing import Figure, Outcome, Status, TrialOptions, verify
from medrestore.testing.fidelity import displacement, places
from medrestore.testing.fourier_ring import agreed_share, hallucinated, ring_correlation
from medrestore.testing.low_contrast import area_of, read_doses, read_inserts
from medrestore.testing.pages import BEGIN, END, conditions, write_html, write_markdown
from medrestore.testing.phantoms import flat, head, smooth_field
from medrestore.testing.scenes import computed, given, nothing
from medrestore.testing.trial import Trial, mean_interval
from medrestore.types import Modality, Task

FDA = "data/ct/fda_low_contrast.tar.xz"


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("figure", "holds"),
    [
        (Figure("a", 0.9, least=0.8), True),
        (Figure("a", 0.9, interval=(0.7, 1.0), least=0.8), False),
        (Figure("a", 0.9, interval=(0.85, 1.0), least=0.8), True),
        (Figure("a", 0.9, interval=(0.85, 1.2), most=1.0), False),
        (Figure("a", math.nan, least=0.8), False),
        (Figure("a", math.nan, most=0.8), False),
    ],
)
def test_a_figure_keeps_to_its_limit_with_the_worse_end_of_its_interval(figure, holds):
    assert figure.holds is holds
    assert Outcome((figure,)).status is (Status.PASSED if holds else Status.FAILED)


def test_a_figure_of_numpy_is_plain_and_can_be_written():
    figure = Figure("a", np.float64(0.5), interval=(np.float32(0.25), np.float32(1)), most=np.int64(2))
    assert json.loads(json.dumps(Outcome((figure,)).as_json()))["figures"][0]["interval"] == [0.25, 1]
    assert figure.holds is True


def test_what_was_skipped_and_yet_has_a_problem_has_failed():
    assert Outcome(skipped="no data").status is Status.SKIPPED
    assert Outcome(problems=("mixes scans",), skipped="no data").status is Status.FAILED


def test_figures_without_a_limit_judge_nothing():
    outcome = Outcome((Figure("a", 0.5), Figure("b", 0.1)))
    assert (outcome.status, outcome.summary) == (Status.SKIPPED, "none of its 2 figures has a limit here")
    assert Outcome().status is Status.PASSED  # it looked for problems, and found none


def test_a_distance_from_0_is_one_of_its_own_scale():
    least = {"unit": "dB", "scale": 3.0}
    white, coloured = Figure("white", 5.0, least=3.0, **least), Figure("coloured", 0.001, least=0.0, **least)
    assert Outcome((white, coloured)).summary.startswith("coloured: 0.001")
    assert Outcome((white, Figure("coloured", 2.5, least=0.0, **least))).summary.startswith("white: 5")
    assert Figure("a count", 3.0, most=0.0).margin == -3


def test_the_summary_is_the_figure_that_decides():
    figures = (Figure("one", 0.9, least=0.8), Figure("two", 0.5, least=0.8), Figure("three", 0.1))
    assert Outcome(figures).summary.startswith("two: 0.5")


@pytest.mark.parametrize("axis", range(3))
def test_a_displacement_is_found_to_a_hundredth_of_a_voxel(axis):
    image = smooth_field((40, 40, 40), 3, rng())
    moved = ndimage.shift(image, [0.2 * (n == axis) for n in range(3)], order=5, mode="nearest")
    expected = [0.2 * (n == axis) for n in range(3)]
    np.testing.assert_allclose(displacement(moved, image, np.ones(image.shape, bool)), expected, atol=0.01)


def test_noise_of_a_magnitude_is_no_shift():
    found = verify(declared("keeps_the_scan"), TrialOptions(side=56, only=("geometry",)))
    assert max(figure.value for figure in found.outcomes["geometry"].figures) < 0.03


def test_spheres_are_seen_where_they_are_and_noise_shows_none_of_five_voxels():
    noise = rng().standard_normal((48, 48, 48)).astype(np.float32)
    assert places(noise, 1.0, 5) == 0
    noise[10:15, 20:25, 30:35] += 3
    noise[30:35, 20:25, 10:15] -= 3
    assert places(noise, 1.0, 5) == 2


def test_a_bootstrap_interval_holds_the_mean_about_as_often_as_it_says():
    drawn = rng(5).normal(size=(300, 25))
    inside = [low <= 0 <= high for low, high in (mean_interval(values, rng()) for values in drawn)]
    assert 0.82 < np.mean(inside) < 0.96


def test_rings_correlate_up_to_the_frequency_that_is_common():
    image = rng().standard_normal((24, 24)).astype(np.float32)
    assert agreed_share(ring_correlation(image, image)) == 1
    blurred = ndimage.gaussian_filter(rng(1).standard_normal((24, 24)), 3) * 30
    both = [blurred + rng(seed).standard_normal((24, 24)) for seed in (2, 3)]
    assert 0 < agreed_share(ring_correlation(*both)) < 0.6


def test_patches_that_disagree_are_counted_where_there_is_structure():
    truth = smooth_field((48, 48, 48), 2, rng())
    truth[:, 24:] = 0
    false = truth.copy()
    false[:24] = smooth_field((48, 48, 48), 2, rng(9))[:24]
    (none, seen), (wrong, _) = (hallucinated(image, truth, 1.0, 4.0) for image in (truth, false))
    assert none == 0
    assert 0.2 * seen < wrong < 0.8 * seen


def test_the_area_under_the_curve_counts_ties_by_half():
    assert area_of((np.array([0.0, 1.0]), np.array([2.0, 3.0]))) == 1
    assert area_of((np.array([1.0]), np.array([1.0]))) == 0.5


def test_a_computed_head_has_tissues_of_its_own_brightness():
    for ct in (False, True):
        phantom = head(56, ct, 0)
        means = {name: phantom.voxels[where].mean() for name, where in phantom.tissues.items()}
        assert all(where.any() for where in phantom.tissues.values())
        assert len({round(float(mean) / (5 if ct else 50)) for mean in means.values()}) == len(means)
        np.testing.assert_array_equal(phantom.voxels, head(56, ct, 0).voxels)
        assert np.abs(phantom.voxels - head(56, ct, 1).voxels).max() > 1
        assert phantom.voxels[phantom.air].mean() == pytest.approx(-1000 if ct else 0, abs=0.01)
    assert set(np.unique(flat(8, True, "air").voxels)) == {-1000}


def test_a_scene_has_the_noise_that_it_says_and_the_same_each_time():
    scene = computed(declared(), 56, 0)
    scan = scene.scan.array
    assert (scan - scene.truth)[scene.deep].std() == pytest.approx(scene.sigma, rel=0.03)
    np.testing.assert_array_equal(scan, scene.scan.array)
    assert scene.scan.geometry.spacing == (1.0, 1.0, 1.0)
    empty = nothing(declared(), 48, 0, "air").scan.array
    assert empty.mean() == pytest.approx(1.2533 * 0.05 * 780, rel=0.02)  # Rayleigh's


def test_thick_slices_of_a_scene_average_its_truth():
    spec = declared(task=Task.SUPERRES, noise=(0.0, 0.0), factor=(2.0, 6.0), colour=False)
    scene = computed(spec, 48, 0)
    assert scene.scan.shape == (48, 48, 12)
    np.testing.assert_allclose(scene.scan.array, scene.truth.reshape(48, 48, 12, 4).mean(axis=3), atol=1e-2)


def test_a_scan_that_is_given_is_tried_too():
    scene = computed(declared(), 56, 3)
    scan = medrestore.Volume.from_array(scene.scan.array, np.eye(4), Modality.MR)
    options = TrialOptions(side=48, scans=(scan,), only=("mean", "lesions"))
    found = verify(declared(), options)
    assert found.failed == ()
    assert {figure.name.partition(":")[0] for figure in found.outcomes["mean"].figures} >= {"scan 1"}
    assert any(figure.name.startswith("scan 1: bright") for figure in found.outcomes["lesions"].figures)
    assert "dark" in str(found.as_json())


def test_a_scan_of_one_value_is_refused():
    empty = medrestore.Volume.from_array(np.ones((8, 8, 8), np.float32), np.eye(4))
    with pytest.raises(InputError, match="holds one value alone"):
        given(empty, declared(), "scan 1")


def test_a_side_that_holds_no_head_is_refused():
    with pytest.raises(ConfigError, match="side is 20"):
        TrialOptions(side=20)


def test_a_folder_that_is_not_the_phantom_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"0 files ground_truth\.raw"):
        read_inserts(tmp_path)
    with pytest.raises(InputError, match="no folder dose_NNN"):
        read_doses(tmp_path)


@pytest.mark.needs_shared
def test_the_phantom_of_fda_is_read_as_it_is_described(shared, tmp_path):
    with tarfile.open(shared / FDA) as packed:
        packed.extractall(tmp_path, filter="data")
    inserts = read_inserts(tmp_path)
    assert [round(insert.contrast) for insert in inserts] == [3, 5, 7, 14]
    doses = read_doses(tmp_path)
    assert sorted(doses) == [10, 55, 100]
    assert all(images[True].shape == images[False].shape == (10, 256, 256) for images in doses.values())
    deviations = [doses[dose][False][:, 118:138, 118:138].std() for dose in (10, 55, 100)]
    assert deviations == pytest.approx([77, 32, 25], abs=1.5)


@pytest.mark.slow
@pytest.mark.needs_shared
@pytest.mark.parametrize(("fault", "status"), [("keeps_the_scan", Status.PASSED), ("blurs", Status.FAILED)])
def test_inserts_that_are_blurred_are_harder_to_find(fault, status, shared, tmp_path):
    with tarfile.open(shared / FDA) as packed:
        packed.extractall(tmp_path, filter="data")
    ct = {"modalities": (Modality.CT,), "intensity": Intensity.ATTENUATION, "noise": (0.006, 0.15)}
    options = TrialOptions(side=48, fda=tmp_path, only=("low-contrast",))
    found = verify(declared(fault, **ct, colour=False), options).outcomes["low-contrast"]
    assert found.status is status
    if fault == "keeps_the_scan":
        assert found.figures[0].value == 0


@pytest.mark.parametrize(("half_width", "status"), [(2.0, Status.PASSED), (1.0, Status.FAILED)])
def test_intervals_that_are_too_narrow_fail(half_width, status, tmp_path, monkeypatch):
    weights = tmp_path / "model.safetensors"
    (tmp_path / FILE).touch()

    def restore(self, scans, noise, interval):
        assert interval == 0.9
        ends = {"lower": -half_width * noise, "upper": half_width * noise}
        maps = {name: SimpleNamespace(array=scans[0].array + off) for name, off in ends.items()}
        return SimpleNamespace(maps=maps)

    monkeypatch.setattr(Trial, "restore", restore)
    model = declared(weights=weights, sha256="0" * 64)
    assert verify(model, TrialOptions(side=48, only=("intervals",))).outcomes["intervals"].status is status


def test_a_page_replaces_what_is_between_its_marks_and_nothing_else(tmp_path):
    page = tmp_path / "card.md"
    found = verify(declared(licence="free"), TrialOptions(only=("licence", "hallucination")))
    write_markdown(page, found)
    assert page.read_text().startswith("# tried\n")
    page.write_text(f"# Mine\n\nabove\n\n{BEGIN}\nold\n{END}\n\nbelow\n")
    write_markdown(page, found)
    text = page.read_text()
    assert text.startswith("# Mine\n\nabove\n") and text.endswith("\n\nbelow\n") and "old" not in text
    assert "| licence | **failed** | the licence is 'free'; expected an SPDX expression" in text
    page.write_text("# Mine\n")
    with pytest.raises(OutputError, match="has no place for the verification"):
        write_markdown(page, found)
    assert page.read_text() == "# Mine\n"


def test_a_page_of_html_has_every_check_and_asks_for_nothing(tmp_path):
    found = verify(declared("adds_three_percent"), TrialOptions(side=48, only=("mean", "licence")))
    write_html(tmp_path / "a.html", found, overwrite=False)
    text = (tmp_path / "a.html").read_text()
    assert text.startswith("<!doctype html>")
    assert "<script" not in text and "http://" not in text and "https://" not in text
    for words in ("mean", "licence", "does not hold", "% of the bright level", "1 passed, 1 failed"):
        assert words in text
    with pytest.raises(OutputError, match="exists already"):
        write_html(tmp_path / "a.html", found, overwrite=False)


def test_a_model_of_two_modalities_is_said_to_be_tried_on_one():
    only = TrialOptions(only=("licence",))
    both = declared(intensity=Intensity.RAW, modalities=(Modality.MR, Modality.CT))
    assert ", as MR alone, seed 0" in conditions(verify(both, only))
    assert "alone" not in conditions(verify(declared(), only))
