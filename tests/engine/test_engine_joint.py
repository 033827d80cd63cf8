"""A series that is restored as one: by a model of series, or by one of volumes, held to the mean."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import CommandLine, model_folder, noisy, phantom, save

from medrestore.diffusion import Condition
from medrestore.engine import LoadedModel, Observers, RestoreOptions, load_model, restore, restore_series
from medrestore.engine.cost.budget import Beside, predict
from medrestore.engine.sampling.held_to_mean import HeldToMean
from medrestore.engine.tasks.denoising import noisy_voxels
from medrestore.engine.tasks.joint import joined
from medrestore.errors import ConfigError, DomainError, InputError, ModelError, PluginError
from medrestore.findings import SERIES_DIFFERS, SERIES_MIXED, ZERO_MOVED
from medrestore.physics.mr_noise import add_rician, rician_expectation
from medrestore.plugin import LoadContext, ModelSpec
from medrestore.plugin.contract import load_denoiser
from medrestore.provenance import ModelRef
from medrestore.testing import Status, TrialOptions, check_model, lesions, shown, verify
from medrestore.testing.scenes import computed
from medrestore.testing.shown import BLOCK, VOLUMES
from medrestore.types import Modality, Task
from medrestore.volume import Volume

JOINT = RestoreOptions(volumes="joint", device="cpu", noise_map="constant")
CLEAN = phantom(32)
SIGMA = 40.0


def load_mean(context):
    """Every volume becomes the mean of all."""
    del context
    return lambda x, sigma, condition: condition.image.mean(0, keepdim=True).expand_as(x).clone()


def spec(**changes) -> ModelSpec:
    facts = {
        "name": "mean",
        "title": "The mean",
        "task": Task.DENOISE,
        "modalities": (Modality.MR,),
        "licence": "MIT",
        "reference": "none",
        "load": load_mean,
        "spacing_mm": (0.5, 4.0),
        "noise": (0.0, 0.2),
        "halo": 0,
        "series": 3,
    }
    return ModelSpec(**{**facts, **changes})


def loaded(declared: ModelSpec) -> LoadedModel:
    denoiser = load_denoiser(declared, LoadContext(), "a test")
    return LoadedModel(ModelRef("test/mean", "test"), declared, denoiser, "cpu", "float32", 0.0)


def series(count: int = 4, clean: np.ndarray = CLEAN, sigma: float = SIGMA) -> list[Volume]:
    rng = np.random.default_rng(0)
    arrays = [add_rician(clean, sigma, rng) for _ in range(count)]
    return [Volume.from_array(array, np.eye(4), modality=Modality.MR) for array in arrays]


def error(results, clean=CLEAN) -> float:
    where = clean > 200
    return float(np.mean([np.square(one.volume.array - clean)[where].mean() for one in results]) ** 0.5)


def test_a_model_of_series_is_given_all_of_it():
    volumes = series(9)
    results = restore_series(volumes, JOINT, model=loaded(spec()))
    mean = np.mean([volume.array for volume in volumes], axis=0)
    assert len(results) == 9
    for volume, result in zip(volumes, results, strict=True):
        assert np.allclose(result.volume.array, mean, rtol=1e-5)
        assert result.volume.geometry.allclose(volume.geometry)
        assert result.record.settings["volumes"] == "joint"
        assert result.record.verdict["verdict"]
        assert SERIES_MIXED.code in {one.code for one in result.record.findings}
    assert error(results) < 0.5 * SIGMA


def test_the_noise_is_measured_once_and_in_the_series():
    noise = [one.record.noise for one in restore_series(series(5), JOINT, model=loaded(spec()))]
    assert {one["sigma"] for one in noise} == {noise[0]["sigma"]}
    assert noise[0]["sigma"] == pytest.approx(SIGMA, rel=0.1)
    assert noise[0]["measured"]["series"] is not None


def test_the_floor_of_a_sum_of_squares_is_the_same_in_all_volumes_whatever_the_level_became():
    clean, rng = phantom(64), np.random.default_rng(0)
    parts = [[add_rician(clean / 8**0.5, SIGMA, rng) for _ in range(8)] for _ in range(3)]
    arrays = [np.sqrt(sum(np.square(coil) for coil in coils)) for coils in parts]
    volumes = [Volume.from_array(array, np.eye(4), modality=Modality.MR) for array in arrays]
    lead = noisy_voxels(volumes[1], spec(), JOINT, volumes)
    assert lead.noise.measured.coils > 4
    images = joined(lead.at(0.8), volumes, spec()).condition.image
    air = [float(image[0][torch.from_numpy(clean == 0)].mean()) for image in images]
    assert max(air) < 1.05 * min(air)


def test_tiles_are_the_whole(monkeypatch):
    volumes, model = series(3), loaded(spec())
    whole = restore_series(volumes, JOINT, model=model)
    parts = restore_series(volumes, replace(JOINT, tile=16), model=model)
    for one, other in zip(whole, parts, strict=True):
        assert np.array_equal(one.volume.array, other.volume.array)


@pytest.mark.parametrize(
    ("volumes", "options", "declared", "kind", "words"),
    [
        (series(2), JOINT, spec(), DomainError, "2 volumes; test/mean takes 3 or more"),
        (series(1), JOINT, spec(series=None), DomainError, "1 volume; test/mean takes 2 or more"),
        (series(3), JOINT, spec(series=None, task=Task.SUPERRES), ModelError, "removing noise alone"),
        (series(3), replace(JOINT, noise=5.0, spacing="iso", volumes="each"), spec(), ModelError, "joint"),
        ([], JOINT, spec(), InputError, "without volumes"),
    ],
)
def test_what_cannot_be_restored_as_one_is_refused(volumes, options, declared, kind, words):
    with pytest.raises(kind, match=words):
        restore_series(volumes, options, model=loaded(declared))


def test_volumes_on_two_grids_are_refused():
    volumes = series(3)
    moved = Volume.from_array(volumes[1].array, np.diag([2.0, 1, 1, 1]), modality=Modality.MR)
    with pytest.raises(InputError, match="volume 0 of the series has another grid"):
        restore_series([moved, *volumes[1:]], JOINT, model=loaded(spec()))


def test_a_volume_below_zero_is_told_of_and_the_others_are_not():
    volumes = series(4)
    moved = Volume.from_array(volumes[0].array - 900, np.eye(4), modality=Modality.MR)
    results = restore_series([moved, *volumes[1:]], JOINT, model=loaded(spec()))
    told = [ZERO_MOVED.code in {one.code for one in result.record.findings} for result in results]
    assert told == [True, False, False, False]


@pytest.mark.parametrize(("shift", "told"), [(0, False), (2, True)])
def test_volumes_that_moved_are_told_of(shift, told):
    rng = np.random.default_rng(0)
    arrays = [add_rician(np.roll(CLEAN, shift * (t % 2), 0), SIGMA, rng) for t in range(4)]
    volumes = [Volume.from_array(array, np.eye(4), modality=Modality.MR) for array in arrays]
    (record, *_) = [one.record for one in restore_series(volumes, JOINT, model=loaded(spec()))]
    assert (SERIES_DIFFERS.code in {one.code for one in record.findings}) is told


def test_one_volume_is_no_series():
    with pytest.raises(ModelError, match="--volumes joint"):
        restore(series(1)[0], RestoreOptions(device="cpu"), model=loaded(spec()))


@pytest.mark.parametrize(
    "asked", [{"samples": 2}, {"output": "sample"}, {"interval": 0.9}, {"detectability": True}]
)
def test_what_is_told_of_one_volume_is_not_told_of_a_series(asked):
    with pytest.raises(ConfigError, match="the mean of every volume and no more"):
        RestoreOptions(volumes="joint", **asked)


@pytest.mark.parametrize(
    "wrong",
    [{"series": 1}, {"series": True}, {"outputs": frozenset({"mean", "sample"})}, {"operator": "a/b"}],
)
def test_a_declaration_of_series_is_checked(wrong):
    with pytest.raises(PluginError, match="series is"):
        spec(**wrong)


def test_a_model_of_series_keeps_a_contract_of_its_own():
    check_model(spec())


def test_memory_is_foreseen_for_all_volumes():
    model = loaded(spec())
    budgets = [predict((64, 64, 64), JOINT, model=model, beside=Beside(at_once=count)) for count in (40, 80)]
    more = budgets[1].peak_bytes - budgets[0].peak_bytes
    assert more >= 0.99 * 40 * 5 * 4 * 64**3
    assert budgets[1].seconds > 1.9 * budgets[0].seconds
    with pytest.raises(ConfigError, match="64 x 64 x 64 x 4000 voxels take"):
        predict((64, 64, 64), replace(JOINT, max_memory="2GB"), model=model, beside=Beside(at_once=4000))


# --- a model of volumes, held to the mean of the series


def blurring(x, sigma, condition):
    """Stand for a denoiser that takes a faint edge for noise, wherever the noise is strong."""
    del x, sigma
    if condition.sigma < 0.3:
        return condition.image.clone()
    return torch.nn.functional.avg_pool3d(condition.image, 5, 1, 2, count_include_pad=False)


def edge(step: float) -> torch.Tensor:
    image = torch.full((12, 1, 24, 24, 24), 10.0)
    image[..., 12:] += step
    return image


def test_what_the_mean_of_the_series_shows_comes_back():
    clean = edge(6.0)
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal(clean.shape)).float()
    condition = Condition(clean + noise, 1.0)
    each = torch.cat([blurring(None, math.inf, Condition(one[None], 1.0)) for one in condition.image])
    held = HeldToMean(blurring, rician=False)(condition.image, math.inf, condition)
    bias = [float((one.mean(0) - clean[0]).square().mean().sqrt()) for one in (each, held)]
    assert bias[1] < 0.33
    assert bias[0] > 1.2 * bias[1]
    # What changes from volume to volume is what it was.
    assert torch.allclose(held - held.mean(0), each - each.mean(0), atol=1e-4)


def test_the_mean_of_magnitudes_is_no_magnitude_of_the_mean():
    """Volumes of two contrasts, one of them in the noise floor: what is true stays as it is."""
    clean = torch.cat([torch.full((4, 1, 8, 8, 8), level) for level in (0.5, 6.0)])
    expected = torch.from_numpy(rician_expectation(clean.numpy(), 1.0))
    truth = iter([*clean.split(1), clean.mean(0, keepdim=True)])
    seen = []

    def right(x, sigma, condition):
        seen.append(condition)
        return next(truth)

    held = HeldToMean(right, rician=True)(expected, math.inf, Condition(expected, 1.0))
    assert torch.allclose(seen[-1].image, clean.mean(0, keepdim=True), atol=1e-3)
    assert seen[-1].sigma == pytest.approx(1 / math.sqrt(8))
    assert torch.allclose(held, clean, atol=1e-3)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("models") / "tiny")


def test_a_model_of_volumes_takes_a_series_too(tiny):
    options = replace(JOINT, model=str(tiny))
    model = load_model(options)
    volumes, told = series(3), []
    results = restore_series(
        volumes, options, model=model, observers=Observers(lambda done, total: told.append((done, total)))
    )
    assert told[-1][0] == told[-1][1]
    assert SERIES_MIXED.code not in {one.code for one in results[0].record.findings}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    each = [restore(one, replace(options, volumes="each"), model=model).volume.array for one in volumes]
    changed = np.stack([one.volume.array for one in results]) - np.stack(each)
    assert np.abs(changed).max() > 1e-3


@pytest.fixture
def cli(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


def test_the_command_restores_a_file_of_several_volumes_as_one(cli, tiny, tmp_path):
    arrays = np.stack([noisy(CLEAN, 0.05, seed) for seed in range(3)], axis=-1)
    scan = save(tmp_path / "run_T1w.nii", arrays)
    asked = ("restore", scan, "-o", tmp_path / "out.nii.gz", "--model", tiny, "--volumes", "joint", "-q")
    status, _, errors = cli(*asked)
    assert (status, errors) == (0, "")
    records = json.loads((tmp_path / "out.json").read_text())
    assert [record["output"]["volume"] for record in records] == [0, 1, 2]
    assert {record["settings"]["volumes"] for record in records} == {"joint"}
    one = save(tmp_path / "one_T1w.nii", arrays[..., 0])
    status, _, errors = cli(
        "restore", one, "-o", tmp_path / "one.nii.gz", "--model", tiny, "--volumes", "joint"
    )
    assert status == 5
    assert "the scan has 1 volume" in errors


def load_by_course(context):
    """Keep of every voxel's course its mean, its drift and what follows the blocks of a trial's lesions."""
    del context

    def denoise(x, sigma, condition):
        times = np.arange(len(x)) - len(x) // 2
        courses = np.stack([np.ones(len(x)), times, (times + BLOCK // 2) // BLOCK % 2], axis=1)
        onto = torch.from_numpy((courses @ np.linalg.pinv(courses)).astype(np.float32))
        return torch.tensordot(onto, condition.image, dims=1)

    return denoise


def test_a_model_of_series_is_shown_the_same_in_other_noise_and_lesions_that_come_and_go():
    scene = computed(spec(halo=1), 48, 0)
    changed = scene.truth + np.float32(100)
    plain, scans = scene.scans(), scene.scans(changed)
    np.testing.assert_array_equal(plain[VOLUMES // 2].array, scene.scan.array)
    times = np.arange(VOLUMES) - VOLUMES // 2
    there = (times + BLOCK // 2) // BLOCK % 2 == 0
    more = [float((b.array - a.array)[scene.deep].mean()) for a, b in zip(plain, scans, strict=True)]
    assert more == pytest.approx(100.0 * there, abs=2.5)
    first, last = (plain[n].array[scene.deep] for n in (0, -1))
    # Noise of its own in every volume, and a drift of the signal.
    assert (last - first).std() == pytest.approx(2**0.5 * scene.sigma, rel=0.1)
    assert abs(float((last - first).mean())) < scene.sigma


def test_a_trial_asks_a_model_of_series_all_but_what_a_batch_does(monkeypatch):
    monkeypatch.setattr(shown, "VOLUMES", 5)
    outcomes = verify(
        spec(), TrialOptions(only=("contract", "licence", "batch", "geometry"), side=48)
    ).outcomes
    assert [name for name, one in outcomes.items() if one.status is not Status.PASSED] == ["batch"]
    assert outcomes["batch"].status is Status.SKIPPED
    assert outcomes["geometry"].figures


@pytest.mark.slow
def test_a_response_that_a_model_of_series_averages_away_fails_a_trial(monkeypatch):
    monkeypatch.setattr(lesions, "CONTRASTS", (5.0,))
    options = TrialOptions(only=("lesions",), side=48)
    assert verify(spec(load=load_by_course), options).failed == ()
    averaged = verify(spec(), options)
    assert averaged.failed == ("lesions",)
    kept = [one.value for one in averaged.outcomes["lesions"].figures]
    assert kept == pytest.approx([11 / VOLUMES] * len(kept), abs=0.03)


def test_a_scan_is_no_series_for_a_trial():
    with pytest.raises(ConfigError, match="mean takes series, and a scan to try a model on is one volume"):
        verify(spec(), TrialOptions(only=("licence",), scans=(series(1)[0],)))
