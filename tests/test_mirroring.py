"""The mean over mirror images of a scan."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SUPERRES, model_folder, noisy, phantom

import medrestore
from medrestore.diffusion import Condition
from medrestore.engine import RestoreOptions, restore
from medrestore.engine.mirroring import AXES, MirroredDenoiser
from medrestore.engine.restore import Observers
from medrestore.errors import ConfigError, PluginError
from medrestore.plugin import MIRRORS, read_model_folder


class Leaning:
    """Moves the scan over its noise by one voxel along every axis, and keeps account."""

    def __init__(self) -> None:
        self.calls: list[float] = []

    def __call__(self, x: torch.Tensor, sigma: float, condition: Condition) -> torch.Tensor:
        self.calls.append(sigma)
        gain = 1.0 if condition.gain is None else condition.gain
        return (condition.image / gain).roll((1, 1, 1), (2, 3, 4))


@pytest.fixture
def volume() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((1, 1, 5, 6, 7)).astype(np.float32))


def test_the_images_are_different_and_the_first_is_the_scan():
    assert AXES[0] == ()
    assert sorted(AXES) == sorted({tuple(axes) for axes in AXES})
    assert len(AXES) == max(MIRRORS) == 8


def test_eight_images_lean_nowhere(volume):
    mean = MirroredDenoiser(Leaning(), 8)(volume, math.inf, Condition(volume, 0.1))
    moves = [volume.roll((a, b, c), (2, 3, 4)) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]
    torch.testing.assert_close(mean, torch.stack(moves).mean(dim=0))


def test_two_images_are_turned_around_along_every_axis(volume):
    mean = MirroredDenoiser(Leaning(), 2)(volume, math.inf, Condition(volume, 0.1))
    both = volume.roll((1, 1, 1), (2, 3, 4)) + volume.roll((-1, -1, -1), (2, 3, 4))
    torch.testing.assert_close(mean, both / 2)


def test_the_map_of_the_noise_is_turned_with_the_scan(volume):
    gain = torch.linspace(0.5, 2, 5)[None, None, :, None, None].expand(volume.shape)
    told = MirroredDenoiser(Leaning(), 8)(volume, math.inf, Condition(volume, 0.1, gain=gain))
    moved = MirroredDenoiser(Leaning(), 8)(volume / gain, math.inf, Condition(volume / gain, 0.1))
    torch.testing.assert_close(told, moved)


@pytest.mark.parametrize(("sigma", "calls"), [(math.inf, 4), (0.1, 1)])
def test_samplers_see_one_image(volume, sigma, calls):
    denoiser = Leaning()
    MirroredDenoiser(denoiser, 4)(volume, sigma, Condition(volume, 0.1))
    assert denoiser.calls == [sigma] * calls


def scan() -> medrestore.Volume:
    return medrestore.Volume.from_array(noisy(phantom(24), 0.05), np.eye(4), medrestore.Modality.MR)


def run(model: Path, mirrors: int | None, **options: object) -> medrestore.Restoration:
    wish = RestoreOptions(model=str(model), noise="5%", mirrors=mirrors, **options)  # type: ignore[arg-type]
    return restore(scan(), wish)


def test_the_mean_over_images_is_that_of_results_of_mirrored_scans(tmp_path):
    model = model_folder(tmp_path / "model")
    turned = scan().array[::-1, ::-1, ::-1]
    other = restore(
        scan().with_array(np.ascontiguousarray(turned), medrestore.provenance.Step("turned")),
        RestoreOptions(model=str(model), noise="5%"),
    ).volume.array[::-1, ::-1, ::-1]
    single, both = run(model, 1).volume.array, run(model, 2).volume.array
    assert np.abs(single - other).max() > 1
    kept = (single > 0) & (other > 0)  # elsewhere a negative estimate was cut off, before or after the mean
    assert kept.mean() > 0.9
    np.testing.assert_allclose(both[kept], (single + other)[kept] / 2, atol=1e-3)


def test_a_model_says_how_many_and_the_user_has_the_last_word(tmp_path):
    model = model_folder(tmp_path / "model", mirrors=4)
    assert read_model_folder(model).mirrors == 4
    assert run(model, None).record.settings["mirrors"] == 4
    one = run(model, 1)
    assert one.record.settings["mirrors"] == one.volume.history[-1].params["mirrors"] == 1
    np.testing.assert_array_equal(run(model, None).volume.array, run(model, 4).volume.array)


def test_slices_are_reproduced_by_the_mean_over_images(tmp_path):
    model = model_folder(tmp_path / "model", **SUPERRES)
    stack = phantom(32).reshape(32, 32, 8, 4).mean(axis=3)
    thick = medrestore.Volume.from_array(stack, np.diag([1, 1, 4, 1]), medrestore.Modality.MR)
    wish = RestoreOptions(model=str(model), task=medrestore.Task.SUPERRES, noise=0.0, mirrors=4)
    assert restore(thick, wish).record.slices["residual_rms_of_p99"] < 1e-4


def test_progress_counts_every_image(tmp_path):
    model, seen = model_folder(tmp_path / "model"), []
    wish = RestoreOptions(model=str(model), noise="5%", mirrors=4, samples=1, steps=1)
    restore(scan(), wish, observers=Observers(progress=lambda done, total: seen.append((done, total))))
    assert seen[-1][0] == seen[-1][1]
    assert len(seen) == 5


@pytest.mark.parametrize("mirrors", [0, 3, 16])
def test_other_numbers_are_refused(mirrors, tmp_path):
    with pytest.raises(ConfigError, match="mirrors"):
        RestoreOptions(mirrors=mirrors)
    with pytest.raises((ConfigError, PluginError), match="mirrors"):
        model_folder(tmp_path / "model", mirrors=mirrors)
