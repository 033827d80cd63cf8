"""Derived DICOM series on another grid than their source: where its slices lie, and how they are counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dicom_series import STEP, write_series
from test_dicom_write import images, record_of, regridded, thin

from medrestore.errors import GeometryError
from medrestore.geometry import Geometry
from medrestore.io import read
from medrestore.io.dicom.derive.write import write_dicom


def test_a_super_resolved_grid_lies_where_it_should(tmp_path):
    def change(index, data):
        data.SliceLocation, data.SpacingBetweenSlices = -(40 + index * STEP), STEP
        data.InstanceNumber = 6 - index

    write_series(tmp_path / "in", "MR", change)
    volume = read(tmp_path / "in")
    fine = regridded(volume, thin(volume.geometry, 2))
    write_dicom(fine, tmp_path / "out", record_of(fine))
    back = read(tmp_path / "out")
    assert back.geometry.allclose(fine.geometry, 1e-6)
    assert back.shape == (12, 10, 12)
    found = sorted(images(tmp_path / "out"), key=lambda data: data.ImagePositionPatient[2])
    first = found[0]
    assert first.ImagePositionPatient[2] == pytest.approx(40 - STEP / 4)  # the half-voxel shift
    assert (first.SliceThickness, first.SpacingBetweenSlices) == (STEP / 2, STEP / 2)
    assert first.SliceLocation == pytest.approx(-(40 - STEP / 4))
    assert [data.InstanceNumber for data in found] == list(range(12, 0, -1))  # as the source counts
    assert first.SourceImageSequence[0].SpatialLocationsPreserved == "NO"
    assert first.DerivationCodeSequence[0].CodeMeaning == "Spatial resampling"
    named = [[s.ReferencedSOPInstanceUID[-1] for s in data.SourceImageSequence] for data in found]
    assert named[0] == ["1"]
    assert named[5] == ["3", "4"]


@pytest.mark.parametrize(
    ("locations", "expected"),
    [
        ([100, 102.5, 105, 107.5, 110, 112.5], np.arange(99.375, 113.2, 1.25)),
        ([0, -2.5, -5, -7.5, -10, -12.5], np.arange(0.625, -13.2, -1.25)),
        ([0, 2.5, 2.5, 7.5, 10, 12.5], None),
        ([0, 2.5, None, 7.5, 10, 12.5], None),
    ],
    ids=["table", "downwards", "twice", "missing"],
)
def test_slice_locations_of_another_grid_go_on_as_those_of_the_source(tmp_path, locations, expected):
    def change(index, data):
        if locations[index] is not None:
            data.SliceLocation = locations[index]

    write_series(tmp_path / "in", "MR", change)
    volume = read(tmp_path / "in")
    fine = regridded(volume, thin(volume.geometry, 2))
    write_dicom(fine, tmp_path / "out", record_of(fine))
    found = sorted(images(tmp_path / "out"), key=lambda data: data.ImagePositionPatient[2])
    if expected is None:
        assert not any("SliceLocation" in data for data in found)
    else:
        np.testing.assert_allclose([float(data.SliceLocation) for data in found], expected)


def test_another_grid_in_the_plane_and_padding_on_it(tmp_path):
    def change(index, data):
        data.add_new("PixelPaddingValue", "SS", -2000)
        pixels = np.full((data.Rows, data.Columns), 100, dtype=np.int16)
        pixels[:, :4] = -2000
        data.PixelData = pixels.tobytes()

    write_series(tmp_path / "in", "CT", change)
    volume = read(tmp_path / "in")
    affine = volume.geometry.affine @ np.diag([0.5, 1, 1, 1])
    affine[:3, 3] = volume.geometry.world([-0.25, 0, 0])
    fine = regridded(volume, Geometry((24, 10, 6), affine))
    write_dicom(fine, tmp_path / "out", record_of(fine))
    data = images(tmp_path / "out")[0]
    assert (data.Rows, data.Columns) == (10, 24)
    assert list(data.PixelSpacing) == [0.9, 0.4]
    padded = data.pixel_array == data.PixelPaddingValue
    assert padded[:, :8].all()
    assert not padded[:, 8:].any()
    assert read(tmp_path / "out").geometry.allclose(fine.geometry, 1e-6)


def test_slices_may_run_against_the_normal(tmp_path):
    write_series(tmp_path / "in")
    volume = read(tmp_path / "in")
    flipped = replace(
        volume,
        array=volume.array[..., ::-1],
        geometry=volume.geometry.cropped((slice(None), slice(None), slice(None, None, -1))),
    )
    write_dicom(flipped, tmp_path / "out", record_of(flipped))
    assert np.array_equal(read(tmp_path / "out").array, volume.array)
    assert [data.InstanceNumber for data in images(tmp_path / "out")] == [1, 2, 3, 4, 5, 6]


def test_a_sheared_grid_is_refused(tmp_path):
    write_series(tmp_path / "in")
    volume = read(tmp_path / "in")
    affine = volume.geometry.affine.copy()
    affine[:3, 2] += [0, 0.5, 0]
    sheared = replace(volume, geometry=Geometry(volume.shape, affine))
    with pytest.raises(GeometryError, match="sheared"):
        write_dicom(sheared, tmp_path / "out", record_of(sheared))
    assert not (tmp_path / "out").exists()
