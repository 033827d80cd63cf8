"""What the path of a CT scan does beside running the model: its slices lie last, its padding stays."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import SUPERRES, model_folder, phantom

from medrestore import Modality, RestoreOptions, Volume, restore
from medrestore.engine import load_model
from medrestore.engine.evidence.residual import residual_evidence
from medrestore.engine.tasks.slice_grid import ct_slice_axis, network_shape
from medrestore.geometry import Geometry

SPACING = (1.0, 1.0, 4.0)


@pytest.fixture
def options(tmp_path):
    changes = {"modalities": ["CT"], "intensity": "attenuation", "spacing_mm": [0.5, 6.0]}
    return RestoreOptions(model=str(model_folder(tmp_path / "model", **changes)), noise=40)


def ct() -> np.ndarray:
    clean = phantom(24)[:, :20, :12] - 900
    return (clean + np.random.default_rng(0).normal(0, 40, clean.shape)).astype(np.float32)


def volume(array: np.ndarray, axis: int = 2) -> Volume:
    """A scan whose slices are moved to another array axis, patient and all."""
    order = [0, 1]
    order.insert(axis, 2)
    affine = np.diag([*SPACING, 1.0])[:, [*order, 3]]
    return Volume.from_array(np.moveaxis(array, 2, axis), affine, Modality.CT)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_order_of_the_axes_does_not_matter(options, axis):
    plain, other = (restore(volume(ct(), where), options).volume for where in (2, axis))
    assert np.abs(plain.array - ct()).max() > 1
    np.testing.assert_allclose(np.moveaxis(other.array, axis, 2), plain.array, atol=1e-3)
    assert other.geometry == volume(ct(), axis).geometry


def test_the_noise_is_read_within_the_slices(options):
    requested = RestoreOptions(model=options.model)
    plain, other = (restore(volume(ct(), where), requested).record.noise["sigma"] for where in (2, 0))
    assert plain == pytest.approx(other)


@pytest.mark.parametrize(
    ("spacing", "order", "axis"),
    [
        ((0.7, 0.7, 3.0), (0, 1, 2), 2),
        ((0.7, 0.7, 0.5), (0, 1, 2), 2),  # thin slices: the axis of the patient
        ((1.0, 1.0, 1.0), (2, 0, 1), 0),
        ((3.0, 0.7, 0.7), (0, 1, 2), 0),  # thick sagittal slices
    ],
)
def test_the_slice_axis(spacing, order, axis):
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, order] * spacing
    assert ct_slice_axis(Geometry((9, 9, 9), affine)) == axis


def test_memory_is_foreseen_for_what_the_network_is_given(options):
    spec = load_model(options).spec
    grid = Geometry((30, 24, 40), np.diag([3.0, 1.0, 1.0, 1.0]))
    assert network_shape(grid, grid, spec, options) == (24, 40, 30)


def test_what_was_not_measured_stays_and_changes_nothing(options):
    air, padded = ct(), ct()
    air[:3], padded[:3] = -1000, -3024
    plain, kept = (restore(volume(array), options) for array in (air, padded))
    assert (kept.volume.array[:3] == -3024).all()
    np.testing.assert_allclose(kept.volume.array[3:], plain.volume.array[3:], atol=1e-3)
    assert any(f"{3 * 20 * 12} voxels below -1800 HU" in text for text in kept.record.sentences)
    assert not any("below -1800" in text for text in plain.record.sentences)


def test_padding_of_thick_slices_is_taken_for_air(tmp_path):
    changes = {**SUPERRES, "modalities": ["CT"], "intensity": "attenuation"}
    requested = RestoreOptions(model=str(model_folder(tmp_path / "superres", **changes)))
    air, padded = ct(), ct()
    air[:3], padded[:3] = -1000, -3024
    plain, kept = (restore(volume(array), requested) for array in (air, padded))
    np.testing.assert_array_equal(kept.volume.array, plain.volume.array)
    assert kept.record.slices["residual_max"] == pytest.approx(plain.record.slices["residual_max"])
    assert any("were taken for air" in text for text in kept.record.sentences)


def test_scores_are_of_what_was_measured(options):
    truth = phantom(24)[:, :20, :12] - 900
    padded = truth.copy()
    padded[:3] = -3024
    plain, kept = (
        restore(volume(ct()), options, reference=volume(reference)).metrics["result"]["psnr"]
        for reference in (np.where(np.arange(24)[:, None, None] < 3, -1024, truth), padded)
    )
    assert plain.definition == kept.definition and "range" in plain.definition
    assert kept.value == pytest.approx(plain.value)


def test_the_residual_is_that_of_the_body_and_not_of_bone():
    """Noise taken out of soft tissue counts, though it is darker than a third of the brightest bone."""
    clean = np.full((40, 40, 40), -1000, np.float32)
    clean[5:35, 5:35, 5:35] = 40
    clean[18:22, 5:35, 5:35] = 1200
    noise = np.random.default_rng(0).normal(0, 20, clean.shape).astype(np.float32)
    noise[clean == 1200] = 0
    found = residual_evidence(clean + noise, clean, 20.0, zero=-1000.0)
    assert found["std_over_sigma"] == pytest.approx(0.95, abs=0.05)


def test_what_was_not_measured_has_no_deviation(options):
    padded = ct()
    padded[:3] = -3024
    requested = RestoreOptions(model=options.model, noise=40, samples=2, steps=2)
    std = restore(volume(padded), requested).std
    assert (std.array[:3] == 0).all() and (std.array[3:] > 0).any()
