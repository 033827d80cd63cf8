"""Training in CT: computed anatomy, a bank of noise, and pairs that share place and orientation."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import CommandLine, save

from medrestore.io import read
from medrestore.noise.ct import estimate_ct_noise
from medrestore.training import anatomy, ct_corpus, load_config
from medrestore.training.contrast import Orientation, random_orientation
from medrestore.training.corpus import Corpus
from medrestore.training.ct_noise import FLOOR, NoiseBank, smoothed, unit_noise, with_ct_noise
from medrestore.training.patches import PatchSampler
from medrestore.training.place import Place
from medrestore.training.recipe import AugmentationOptions, CtOptions, DataOptions

CONFIG = """
[data]
roots = ["scans"]
scans = ["*.nii"]
spacings_mm = []

[network]
name = "voxelnet"
options = { widths = [8, 8], down = [1, 1], up = [1] }

[loop]
steps = 2
batch = 2
patch = 16
validate_steps = 2
bfloat16 = false

[augmentation]
tone_curve = 0.0
bias_field = 0.0
synthetic = 0.5

[ct]
kernels = ["soft", "sharp"]
phantoms = 1

[model]
name = "tiny-ct"
title = "A tiny network that nobody trained"
task = "denoise"
modalities = ["CT"]
licence = "Apache-2.0"
reference = "none"
intensity = "attenuation"
spacing_mm = [0.6, 5.0]
noise = [0.006, 0.15]
"""


def section(size: int = 32, slices: int = 20) -> np.ndarray:
    """A body of soft tissue with bone in it, in HU, padded at one side."""
    x, y = np.meshgrid(*(np.linspace(-1, 1, size),) * 2, indexing="ij")
    plane = np.where(np.hypot(x, y) < 0.8, 50.0, -1000.0)
    plane[np.hypot(x, y + 0.4) < 0.15] = 700
    plane[:2] = -3024
    return plane[:, :, None].repeat(slices, axis=2).astype(np.float32)


def small_torso(rng: np.random.Generator) -> anatomy.Phantom:
    return anatomy.Phantom(np.maximum(section(), -1000), (6.0, 6.0, 3.0))


@pytest.fixture
def config(tmp_path, monkeypatch):
    (tmp_path / "scans").mkdir()
    save(tmp_path / "scans" / "one.nii", section(), spacing=6.0)
    monkeypatch.setattr(anatomy, "torso", small_torso)
    path = tmp_path / "train.toml"
    path.write_text(CONFIG)
    return path


def last_score(log) -> float:
    return float(log.read_text().strip().splitlines()[-1].rpartition(",")[2])


def bank_of(scan: np.ndarray) -> NoiseBank:
    model = np.maximum(scan / 1000 + 1, 0)
    noise = unit_noise(model, (6.0, 6.0, 3.0), CtOptions(kernels=("soft",)), np.random.default_rng(0))
    return NoiseBank([noise], own=[0.0])


def test_a_patch_and_its_noise_are_cut_and_turned_alike():
    volume = np.random.default_rng(0).normal(size=(20, 22, 24)).astype(np.float32)
    corpus = Corpus([volume], [], (), in_plane=True)
    config = CtOptions()

    def degrade(clean, place, rng):
        np.testing.assert_allclose(clean, place.cut(volume, 16), rtol=1e-6)
        return with_ct_noise(clean, place, NoiseBank([volume[None]], [0.0]), config, rng)

    options = AugmentationOptions(tone_curve=0, bias_field=0, scale=0)
    batch = PatchSampler(corpus, 16, options, degrade).batch(12, (1, 2))
    assert batch.scan.shape == (12, 1, 16, 16, 16)


def test_noise_starts_anew_where_the_scan_ends():
    volume = np.arange(6 * 6 * 4, dtype=np.float32).reshape(6, 6, 4)
    cut = Place(0, (1, 2, 0)).cut(volume, 6, shift=-1)
    np.testing.assert_array_equal(cut[0, 0], volume[1, 2, [3, 0, 1, 2, 3, 0]])
    turned = Place(0, (1, 2, 0), Orientation((1, 0, 2), (1, -1, 1))).cut(volume, 6, shift=-1)
    np.testing.assert_array_equal(turned, cut.transpose(1, 0, 2)[:, ::-1])


def test_slices_stay_slices():
    orders = {random_orientation(np.random.default_rng(i), in_plane=True).order for i in range(30)}
    assert orders == {(0, 1, 2), (1, 0, 2)}
    assert len({random_orientation(np.random.default_rng(i)).order for i in range(60)}) == 6


def test_the_bank_has_unit_level_where_the_estimator_reads_it():
    scan = np.maximum(section(), -1000)
    (field,) = bank_of(scan).fields
    assert field.dtype == np.float16
    noisy = scan + 30 * field[0].astype(np.float32)
    assert estimate_ct_noise(noisy) == pytest.approx(30, rel=0.15)


def test_the_model_is_told_the_level_and_draws_differ():
    scan = np.maximum(section(), -1000)
    bank, options = (
        bank_of(scan),
        CtOptions(noise=(0.05, 0.05), estimate_error=0.0, clipped=0.0, smoothed=0.0),
    )
    clean = np.ones((16, 16, 16), dtype=np.float32)
    place = Place(0, (8, 8, 2))
    made = [with_ct_noise(clean, place, bank, options, np.random.default_rng(i)) for i in range(2)]
    assert made[0].sigma == pytest.approx(0.05)
    assert (made[0].gain == 1).all()
    assert (made[0].scan - clean).std() == pytest.approx(0.05, rel=0.3)
    correlation = np.corrcoef(*((m.scan - clean).ravel() for m in made))[0, 1]
    assert abs(correlation) < 0.5
    clipped = CtOptions(noise=(0.1, 0.1), clipped=1.0)
    air = with_ct_noise(0 * clean, place, bank, clipped, np.random.default_rng(0))
    assert air.scan.min() == pytest.approx(FLOOR)


@pytest.mark.parametrize("kernels", [1, 3])
def test_noise_that_is_mixed_with_itself_keeps_its_level(kernels):
    field = np.random.default_rng(0).standard_normal((kernels, 24, 24, 1)).astype(np.float16)
    bank, place = NoiseBank([field], [0.0]), Place(0, (0, 0, 0))
    options = CtOptions(single=0.0, smoothed=0.0)
    levels = [bank.draw(place, 24, options, np.random.default_rng(i)).std() for i in range(60)]
    assert levels == pytest.approx([1] * 60, rel=0.15)


def test_a_scan_gets_no_weaker_noise_than_its_own():
    clean, place = np.ones((16, 16, 16), dtype=np.float32), Place(0, (8, 8, 2))
    fields = bank_of(np.maximum(section(), -1000)).fields
    options = CtOptions(noise=(0.01, 0.1), estimate_error=0.0)

    def told(own: float) -> list[float]:
        bank = NoiseBank(fields, [own])
        return [with_ct_noise(clean, place, bank, options, np.random.default_rng(i)).sigma for i in range(40)]

    assert min(told(0.0)) < 0.015
    assert 0.05 <= min(told(0.05)) < 0.06
    assert told(0.3) == pytest.approx([0.1] * 40)


def test_the_noise_that_a_scan_has_is_read_before_it_is_cleaned(tmp_path):
    noisy = section(96, 24) + np.random.default_rng(0).normal(0, 40, (96, 96, 24)).astype(np.float32)
    volume = read(save(tmp_path / "noisy.nii", noisy, spacing=0.6))
    options = DataOptions(
        roots=(), scans=(), spacings_mm=(), slices_mm=(2.4,), denoise_with="ct-denoise", denoise_above=0.005
    )
    (whole, _, own), (thick, step, less) = ct_corpus.resolutions(volume, options)
    assert own == pytest.approx(0.040, rel=0.15)
    assert less == pytest.approx(0.020, rel=0.2)
    assert step[2] == pytest.approx(2.4)
    assert thick.shape[2] == 6
    inside = (slice(40, 56), slice(60, 76))
    assert whole[inside].std() < 0.01


def test_smoothing_changes_the_texture_and_not_the_level():
    noise = np.random.default_rng(0).normal(size=(24, 24, 24)).astype(np.float32)
    soft = smoothed(noise, 0.8, 0.0)
    assert soft.std() == pytest.approx(noise.std(), rel=1e-3)
    assert np.mean(soft[1:] * soft[:-1]) > 0.4


def test_a_corpus_is_made_once_and_again_after_a_change(config, tmp_path, monkeypatch):
    settings = load_config(config)
    first, bank = ct_corpus.load_ct(settings, settings.ct, tmp_path, tmp_path / "work")
    assert first.phantoms == 1 and first.in_plane and first.files == ("one.nii",)
    assert first.scans[0].min() >= FLOOR - 1e-6  # padding has become air
    assert [f.shape[1:] for f in bank.fields] == [s.shape for s in first.scans]
    np.testing.assert_allclose(first.weights(0.25), [0.75, 0.25])

    def never(*_):
        raise AssertionError("made again")

    monkeypatch.setattr(ct_corpus, "unit_noise", never)
    again, _ = ct_corpus.load_ct(settings, settings.ct, tmp_path, tmp_path / "work")
    np.testing.assert_array_equal(again.scans[1], first.scans[1])
    with pytest.raises(AssertionError, match="made again"):
        ct_corpus.load_ct(settings, CtOptions(phantoms=1, helical=0.1), tmp_path, tmp_path / "work")
    save(tmp_path / "scans" / "one.nii", section() + 1, spacing=6.0)
    with pytest.raises(AssertionError, match="made again"):
        ct_corpus.load_ct(settings, settings.ct, tmp_path, tmp_path / "work")


def test_a_damaged_corpus_is_made_again(config, tmp_path, monkeypatch):
    settings = load_config(config)
    ct_corpus.load_ct(settings, settings.ct, tmp_path, tmp_path / "work")

    def never(*_):
        raise AssertionError("made again")

    monkeypatch.setattr(ct_corpus, "unit_noise", never)
    (tmp_path / "work" / "ct-corpus.npz").write_bytes(b"cut off")
    with pytest.raises(AssertionError, match="made again"):
        ct_corpus.load_ct(settings, settings.ct, tmp_path, tmp_path / "work")


def test_from_a_configuration_to_a_folder_that_restores(config, tmp_path, monkeypatch, capsys):
    run = CommandLine(monkeypatch, capsys)
    status, _, errors = run("train", config, "-o", tmp_path / "work", "--device", "cpu")
    assert status == 0, errors
    assert "validation PSNR" in errors
    card = (tmp_path / "work" / "model" / "README.md").read_text()
    assert "simulated in projections" in card and "Rician" not in card
    scan = save(tmp_path / "scan.nii", section(16, 8) + 20, spacing=3.0)
    model = tmp_path / "work" / "model"
    status, _, errors = run("restore", scan, "-o", tmp_path / "out.nii", "--model", model, "-q")
    assert status == 0, errors
    score = last_score(tmp_path / "work" / "log.csv")
    assert 10 < score < 60


def test_computed_bodies_and_heads_look_like_ct():
    labels = np.zeros((24, 28, 22), dtype=np.uint8)
    labels[6:18, 6:22, 6:16] = 3
    labels[9:15, 10:18, 8:14] = 2
    head = anatomy.head(labels, np.random.default_rng(0))
    assert head.hu.min() < -900 and head.hu.max() > 500
    assert np.mean((head.hu > 20) & (head.hu < 60)) > 0.02
    body = anatomy.torso(np.random.default_rng(1))
    tissue = np.histogram(body.hu, [-1100, -900, -150, -50, 0, 120, 3000])[0] / body.hu.size
    assert tissue[0] > 0.1 and tissue[2] > 0.05 and tissue[4] > 0.05 and tissue[5] > 0.005
    np.testing.assert_array_equal(body.hu, anatomy.torso(np.random.default_rng(1)).hu)
