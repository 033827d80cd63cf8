"""Noise that varies over a scan: found where it is, not read off anatomy, and worth telling the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import CommandLine, model_folder, phantom, save

import medrestore
from medrestore.engine import load_model
from medrestore.engine.sampling.posterior import START
from medrestore.engine.tasks.denoising import noisy_voxels
from medrestore.errors import ConfigError
from medrestore.metrics import head_mask, psnr
from medrestore.noise.level import level_under_map, mr_noise_level
from medrestore.noise.map import COLOURED, TRAINED, estimate_noise_map
from medrestore.noise.measure import measure_noise
from medrestore.noise.model import Certainty
from medrestore.noise.varying import as_measured, varying_noise
from medrestore.physics.mr_colour import COLOURS, simulate
from medrestore.physics.mr_noise import add_gaussian, add_rician
from medrestore.provenance import RunRecord, Step
from medrestore.training.contrast import random_bias_field

CROP = Path(__file__).resolve().parents[2] / "sample_data" / "colin27_crop.nii.gz"
SIZE = 72


def middle(shape: tuple[int, ...]) -> np.ndarray:
    """A g-factor map: 1 at the rim, 2.5 in the middle."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    return (1 + 1.5 * np.exp(-sum(axis**2 for axis in axes) / 0.25)).astype(np.float32)


def ramp(shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.linspace(0.5, 2, shape[0], dtype=np.float32)[:, None, None], shape).copy()


def trained(shape: tuple[int, ...]) -> np.ndarray:
    """A field as in training."""
    return random_bias_field(shape, np.random.default_rng(1), strength=0.8).clip(*TRAINED)


def scan(gain: np.ndarray, level: float, add=add_rician) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A noisy phantom whose level is the median over tissue, its true relative map, and its tissue."""
    clean = phantom(SIZE)
    tissue = clean > 0.3 * np.percentile(clean, 99)
    gain = gain / np.median(gain[tissue])
    noisy = add(clean, np.float32(level * np.percentile(clean, 99)) * gain, np.random.default_rng(5))
    return noisy, gain, tissue


@pytest.mark.parametrize("add", [add_rician, add_gaussian])
@pytest.mark.parametrize("level", [0.03, 0.1])
@pytest.mark.parametrize("shape", [middle, ramp, trained])
def test_a_map_is_found(shape, level, add):
    noisy, gain, tissue = scan(shape((SIZE,) * 3), level, add)
    found = estimate_noise_map(noisy)
    assert found is not None
    error = np.log(found.gain / gain)[tissue]
    assert error.std() < 0.5 * np.log(gain[tissue]).std()
    assert error.std() < 0.1
    assert found.range.p5 < 0.9
    assert found.range.p95 > 1.1
    assert found.range.median == pytest.approx(1, abs=0.01)
    assert found.gain.dtype == np.float32
    assert found.gain.min() >= np.float32(TRAINED[0])
    assert found.gain.max() <= TRAINED[1]


@pytest.mark.parametrize("level", [0.03, 0.05, 0.1])
def test_constant_noise_has_no_map(level):
    noisy, _, _ = scan(np.ones((SIZE,) * 3, dtype=np.float32), level)
    assert estimate_noise_map(noisy) is None


def smoothed(shape, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same as `scan` in 96 voxels cubed, image and noise through Hann's window in two axes."""
    clean = phantom(96)
    bright = float(np.percentile(clean, 99))
    tissue, gain = clean > 0.3 * bright, shape(clean.shape).astype(np.float32)
    gain /= np.median(gain[tissue])
    draw = simulate(clean, COLOURS["hann"], level * bright, np.random.default_rng(5))
    return draw.clean + gain * draw.noise, gain, tissue


@pytest.mark.parametrize("level", [0.03, 0.1])
@pytest.mark.parametrize("shape", [middle, ramp, trained])
def test_a_map_of_noise_that_a_window_has_smoothed_is_found(shape, level):
    noisy, gain, tissue = smoothed(shape, level)
    axes = measure_noise(noisy, (1.0, 1.0, 1.0)).axes
    assert max(axis.correlation for axis in axes) > COLOURED
    found = estimate_noise_map(noisy, axes)
    assert found is not None and found.gain.shape == noisy.shape
    assert np.log(found.gain / gain)[tissue].std() < 0.75 * np.log(gain[tissue]).std()


