"""Slices that another model cleans before they are resolved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import SUPERRES, model_folder, phantom

from medrestore import Modality, RestoreOptions, Volume, restore
from medrestore.engine import load_model
from medrestore.engine.cleaning import LEFT, measured
from medrestore.engine.cost.budget import Budget, least_tile
from medrestore.engine.run import ModelRun, Observers
from medrestore.errors import ModelError, PluginError
from medrestore.findings import VOXELS_OUTSIDE_MODEL
from medrestore.noise.model import Certainty
from medrestore.plugin import read_model_folder

FACTOR, SIGMA = 3, 30.0


class Returns:
    """A denoiser that returns the truth, and counts how often it is asked."""

    def __init__(self, truth: np.ndarray) -> None:
        self.truth, self.asked = truth, []

    def __call__(self, x, sigma, condition):
        self.asked.append(condition)
        return torch.from_numpy(self.truth)[None, None].clone()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return model_folder(folder / "fine", **SUPERRES), model_folder(folder / "clean", spacing_mm=[0.5, 4])


def stack() -> tuple[np.ndarray, Volume]:
    clean = phantom(48)
    slices = clean.reshape(48, 48, 48 // FACTOR, FACTOR).mean(axis=3)
    real, imaginary = SIGMA * np.random.default_rng(0).standard_normal((2, *slices.shape), dtype=np.float32)
    noisy = np.hypot(slices + real, imaginary).astype(np.float32)
    return slices, Volume.from_array(noisy, np.diag([1, 1, FACTOR, 1]), Modality.MR)


@pytest.fixture
def pair(folders):
    """A model that resolves, with one that cleans perfectly; the slices without noise, and the scan."""
    slices, scan = stack()
    fine, clean = (load_model(RestoreOptions(model=str(one), device="cpu")) for one in folders)
    perfect = Returns(slices / np.float32(np.percentile(scan.array, 99)))
    return replace(fine, cleaner=replace(clean, denoiser=perfect)), perfect, slices, scan


def test_slices_are_cleaned_before_they_are_resolved(pair, folders):
    model, perfect, slices, scan = pair
    result = restore(scan, RestoreOptions(), model=model)
    assert result.volume.shape == (48, 48, 48)
    clean = Volume.from_array(slices, scan.geometry.affine, Modality.MR)
    left = LEFT * result.record.noise["sigma"]
    alone = load_model(RestoreOptions(model=str(folders[0]), device="cpu"))
    # What is resolved is the cleaned stack, told what is left in it.
    told = restore(clean, RestoreOptions(noise=left), model=alone)
    np.testing.assert_allclose(result.volume.array, told.volume.array, rtol=0.02, atol=6)
    assert perfect.asked[-1].image.shape == (1, 1, *scan.shape)


def test_the_record_speaks_of_the_scan_and_names_both_models(pair):
    model, _, slices, scan = pair
    record = restore(scan, RestoreOptions(), model=model).record
    assert record.noise["sigma"] == pytest.approx(SIGMA, rel=0.1)
    assert record.noise["measured"] is not None
    assert record.model == model.ref
    cleaned = record.slices["denoised_with"]
    assert (cleaned["name"], cleaned["sha256"]) == (model.cleaner.ref.name, model.cleaner.ref.sha256)
    assert record.cleaner == replace(model.cleaner.ref, plugin=record.cleaner.plugin, network=None)
    assert record.settings["denoise_with"]["sha256"] == model.cleaner.ref.sha256
    # The residual is that of the scan, noise and all, not of the cleaned slices.
    noise = float(np.sqrt(np.mean((scan.array - slices) ** 2)))
    assert record.slices["residual_rms"] == pytest.approx(noise, rel=0.15)
    assert record.verdict["verdict"] is None or record.verdict["statistics"]["deviation"] > 0.7


def test_a_tile_that_is_for_the_model_that_resolves_may_be_too_small_for_the_one_that_cleans(pair):
    model, _, _, scan = pair
    wide = replace(model.cleaner.spec, halo=model.spec.halo + 8 * model.cleaner.spec.multiple)
    model = replace(model, cleaner=replace(model.cleaner, spec=wide))
    tile = least_tile(model.spec)
    assert tile < 2 * wide.halo
    for streamed in (False, True):
        run = ModelRun(model, RestoreOptions(tile=tile), Budget(1, 1.0, tile, streamed), Observers())
        assert measured(scan, run, ()).facts["denoised_with"] is not None


@pytest.mark.parametrize("noise", [0.0, "auto"])
def test_slices_without_noise_are_not_cleaned(pair, noise):
    model, perfect, slices, scan = pair
    clean = Volume.from_array(slices, scan.geometry.affine, Modality.MR)
    record = restore(clean, RestoreOptions(noise=noise), model=model).record
    assert not perfect.asked
    assert record.noise["sigma"] == 0
    assert record.slices["denoised_with"] is None


def test_the_level_of_no_noise_is_in_no_doubt(pair):
    model, _, slices, scan = pair
    clean = Volume.from_array(slices, scan.geometry.affine, Modality.MR)
    found = measured(clean, ModelRun(model, RestoreOptions(), None, Observers()), ()).noise
    assert found.sigma == 0
    assert found.measured.certainty is Certainty.UNSURE
    assert not found.in_doubt


def test_slices_that_the_cleaning_model_was_not_made_for_are_resolved_with_their_noise(pair):
    model, perfect, _, scan = pair
    thin = replace(model.cleaner.spec, spacing_mm=(0.5, 2.0))
    other = replace(model, cleaner=replace(model.cleaner, spec=thin))
    record = restore(scan, RestoreOptions(), model=other).record
    assert not perfect.asked
    for used, noise, uncleaned in ((other, "auto", True), (other, 0, False), (model, "auto", False)):
        run = ModelRun(used, RestoreOptions(noise=noise), None, Observers())
        assert measured(scan, run, ()).uncleaned is uncleaned
    assert record.noise["sigma"] == pytest.approx(SIGMA, rel=0.1)
    (found,) = (one for one in record.findings if one.code == VOXELS_OUTSIDE_MODEL.code)
    assert "resolved with their noise" in found.text
    assert record.judgement is None
    assert record.verdict["reason"] == "no limits were set for slices that are resolved with their noise"


def test_the_level_that_is_told_is_that_of_the_scan(pair):
    model, perfect, _, scan = pair
    record = restore(scan, RestoreOptions(noise=45.0), model=model).record
    assert record.noise["sigma"] == 45
    assert perfect.asked[-1].sigma == pytest.approx(45 / np.percentile(scan.array, 99), rel=1e-3)


def test_the_shipped_model_of_mr_slices_is_loaded_with_its_cleaner():
    model = load_model(RestoreOptions(model="mr-superres", device="cpu"))
    assert model.cleaner is not None
    assert model.cleaner.ref.name == model.spec.denoise_with == "medrestore/mr-denoise"
    assert model.cleaner.device == model.device


@pytest.mark.parametrize(
    ("named", "said"), [("medrestore/no-such", "no-such"), ("medrestore/ct-denoise", "in the units p99")]
)
def test_a_model_that_cannot_clean_is_refused_when_it_is_loaded(tmp_path, named, said):
    folder = model_folder(tmp_path / "fine", **SUPERRES, denoise_with=named)
    with pytest.raises(ModelError, match=f"denoise_with.*{said}"):
        load_model(RestoreOptions(model=str(folder), device="cpu"))


@pytest.mark.parametrize("named", ["mr-denoise", "a/b/c", 3, "A/b"])
def test_the_name_of_the_cleaning_model_is_a_full_name(folders, named):
    with pytest.raises(PluginError, match="denoise_with"):
        replace(read_model_folder(folders[0]), denoise_with=named)


def test_denoising_names_no_other_model(folders):
    with pytest.raises(PluginError, match=r"denoise_with.*superres"):
        replace(read_model_folder(folders[1]), denoise_with="medrestore/mr-denoise")
