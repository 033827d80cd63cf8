"""Restored on the grid that was measured, told the colour of the noise, and put back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import model_folder

import medrestore
from medrestore import Modality, RestoreOptions, Volume
from medrestore.engine import Observers, load_model
from medrestore.engine.run import ModelRun
from medrestore.engine.tasks import denoising, trial
from medrestore.noise import Certainty
from medrestore.noise.measured_grid import find_measured_grid
from medrestore.physics.kspace import band_limit, crop_band, fill_band, fourier_frequencies, outer
from medrestore.plugin import read_model_folder

SIDE = 64
LEVEL = 0.05


def head(side: int = SIDE) -> np.ndarray:
    """A bright ellipsoid with darker parts, air around it."""
    axes = np.meshgrid(*(np.linspace(-1, 1, side),) * 3, indexing="ij")
    radius = np.sqrt(sum((axis / size) ** 2 for axis, size in zip(axes, (0.7, 0.75, 0.65), strict=True)))
    image = 100.0 / (1 + np.exp((radius - 1) * 25))
    for centre in ((0.2, 0.1, 0), (-0.25, 0.2, 0.1), (0, -0.3, 0.2)):
        near = np.sqrt(sum((axis - at) ** 2 for axis, at in zip(axes, centre, strict=True)))
        image -= 35 / (1 + np.exp((near - 0.18) * 30))
    return image.astype(np.float32)


def scanned(clean: np.ndarray, band: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A magnitude with noise of `LEVEL`, zero-filled along two axes, and what it is without noise."""
    edges = (band, band, 1.0)
    window = outer([band_limit(e)(fourier_frequencies(n)) for e, n in zip(edges, clean.shape, strict=True)])
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((2, *clean.shape))
    noise = np.fft.ifftn(np.fft.fftn(white[0] + 1j * white[1]) * window)
    noise *= LEVEL * np.percentile(clean, 99) / noise.real.std()
    image = np.fft.ifftn(np.fft.fftn(clean) * window).real
    return np.abs(image + noise).astype(np.float32), np.abs(image).astype(np.float32)


def mr(array: np.ndarray) -> Volume:
    return Volume.from_array(array, np.eye(4), modality=Modality.MR)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = model_folder(tmp_path_factory.mktemp("models") / "tiny")
    return load_model(RestoreOptions(model=str(folder), device="cpu"))


@pytest.mark.parametrize("sizes", [(48, 40, 64), (64, 33, 50)])
def test_there_and_back_is_exact_within_the_band(sizes):
    rng = np.random.default_rng(3)
    image = fill_band(rng.standard_normal(sizes).astype(np.float32), (64, 64, 64))
    grid = find_measured_grid(image, sizes)
    np.testing.assert_allclose(grid.restored(grid.measured(image)), image, atol=1e-5)


def test_what_stands_out_beyond_the_band_is_kept_and_the_rest_counted():
    image = fill_band(crop_band(head(), (32, 64, 64)), (64, 64, 64))
    marked = image.copy()
    marked[10, 10, 10] += 500
    grid = find_measured_grid(marked + np.random.default_rng(0).normal(0, 0.1, image.shape), (32, 64, 64))
    back = grid.restored(grid.measured(marked))
    assert back[10, 10, 10] > 450
    assert grid.left_out == pytest.approx(0.1 * 0.5**0.5, rel=0.15)


def test_a_scan_that_was_cut_after_its_reconstruction_does_not_wrap():
    whole = fill_band(crop_band(head(), (32, 64, 64)), (64, 64, 64))
    cut, sizes = whole[20:52], (16, 64, 64)
    found = find_measured_grid(cut, sizes)
    assert found.mirrored == (True, False, False)
    inside = found.delivered(found.measured(cut))
    wrapped = fill_band(crop_band(cut, sizes), cut.shape)
    assert np.abs(inside - cut).max() < 0.4 * np.abs(wrapped - cut).max()


