"""Values that a header calls padding: believed where they are no tissue."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_series import write_series
from doubtful import codes, ct, head_of_ct
from test_dicom_write import images, record_of

from medrestore.io import (
    read,
    reading_findings,
    write_dicom,
)


def test_water_that_is_called_padding_stays_water(tmp_path):
    stored = head_of_ct()
    stored[:, 4:6, 4:8] = 0
    ct(
        tmp_path / "in",
        stored,
        RescaleIntercept=0,
        PixelPaddingValue=0,
    )
    volume = read(tmp_path / "in")
    assert np.array_equal(volume.array, stored.transpose(2, 1, 0))
    assert codes(volume) == ["padding-not-believed"]
    (found,) = reading_findings(volume)
    assert found.data["voxels"] == (stored == 0).sum()
    write_dicom(volume, tmp_path / "out", record_of(volume))
    again = read(tmp_path / "out")
    assert np.array_equal(again.array, volume.array)
    assert all("PixelPaddingValue" not in data for data in images(tmp_path / "out"))


def test_padding_of_the_value_of_water_outside_a_round_field_is_believed_there_alone(tmp_path):
    stored = head_of_ct()
    stored[:, 4:6, 4:8] = 0
    corner = np.zeros((10, 12), bool)
    corner[:4, :1] = corner[-2:, -3:] = True
    stored[:, corner] = 0
    ct(tmp_path / "in", stored, RescaleIntercept=0, PixelPaddingValue=0)
    volume = read(tmp_path / "in")
    expected = np.where(corner, -1000, stored).transpose(2, 1, 0)
    assert np.array_equal(volume.array, expected)
    assert volume.source.details["padding"]["voxels"] == 6 * corner.sum()
    write_dicom(volume, tmp_path / "out", record_of(volume))
    for data, source in zip(images(tmp_path / "out"), stored, strict=True):
        assert np.array_equal(data.pixel_array + float(data.RescaleIntercept), source)


@pytest.mark.parametrize("value", [-32768, -2000, -1024, 32767])
def test_padding_that_no_tissue_has_is_believed_wherever_it_lies(tmp_path, value):
    stored = head_of_ct()
    stored[:, 5, 5] = value
    ct(tmp_path, stored, RescaleIntercept=0, PixelPaddingValue=value)
    volume = read(tmp_path)
    assert np.all(volume.array[5, 5] == -1000)
    assert codes(volume) == []


def test_brightest_tissue_that_is_called_padding_stays_bright(tmp_path):
    def change(index, data):
        pixels = np.minimum(np.frombuffer(data.PixelData, np.int16), 1900)
        data.add_new("PixelData", "OW", pixels.tobytes())
        data.add_new("PixelPaddingValue", "US", 1900)

    stored = write_series(tmp_path, change=change)
    volume = read(tmp_path)
    assert np.array_equal(volume.array, np.minimum(stored, 1900).transpose(2, 1, 0))
    assert codes(volume) == ["padding-not-believed"]


@pytest.mark.needs_shared
def test_real_water_that_is_called_padding(problem_cases):
    volume = read(problem_cases / "dicom" / "pixelpadding0_is_water")
    assert (volume.array == 0).sum() == 1200
    assert codes(volume) == ["padding-not-believed"]
