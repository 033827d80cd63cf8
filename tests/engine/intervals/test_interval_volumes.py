"""Intervals of a scan of CT: its data range, and voxels that were not measured."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import model_folder, phantom, with_calibration

from medrestore import Modality, RestoreOptions, Volume, restore


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "ct"
    facts = {"modalities": ["CT"], "intensity": "attenuation", "noise": [0.06, 0.3]}
    return str(with_calibration(model_folder(folder, **facts)))


def padded() -> tuple[np.ndarray, np.ndarray]:
    """A phantom in HU with the padding of a scanner outside of a circle, and where that is."""
    voxels = phantom(48) / 1000 * 1050 - 1000
    voxels += np.random.default_rng(0).normal(0, 20, voxels.shape).astype(np.float32)
    x, y = np.meshgrid(*(np.linspace(-1, 1, 48),) * 2, indexing="ij")
    outside = np.broadcast_to((x**2 + y**2 > 1)[:, :, None], voxels.shape)
    return np.where(outside, np.float32(-3024), voxels).astype(np.float32), outside


def test_the_bound_is_that_of_ct_where_the_file_does_not_say_that_it_is_one(model):
    voxels, _ = padded()
    options = RestoreOptions(model=model, interval=0.9, force=True)
    bounds = [
        restore(Volume.from_array(voxels, modality=modality), options).record.intervals["bound"]
        for modality in (Modality.CT, Modality.UNKNOWN)
    ]
    assert bounds[0] is not None and bounds[0] == bounds[1]


def test_what_was_not_measured_has_no_interval(model):
    voxels, outside = padded()
    scan = Volume.from_array(voxels, modality=Modality.CT)
    result = restore(scan, RestoreOptions(model=model, interval=0.9, force=True))
    assert "noise-too-weak" in {one.code for one in result.record.findings}  # some of the noise is left in
    lower, upper = (result.maps[name].array for name in ("lower", "upper"))
    np.testing.assert_array_equal(lower[outside], voxels[outside])
    np.testing.assert_array_equal(upper[outside], voxels[outside])
    assert np.median((upper - lower)[~outside]) > 10