def test_one_grid_is_no_work():
    grid = find_measured_grid(head(16), (16, 16, 16))
    image = head(16)
    assert grid.is_whole and grid.measured(image) is image and grid.restored(image) is image


def test_a_zero_filled_scan_is_restored_on_its_own_grid(model):
    noisy, _ = scanned(head(), 0.5)
    result = medrestore.restore(mr(noisy), model=model)
    axes = result.record.noise["measured"]["axes"]
    assert [axis["size"] for axis in axes][2] == SIDE
    assert all(abs(axis["band"] - 0.5) < 0.07 for axis in axes[:2])  # a sample of this grid is 0.03
    assert result.record.noise["fraction"] == pytest.approx(LEVEL, rel=0.1)
    assert result.volume.array.shape == noisy.shape
    assert result.volume.geometry.allclose(mr(noisy).geometry)
    assert result.volume.array.min() >= 0
    assert result.record.noise["beyond_band"] < 0.6


def test_samples_and_their_deviation_come_back_on_the_grid_of_the_scan(model):
    noisy, _ = scanned(head(), 0.5)
    options = RestoreOptions(samples=2, steps=2, seed=1)
    result = medrestore.restore(mr(noisy), options, model=model)
    assert result.std.array.shape == noisy.shape and result.std.array.min() >= 0


def test_tiles_make_no_difference_on_the_measured_grid(model):
    noisy, _ = scanned(head(), 0.5)
    whole = medrestore.restore(mr(noisy), model=model).volume.array
    tiled = medrestore.restore(mr(noisy), RestoreOptions(tile=32), model=model).volume.array
    np.testing.assert_allclose(tiled, whole, atol=1e-3 * float(whole.max()))


def test_a_model_is_told_the_colour_only_if_it_says_so(tmp_path, model):
    noisy, _ = scanned(head(), 1.0)
    plain = denoising.noisy_voxels(mr(noisy), model.spec, RestoreOptions())
    assert plain.condition.details == ()
    folder = model_folder(tmp_path / "colour", colour=True)
    told = denoising.noisy_voxels(mr(noisy), read_model_folder(folder), RestoreOptions())
    assert len(told.condition.details) == 4
    assert told.condition.details[3] == 1.0


class Smoothing:
    """A denoiser that takes all detail out above a level of `good`, and below it a share of that noise."""

    def __init__(self, good: float, share: float = 0.9) -> None:
        self.good, self.share, self.levels = good, share, []

    def __call__(self, x, sigma, condition):
        self.levels.append(condition.sigma)
        if condition.sigma < self.good:
            noise = torch.randn(condition.image.shape, generator=torch.Generator().manual_seed(0))
            return condition.image - self.share * condition.sigma * noise
        return torch.nn.functional.avg_pool3d(condition.image, 9, stride=1, padding=4)


def test_a_level_that_takes_edges_is_lowered_and_then_warned_of(model):
    measurement = unsure(model)
    denoiser = Smoothing(good=0.0)
    settled = measurement.settled(denoiser)
    tries = len(denoiser.levels)
    assert trial.LOWEST * trial.LOWER <= trial.LOWER ** (tries - 1) <= trial.LOWEST
    assert settled.noise.sigma == pytest.approx(measurement.noise.sigma * trial.LOWER ** (tries - 1))
    assert any("fine anatomy may go with the noise" in finding.text for finding in settled.findings)


def test_a_level_that_was_lowered_out_of_the_range_of_the_model_is_warned_of(model):
    measurement = unsure(model)
    level = measurement.noise.fraction
    spec = replace(model.spec, noise=(0.8 * level, 1.2 * level))
    used = replace(model, spec=spec, denoiser=Smoothing(good=0.0))
    settled, findings = ModelRun(used, RestoreOptions(), None, Observers()).settled(measurement)
    assert settled.noise.fraction < 0.5 * level
    (found,) = [one for one in findings if one.code == "noise-outside-model"]
    assert found.data["fraction"] == settled.noise.fraction


