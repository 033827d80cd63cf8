"""Volumes of a series that differ by noise alone, and what is made of their differences."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage
from test_noise_model import SIGMA, SPACING, head
from tiny import CommandLine, model_folder, save

from medrestore.engine import Known, RestoreOptions, load_model, restore
from medrestore.engine.tasks.series import MOST_PAIRS, noise_pairs
from medrestore.noise import Certainty, measure_noise
from medrestore.types import Modality
from medrestore.volume import Volume

CLEAN = head()


def volume(clean: np.ndarray, rng: np.random.Generator, sigma: float = SIGMA) -> Volume:
    parts = sigma * rng.standard_normal((2, *clean.shape))
    return mr(np.hypot(clean + parts[0], parts[1]))


def mr(array: np.ndarray, spacing: float = 1.0) -> Volume:
    affine = np.diag([spacing, spacing, spacing, 1.0])
    return Volume.from_array(array.astype(np.float32), affine, modality=Modality.MR)


def series(change, count: int = 3, seed: int = 0) -> list[Volume]:
    """Volumes of noise over what `change(number, rng)` makes of the head."""
    rng = np.random.default_rng(seed)
    return [volume(change(number, rng), rng) for number in range(count)]


def still(number, rng):
    return CLEAN


def moved(number, rng):
    return ndimage.shift(CLEAN, (number % 2) * 0.3, order=1)


def other_contrast(number, rng):
    return CLEAN if number % 2 else (1.2 - CLEAN / 1000) * CLEAN


def breathing(number, rng):
    smooth = ndimage.gaussian_filter(rng.standard_normal(CLEAN.shape), 4)
    return CLEAN * (1 + 0.02 * smooth / smooth.std())


def measured(volumes: list[Volume]):
    return measure_noise(volumes[0].array, SPACING, noise_pairs(volumes))


@pytest.mark.parametrize(("count", "pairs"), [(0, 0), (1, 0), (2, 1), (3, 2), (9, MOST_PAIRS)])
def test_neighbours_that_differ_by_noise_are_pairs(count, pairs):
    volumes = series(still, count)
    found = noise_pairs(volumes)
    assert len(found) == pairs
    order = {id(one.array): number for number, one in enumerate(volumes)}
    assert all(order[id(second)] == order[id(first)] + 1 for first, second in found)


@pytest.mark.parametrize("change", [moved, other_contrast])
def test_motion_and_contrast_are_no_noise(change):
    volumes = series(change)
    assert noise_pairs(volumes) == ()
    model = measured(volumes)
    assert model.series is None
    assert model == measure_noise(volumes[0].array, SPACING)


def test_copies_and_other_grids_say_nothing():
    (one,) = series(still, 1)
    assert noise_pairs([one, one]) == ()
    other = series(still, 1, seed=1)[0]
    assert len(noise_pairs([one, other])) == 1
    assert noise_pairs([one, mr(other.array, 1.5)]) == ()


@pytest.mark.parametrize("change", [still, breathing])
def test_the_level_of_the_differences_is_that_of_the_noise(change):
    model = measured(series(change))
    assert model.sigma == model.series == pytest.approx(SIGMA, rel=0.05)
    assert (model.source, model.certainty) == ("series", Certainty.SURE)


def test_differences_that_are_more_than_the_noise_raise_no_level():
    (scan,), rng = series(still, 1), np.random.default_rng(1)
    loud = [volume(CLEAN, rng, 2 * SIGMA) for _ in range(2)]
    model, alone = measure_noise(scan.array, SPACING, noise_pairs(loud)), measure_noise(scan.array, SPACING)
    assert model.series == pytest.approx(2 * SIGMA, rel=0.05)
    assert (model.sigma, model.source, model.certainty) == (alone.sigma, alone.source, alone.certainty)


def test_volumes_that_share_their_data_lower_no_level_that_is_sure():
    raw = [one.array for one in series(still, 4)]
    volumes = [mr((first + second) / 2) for first, second in zip(raw, raw[1:], strict=False)]
    model, alone = measured(volumes), measure_noise(volumes[0].array, SPACING)
    assert model.series < 0.8 * alone.sigma
    assert alone.certainty is Certainty.SURE
    assert (model.sigma, model.source) == (alone.sigma, alone.source)


def test_the_edge_of_a_mask_is_no_calm_tissue():
    tissue = ndimage.binary_erosion(CLEAN > 400, iterations=2)
    big = np.kron(tissue, np.ones((2, 2, 2), dtype=bool))
    rng = np.random.default_rng(0)
    volumes = [mr(np.where(big, volume(np.where(big, 800.0, 0), rng).array, 0)) for _ in range(3)]
    assert measured(volumes).series == pytest.approx(SIGMA, rel=0.03)


def test_texture_that_a_scan_alone_takes_for_noise_is_none_in_a_series():
    texture = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal(CLEAN.shape), 0.5)
    volumes = series(lambda *_: CLEAN * (1 + 0.08 * texture / texture.std()))
    alone, model = measure_noise(volumes[0].array, SPACING), measured(volumes)
    assert alone.sigma > 1.25 * SIGMA
    assert alone.certainty is not Certainty.SURE
    assert model.sigma == pytest.approx(SIGMA, rel=0.1)
    assert (model.source, model.certainty) == ("series", Certainty.UNSURE)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("models") / "tiny")


def test_a_restoration_says_where_the_noise_was_read(model):
    loaded = load_model(RestoreOptions(model=str(model), device="cpu"))
    volumes = series(still)
    options = RestoreOptions(device="cpu", noise_map="constant")
    alone = restore(volumes[1], options, model=loaded).record.noise
    among = restore(volumes[1], options, model=loaded, known=Known(series=volumes)).record.noise
    assert (alone["method"], alone["measured"]["series"]) == ("air and tissue, sure", None)
    assert among["method"] == "series, sure"
    assert among["measured"]["source"] == "series"
    assert among["sigma"] == among["measured"]["series"] == pytest.approx(SIGMA, rel=0.05)


def test_a_given_level_stays(model):
    loaded = load_model(RestoreOptions(model=str(model), device="cpu"))
    volumes = series(still, 2)
    options = RestoreOptions(device="cpu", noise=25.0)
    found = restore(volumes[0], options, model=loaded, known=Known(series=volumes)).record
    assert (found.noise["sigma"], found.noise["method"]) == (25.0, "given")


@pytest.fixture
def cli(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


def save_series(path, volumes):
    return save(path, np.stack([one.array for one in volumes], axis=-1))


def test_every_volume_of_a_file_is_restored_with_its_neighbours(cli, model, tmp_path):
    scan = save_series(tmp_path / "run_T1w.nii", series(still))
    out = tmp_path / "out.nii.gz"
    assert cli("restore", scan, "-o", out, "--model", model, "--noise-map", "constant", "-q")[0] == 0
    records = json.loads((tmp_path / "out.json").read_text())
    assert [record["noise"]["method"] for record in records] == ["series, sure"] * 3


def test_the_command_says_what_the_series_says(cli, tmp_path):
    still_one = save_series(tmp_path / "still_T1w.nii", series(still))
    status, table, errors = cli("noise", still_one)
    assert (status, errors) == (0, "")
    assert "series of 3 volumes" in table
    assert json.loads(cli("noise", still_one, "--json")[1])["series"] == pytest.approx(SIGMA, rel=0.05)
    status, table, errors = cli("noise", save_series(tmp_path / "moved_T1w.nii", series(moved)))
    assert (status, "differ by more than noise" in errors) == (0, True)
    assert ["series", "alone", "-"] in [line.split() for line in table.splitlines()]
