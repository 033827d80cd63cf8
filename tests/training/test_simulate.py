"""Scans that a calibration simulates: their noise is that of scanners, in slices too."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import SUPERRES, model_folder, phantom

from medrestore import Modality, Volume
from medrestore.physics.kspace import lag_correlations
from medrestore.plugin import read_model_folder
from medrestore.training import simulate
from medrestore.training.scanner import KSpace


@pytest.fixture(scope="module")
def slices_of(tmp_path_factory):
    """Models of slices, by the units of their voxels."""
    folder = tmp_path_factory.mktemp("models")
    ct = {"intensity": "attenuation", "modalities": ["CT"]}
    return {
        "MR": read_model_folder(model_folder(folder / "mr", **SUPERRES)),
        "CT": read_model_folder(model_folder(folder / "ct", **SUPERRES, **ct)),
    }


def flat(value: float, modality: Modality) -> Volume:
    return Volume.from_array(np.full((48, 48, 36), value, np.float32), modality=modality)


@pytest.mark.parametrize("coloured", [True, False])
def test_slices_of_mr_have_noise_of_any_colour_in_their_plane(slices_of, monkeypatch, coloured):
    # One value in four is below the shares: noise is drawn in any case, and a window only if it is asked for.
    monkeypatch.setattr(simulate, "NOISY", 1.1)
    drawn = simulate.draw_kspace
    monkeypatch.setattr(
        simulate, "draw_kspace", lambda shape, rng: drawn(shape, rng) if coloured else white(shape)
    )
    found = []
    for seed in range(8):
        made = simulate.simulate(flat(500, Modality.MR), slices_of["MR"], np.random.default_rng(seed))
        found.append(lag_correlations(made.scan.array - made.scan.array.mean()))
    x, y, z = np.abs(np.array(found)).T
    assert max(z) < 0.2  # each slice has noise of its own
    assert (max(*x, *y) > 0.3) == coloured


def white(shape: tuple[int, ...]) -> simulate.KSpace:
    return KSpace(np.ones(shape), np.ones(shape))


def test_the_truth_is_what_the_scanner_measured_of_the_planes(slices_of, monkeypatch):
    monkeypatch.setattr(simulate, "NOISY", 1.1)
    volume = Volume.from_array(phantom(48), modality=Modality.MR)
    changed = []
    for seed in range(4):
        made = simulate.simulate(volume, slices_of["MR"], np.random.default_rng(seed))
        changed.append(float(np.abs(made.truth.array - volume.array[..., : made.truth.shape[2]]).max()))
        assert made.truth.array.min() >= 0
    assert max(changed) > 5


def test_slices_of_ct_have_the_noise_of_a_reconstruction(slices_of, monkeypatch):
    monkeypatch.setattr(simulate, "NOISY", 1.1)
    asked, made_of = [], simulate._low_dose

    def low_dose(clean, spacing, rng):
        asked.append(spacing)
        return made_of(clean, spacing, rng)

    monkeypatch.setattr(simulate, "_low_dose", low_dose)
    x, y = np.meshgrid(*(np.linspace(-1, 1, 40),) * 2, indexing="ij")
    body = np.where(x**2 + y**2 < 0.6, 40.0, -1000.0)[..., None] * np.ones(24)
    volume = Volume.from_array(body.astype(np.float32), np.diag([4, 4, 2, 1]), modality=Modality.CT)
    made = simulate.simulate(volume, slices_of["CT"], np.random.default_rng(2))
    assert asked == [pytest.approx((4, 4, made.scan.spacing[2]))]  # that of slices, not of planes
    assert made.scan.array.min() >= -1024
    assert np.std(made.scan.array[18:22, 18:22]) > 1
    np.testing.assert_array_equal(made.truth.array, volume.array[..., : made.truth.shape[2]])