@pytest.mark.parametrize("level", [0.03, 0.05, 0.1])
def test_constant_noise_that_a_window_has_smoothed_has_no_map(level):
    noisy, _, _ = smoothed(np.ones, level)
    assert estimate_noise_map(noisy, measure_noise(noisy, (1.0, 1.0, 1.0)).axes) is None


@pytest.mark.parametrize("level", [0.03, 0.05, 0.1])
def test_anatomy_is_not_taken_for_noise(level):
    clean = medrestore.read(CROP).array.astype(np.float32)
    sigma = np.float32(level * np.percentile(clean, 99))
    assert estimate_noise_map(add_rician(clean, sigma, np.random.default_rng(2))) is None


@pytest.mark.parametrize("slab", [slice(0, 3), slice(8, 14), slice(20, 24)])
def test_a_slab_in_padding_has_no_map(slab):
    array = np.zeros((120, 120, 24), dtype=np.float32)
    array[:, :, slab] = add_rician(
        np.full(array[:, :, slab].shape, 500, np.float32), 20, np.random.default_rng(4)
    )
    assert estimate_noise_map(array) is None


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((40, 40, 40), dtype=np.float32),
        np.full((40, 40, 40), 7, dtype=np.float32),
        np.ones((40, 40, 3), dtype=np.float32),
        np.random.default_rng(0).normal(5, 1, (20, 20, 20)).astype(np.float32),
    ],
    ids=["empty", "constant", "few slices", "small"],
)
def test_what_shows_no_variation_has_no_map(array):
    assert estimate_noise_map(array) is None


def test_the_record_says_what_the_model_was_told(tmp_path, monkeypatch, capsys):
    noisy, _, _ = scan(ramp((SIZE,) * 3), 0.06)
    source = save(tmp_path / "in.nii", noisy)
    model = model_folder(tmp_path / "model")
    cli, records = CommandLine(monkeypatch, capsys), {}
    for requested in ("auto", "constant"):
        out = tmp_path / f"{requested}.nii"
        status, _, err = cli("restore", source, "-o", out, "--model", model, "--noise-map", requested)
        assert status == 0, err
        records[requested] = RunRecord.from_json(out.with_suffix(".json").read_text())
    assert records["constant"].noise["map"] is None
    found = records["auto"].noise["map"]
    assert found["p5"] < 0.8
    assert found["p95"] > 1.2
    assert "wavelet" in found["method"]
    assert records["auto"].settings["noise_map"] == "auto"
    # The level is that of the median of the tissue, not of its least noisy part.
    true = 0.06 * float(np.percentile(phantom(SIZE), 99))
    assert records["auto"].noise["sigma"] == pytest.approx(true, rel=0.08)


def test_constant_noise_gives_the_same_result_with_and_without_the_search(tmp_path):
    noisy, _, _ = scan(np.ones((SIZE,) * 3, dtype=np.float32), 0.05)
    volume = medrestore.Volume.from_array(noisy, modality=medrestore.Modality.MR)
    folder = str(model_folder(tmp_path / "model"))
    results = [
        medrestore.restore(volume, medrestore.RestoreOptions(model=folder, noise_map=requested)).volume.array
        for requested in ("auto", "constant")
    ]
    np.testing.assert_array_equal(*results)


