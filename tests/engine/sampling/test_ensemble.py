"""The self-ensemble: estimates from the scan turned around and moved by a voxel."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SUPERRES, model_folder, noisy, phantom

import medrestore
from medrestore.diffusion import Condition, Denoiser
from medrestore.engine import Observers, RestoreOptions, load_model, restore
from medrestore.engine.sampling.ensemble import SLICE_VIEWS, VIEWS, View
from medrestore.engine.sampling.tiled_denoiser import (
    StreamedDenoiser,
    TiledDenoiser,
    cut_mirrored,
    plan_tiles,
    whole_shape,
)
from medrestore.errors import ConfigError, PluginError
from medrestore.plugin import ENSEMBLES, read_model_folder

PLACES = torch.arange(5 * 6 * 7, dtype=torch.float32).reshape(1, 1, 5, 6, 7)
WHOLE = tuple(slice(0, extent) for extent in PLACES.shape[2:])
INNER = (..., slice(1, -1), slice(1, -1), slice(1, -1))


class Leaning:
    """Moves the scan over its noise by one voxel along every axis, and keeps account."""

    def __init__(self) -> None:
        self.calls: list[float] = []

    def __call__(self, x: torch.Tensor, sigma: float, condition: Condition) -> torch.Tensor:
        self.calls.append(sigma)
        gain = 1.0 if condition.gain is None else condition.gain
        return (condition.image / gain).roll((1, 1, 1), (2, 3, 4))


def rough(x: torch.Tensor, sigma: float, condition: Condition) -> torch.Tensor:
    """Add one to every second voxel along X: what folding into blocks may leave."""
    estimate = condition.image.clone()
    estimate[:, :, ::2] += 1
    return estimate


def over(denoiser: Denoiser, size: int, tile: int = 2**31, halo: int = 0) -> TiledDenoiser:
    tiled = TiledDenoiser(denoiser, tile, halo, multiple=1)
    tiled.views = VIEWS[:size]
    return tiled


def test_every_way_to_turn_and_every_way_to_move_is_there_once():
    assert len({view.turned for view in VIEWS}) == len({view.moved for view in VIEWS}) == 8 == max(ENSEMBLES)
    assert VIEWS[0] == View()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("beyond", [0, 3])
def test_a_view_comes_back_to_its_place(view, beyond):
    mean = torch.full_like(PLACES, -1.0)
    box = tuple(slice(0, span.stop + beyond) for span in WHOLE)
    view.average(mean, box, cut_mirrored(PLACES, box, view), 0.5)
    hidden = torch.zeros_like(PLACES, dtype=torch.bool)
    for axis in view.moved:
        hidden.select(axis + 2, -1).fill_(value=True)
    torch.testing.assert_close(mean, torch.where(hidden, -1.0, (PLACES - 1) / 2))


@pytest.mark.parametrize("view", VIEWS)
def test_parts_of_a_view_come_back_like_the_whole(view):
    mean = torch.zeros_like(PLACES)
    for x in range(0, 5, 2):
        for z in range(7):
            box = (slice(x, x + 2), WHOLE[1], slice(z, z + 1))
            view.average(mean, box, cut_mirrored(PLACES, box, view), 0.5)
    whole = torch.zeros_like(PLACES)
    view.average(whole, WHOLE, cut_mirrored(PLACES, WHOLE, view), 0.5)
    torch.testing.assert_close(mean, whole)


def test_a_view_is_moved_by_one_voxel_and_turned():
    seen = cut_mirrored(PLACES, WHOLE, View(turned=(0,), moved=(0, 2)))
    torch.testing.assert_close(seen[0, 0, 0, :, 1:], PLACES[0, 0, 3, :, :-1])
    torch.testing.assert_close(seen[0, 0, -1, :, 0], PLACES[0, 0, 0, :, 0])


def test_one_plane_is_no_obstacle():
    slices = PLACES[..., :1].contiguous()
    found = over(lambda x, sigma, condition: condition.image.clone(), 8)
    torch.testing.assert_close(found(slices, math.inf, Condition(slices, 0.1)), slices)


def test_every_estimate_of_one_plane_counts():
    calls = iter(range(8))
    slices = PLACES[..., :1].contiguous()
    found = over(lambda x, sigma, condition: torch.full_like(condition.image, float(next(calls))), 8)
    mean = found(slices, math.inf, Condition(slices, 0.1))
    torch.testing.assert_close(mean[:, :, 1:-1, 1:-1], torch.full_like(mean[:, :, 1:-1, 1:-1], 3.5))


def test_eight_estimates_lean_nowhere():
    volume = torch.from_numpy(np.random.default_rng(0).random((1, 1, 9, 9, 9)).astype(np.float32))
    mean = over(Leaning(), 8)(volume, math.inf, Condition(volume, 0.1))
    moves = [volume.roll((a, b, c), (2, 3, 4)) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]
    inner = (..., slice(2, -2), slice(2, -2), slice(2, -2))
    torch.testing.assert_close(mean[inner], torch.stack(moves).mean(dim=0)[inner])


@pytest.mark.parametrize(("size", "left"), [(1, 0.5), (4, 0.0), (8, 0.0)])
def test_what_differs_between_neighbours_averages_out(size, left):
    volume = torch.zeros(1, 1, 8, 8, 8)
    mean = over(rough, size)(volume, math.inf, Condition(volume, 0.1))
    assert (mean - mean[INNER].mean())[INNER].abs().max() == pytest.approx(left, abs=1e-6)


def test_the_map_of_the_noise_is_seen_like_the_scan():
    gain = torch.linspace(0.5, 2, 5)[None, None, :, None, None].expand(PLACES.shape)
    told = over(Leaning(), 8)(PLACES, math.inf, Condition(PLACES, 0.1, gain=gain))
    flat = PLACES / gain
    torch.testing.assert_close(told, over(Leaning(), 8)(flat, math.inf, Condition(flat, 0.1)))


@pytest.mark.parametrize(("sigma", "calls"), [(math.inf, 4), (0.1, 1)])
def test_samplers_see_one_view(sigma, calls):
    denoiser = Leaning()
    over(denoiser, 4)(PLACES, sigma, Condition(PLACES, 0.1))
    assert denoiser.calls == [sigma] * calls


def scan() -> medrestore.Volume:
    return medrestore.Volume.from_array(noisy(phantom(24), 0.05), np.eye(4), medrestore.Modality.MR)


def run(model: Path, ensemble: int | None, **options: object) -> medrestore.Restoration:
    requested = RestoreOptions(model=str(model), noise="5%", ensemble=ensemble, **options)  # type: ignore[arg-type]
    return restore(scan(), requested)


def test_a_model_says_how_many_and_the_user_has_the_last_word(tmp_path):
    model = model_folder(tmp_path / "model", ensemble=4)
    assert read_model_folder(model).ensemble == 4
    four, one = run(model, None), run(model, 1)
    assert four.record.settings["ensemble"] == four.volume.history[-1].params["ensemble"] == 4
    assert one.record.settings["ensemble"] == 1
    np.testing.assert_array_equal(four.volume.array, run(model, 4).volume.array)
    assert np.abs(four.volume.array - one.volume.array).max() > 1


def test_slices_are_turned_but_not_moved_across():
    assert [view.turned for view in SLICE_VIEWS] == [view.turned for view in VIEWS]
    assert {view.moved for view in SLICE_VIEWS} == {(), (0,), (1,), (0, 1)}


def test_slices_are_reproduced_by_the_mean(tmp_path):
    model = model_folder(tmp_path / "model", **SUPERRES)
    stack = phantom(32).reshape(32, 32, 8, 4).mean(axis=3)
    thick = medrestore.Volume.from_array(stack, np.diag([1, 1, 4, 1]), medrestore.Modality.MR)
    requested = RestoreOptions(model=str(model), task=medrestore.Task.SUPERRES, noise=0.0, ensemble=4)
    assert restore(thick, requested).record.slices["residual_rms_of_p99"] < 1e-4


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_tiles_make_no_difference(tmp_path, axis):
    model = model_folder(tmp_path / "model")
    spec = read_model_folder(model)
    tile = 2 * (spec.halo + spec.multiple) + spec.multiple
    # No size is one of whole blocks; along one axis it is longer than a tile.
    long = np.moveaxis(noisy(phantom(72)[:71, 33:40, 33:39], 0.05), 0, axis)
    thin = medrestore.Volume.from_array(long, np.eye(4), medrestore.Modality.MR)
    tiles = plan_tiles(whole_shape(thin.shape, spec.multiple), tile, spec.halo, spec.multiple)
    assert len(tiles) > 4
    results, counts = [], []
    for size in (None, tile):
        seen: list[tuple[int, int]] = []
        requested = RestoreOptions(model=str(model), noise="5%", noise_map="constant", ensemble=8, tile=size)
        observers = Observers(progress=lambda *now, seen=seen: seen.append(now))
        results.append(restore(thin, requested, observers=observers).volume.array)
        counts.append(len(seen))
    assert counts == [8, 8 * len(tiles)]
    assert np.abs(results[0] - thin.array).max() > 1
    np.testing.assert_allclose(results[1], results[0], atol=1e-5 * float(long.max()))


def test_a_stream_sees_the_same_views(tmp_path):
    denoiser = load_model(RestoreOptions(model=str(model_folder(tmp_path / "model")))).denoiser
    volume = torch.from_numpy(noisy(phantom(28), 0.05) / 800)[None, None, :, :27]
    condition, found = Condition(volume, 0.05), []
    for kind in (TiledDenoiser, StreamedDenoiser):
        tiled = kind(denoiser, 2**31, halo=24, multiple=4)  # type: ignore[arg-type]
        tiled.views = VIEWS
        found.append(tiled(volume, math.inf, condition))
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)


def test_progress_counts_every_estimate(tmp_path):
    model, seen = model_folder(tmp_path / "model"), []
    requested = RestoreOptions(model=str(model), noise="5%", ensemble=4, samples=1, steps=1)
    restore(scan(), requested, observers=Observers(progress=lambda done, total: seen.append((done, total))))
    assert seen[-1][0] == seen[-1][1]
    assert len(seen) == 5


@pytest.mark.parametrize("ensemble", [0, 3, 16])
def test_other_numbers_are_refused(ensemble, tmp_path):
    with pytest.raises(ConfigError, match="ensemble"):
        RestoreOptions(ensemble=ensemble)
    with pytest.raises((ConfigError, PluginError), match="ensemble"):
        model_folder(tmp_path / "model", ensemble=ensemble)
