"""Legacy Converted Enhanced MR and CT, as highdicom makes them of classic series: read, and derived from."""

from __future__ import annotations

import warnings

import numpy as np
import pydicom
import pytest
from dicom_series import dicom_errors, tool, write_series
from pydicom.uid import generate_uid
from test_dicom_write_volumes import rewritten, same_volumes

from medrestore.io import read, read_series

legacy = pytest.importorskip("highdicom.legacy")


def converted(folder, modality, out):
    """Convert a classic series; return the file."""
    make = {"MR": legacy.LegacyConvertedEnhancedMRImage, "CT": legacy.LegacyConvertedEnhancedCTImage}[
        modality
    ]
    images = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    uid = {"series_instance_uid": generate_uid(), "sop_instance_uid": generate_uid()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = make(images, series_number=9, instance_number=1, **uid)
    out.mkdir()
    made.save_as(out / "all.dcm", enforce_file_format=True)
    return out / "all.dcm"


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_a_converted_series_is_where_the_classic_one_is(tmp_path, modality):
    write_series(tmp_path / "classic", modality)
    converted(tmp_path / "classic", modality, tmp_path / "legacy")
    before, after = read(tmp_path / "classic"), read(tmp_path / "legacy")
    assert after.geometry.allclose(before.geometry, 1e-6)
    np.testing.assert_array_equal(after.array, before.array)
    assert (after.units, after.modality) == (before.units, before.modality)


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_what_is_derived_from_a_converted_series(tmp_path, modality):
    tool("dciodvfy")
    write_series(tmp_path / "classic", modality)
    converted(tmp_path / "classic", modality, tmp_path / "legacy")
    volumes, report = rewritten(tmp_path / "legacy", tmp_path / "out")
    same_volumes(read_series(tmp_path / "out"), volumes, atol=0.51)
    (path,) = (tmp_path / "out").iterdir()
    name = f"Legacy Converted Enhanced {modality} Image Storage"
    assert pydicom.dcmread(path, stop_before_pixels=True).SOPClassUID.name == name
    assert (report.files, report.clipped_voxels) == (1, 0)
    assert dicom_errors(path) == []