def test_an_unknown_kind_of_map_is_refused():
    with pytest.raises(ConfigError, match="noise_map"):
        medrestore.RestoreOptions(noise_map="true")


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "gained", "worth"), [(middle, 0.1, 36.7), (ramp, 0.3, 36.9)])
def test_the_shipped_model_is_better_with_the_map(shape, gained, worth):
    inside = (slice(32, 96),) * 3
    clean = medrestore.read(CROP).array[inside].astype(np.float32)
    truth = medrestore.Volume.from_array(clean, modality=medrestore.Modality.MR)
    head = head_mask(clean)
    gain = shape(clean.shape)
    sigma = np.float32(0.06 * np.percentile(clean, 99)) * gain / np.median(gain[head])
    noisy = truth.with_array(add_rician(clean, sigma, np.random.default_rng(3)), step=Step("test:noise", {}))
    scores = {}
    for requested in ("auto", "constant"):
        done = medrestore.restore(noisy, medrestore.RestoreOptions(noise_map=requested, force=True))
        scores[requested] = psnr(done.volume.array, clean, data_range=float(clean.max()), mask=head)
    assert scores["auto"] > max(scores["constant"] + gained, worth)


@pytest.mark.parametrize(("shape", "above"), [(middle, True), (np.ones, False)])
def test_samplers_start_above_the_strongest_noise(shape, above, tmp_path):
    noisy, _, _ = scan(shape((SIZE,) * 3).astype(np.float32), 0.05)
    spec = load_model(medrestore.RestoreOptions(model=str(model_folder(tmp_path / "tiny")))).spec
    volume = medrestore.Volume.from_array(noisy, modality=medrestore.Modality.MR)
    found = noisy_voxels(volume, spec, medrestore.RestoreOptions())
    assert (START < found.start <= 4.4) if above else (found.start == START)
    if above:
        assert found.start == pytest.approx(START * min(found.noise.map.p95, 2.2))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Certainty.SURE, Certainty.LIKELY),
        (Certainty.LIKELY, Certainty.LIKELY),
        (Certainty.UNSURE, Certainty.UNSURE),
    ],
)
def test_a_level_over_a_map_is_no_surer_than_it_was(before, after):
    noisy, gain, _ = scan(ramp((SIZE,) * 3), 0.06)
    volume, bright = medrestore.Volume.from_array(noisy), float(np.percentile(noisy, 99))
    level = mr_noise_level(volume, "auto", bright)
    assert level.measured is not None
    level = replace(level, measured=replace(level.measured, certainty=before))
    found = level_under_map(noisy / gain, level, bright)
    assert found.measured is not None and found.measured.certainty is after
    assert found.in_doubt is (after is Certainty.UNSURE)


def over_the_map(volume: medrestore.Volume, requested: float | str, pairs=()):
    """Level and map as a restoration is told them, and the true level of `scan(ramp, 0.03)`."""
    bright = float(np.percentile(volume.array, 99))
    level = mr_noise_level(volume, requested, bright, pairs)
    assert level.measured is not None
    return *varying_noise(as_measured(volume.array, level.measured)[1], level, bright), level


def repetitions(count: int) -> tuple[list[np.ndarray], float]:
    """Scans whose noise varies along the first axis, and its median over tissue."""
    clean = phantom(64)
    bright = float(np.percentile(clean, 99))
    gain = ramp(clean.shape)
    gain /= np.median(gain[clean > 0.3 * bright])
    sigma = 0.03 * bright
    return [
        add_rician(clean, np.float32(sigma) * gain, np.random.default_rng(5 + n)) for n in range(count)
    ], sigma


def test_a_series_hides_no_map():
    """Its differences are read in the smoothest blocks, which lie where the noise is weakest."""
    scans, sigma = repetitions(3)
    volume = medrestore.Volume.from_array(scans[1])
    level, varying, constant = over_the_map(volume, "auto", [(scans[0], scans[1]), (scans[1], scans[2])])
    assert constant.measured.source == "series" and constant.sigma < 0.85 * sigma
    assert varying is not None
    assert level.sigma == pytest.approx(sigma, rel=0.08)


def test_a_level_that_is_told_is_compared_with_what_is_read_over_the_map():
    (noisy,), sigma = repetitions(1)
    level, varying, constant = over_the_map(medrestore.Volume.from_array(noisy), sigma)
    assert varying is not None and level.sigma == sigma
    assert not constant.read.goes_with(sigma) and level.read.goes_with(sigma)
    assert level.read.sigma == pytest.approx(sigma, rel=0.08)