def test_what_lies_beyond_the_band_is_told_relative_to_the_level_that_is_used(model):
    noisy, _ = scanned(head(), 0.5)
    found = denoising.noisy_voxels(mr(noisy), model.spec, RestoreOptions())
    lowered = found.at(0.5).noise
    assert lowered.beyond_band * lowered.sigma == pytest.approx(found.noise.beyond_band * found.noise.sigma)


def test_a_level_is_lowered_no_further_than_it_must(model):
    measurement = unsure(model)
    denoiser = Smoothing(good=0.7 * measurement.condition.sigma)
    assert measurement.settled(denoiser).noise.sigma == pytest.approx(0.64 * measurement.noise.sigma)


def test_a_level_that_takes_no_edges_stays(model):
    measurement = unsure(model)
    denoiser = Smoothing(good=1e9)
    settled = measurement.settled(denoiser)
    assert len(denoiser.levels) == 1
    assert settled.noise == measurement.noise
    assert settled.findings == measurement.findings


def test_noise_that_the_model_does_not_find_is_not_there(model):
    measurement = replace(unsure(model), tells_noise=True)
    left = measurement.settled(Smoothing(good=1e9, share=0.2))
    assert left.skip_reason.code == "noise-not-found"
    assert left.noise == measurement.noise  # intervals, which no model narrows then, are those of the noise
    assert left.skip_reason.data["fraction"] == measurement.noise.fraction
    assert measurement.settled(Smoothing(good=1e9, share=0.6)).skip_reason is None
    assert measurement.settled(Smoothing(good=1e9, share=0.0)).skip_reason is not None
    # A filter of somebody else may be weak.
    assert unsure(model).settled(Smoothing(good=1e9, share=0.2)).skip_reason is None


@pytest.mark.parametrize(
    ("deviation", "edges", "neighbours", "there"),
    [
        (0.2, -0.2, 0.0, False),
        (0.3, -0.2, 0.0, True),
        (0.4, -0.05, 0.0, False),
        (0.4, -0.1, 0.0, True),
        (0.4, -0.1, 0.45, False),
        (0.6, 0.0, 0.5, True),
    ],
)
def test_little_of_a_level_taken_out_tells_that_it_is_no_noise(deviation, edges, neighbours, there):
    assert trial.TakenOut(edges, 3.5, deviation, neighbours).is_not_there is not there


def test_a_level_is_lowered_though_the_kurtosis_grows():
    """As it does where there is no noise, and texture was read as some."""
    found, taken = trial.settle(lambda factor: trial.TakenOut(0.0, 4.5 * factor**-0.3), leans_low=True)
    assert found == pytest.approx(trial.LOWER**5)
    assert taken.has_anatomy


@pytest.mark.parametrize(("kept", "levels"), [(1.0, 2), (0.99, 2), (0.97, 0)])
def test_a_level_is_raised_while_as_much_more_is_taken_out(kept, levels):
    def taken_out(factor: float) -> trial.TakenOut:
        return trial.TakenOut(-0.2, 3.1, 0.7 * kept ** (np.log(factor) / np.log(trial.HIGHER)))

    found, _ = trial.settle(taken_out, leans_low=True)
    assert found == pytest.approx(trial.HIGHER**levels)


def unsure(model):
    """A measurement of a scan of whose noise nobody is sure."""
    noisy, _ = scanned(head(), 1.0)
    made = denoising.noisy_voxels(mr(noisy), model.spec, RestoreOptions())
    measured = replace(made.noise.measured, certainty=Certainty.UNSURE)
    return replace(made, noise=replace(made.noise, measured=measured))


def test_a_given_level_is_taken_at_its_word(model):
    noisy, _ = scanned(head(), 0.5)
    result = medrestore.restore(mr(noisy), RestoreOptions(noise=3.0), model=model)
    assert result.record.noise["sigma"] == 3.0
    assert result.record.noise["measured"]["axes"][0]["band"] < 0.6  # the band is measured all the same
