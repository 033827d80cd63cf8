"""Derived DICOM series: what is kept, what is new, what is dropped, where voxels lie and what they mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from dicom_series import (
    AXIAL,
    FRAME,
    SERIES,
    STUDY,
    add_baggage,
    dicom_errors,
    is_part_10,
    spread_of,
    write_series,
)

from medrestore.errors import InputError, OutputError
from medrestore.geometry import Geometry
from medrestore.io import read
from medrestore.io.dicom.derive.write import write_dicom
from medrestore.provenance import ModelRef, RunRecord, Step
from medrestore.volume import Volume

SETTINGS = {"output": "mean", "samples": 8, "steps": 10, "dtype": "float32"}


def record_of(volume: Volume, sigma: float = 20.0, weights: str = "ab" * 32, **settings: object) -> RunRecord:
    model = ModelRef("medrestore/mr-denoise", "medrestore", weights)
    noise = {"sigma": sigma}
    return RunRecord("0.1.0", {}, model, volume.source, settings={**SETTINGS, **settings}, noise=noise)


def images(folder):
    """The files in the order of their names, which is that of the instance numbers."""
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


@pytest.fixture
def derived(tmp_path):
    """Writes a series, changes its voxels, writes the derived one; returns volume, folder and report."""

    def make(modality="MR", change=None, edit=lambda array: array, frame=AXIAL, **options):
        write_series(tmp_path / "in", modality, change, frame)
        volume = read(tmp_path / "in")
        volume = volume.with_array(edit(volume.array).astype(np.float32), Step("test"))
        report = write_dicom(volume, tmp_path / "out", record_of(volume, **options))
        return volume, tmp_path / "out", report

    return make


OBLIQUE = np.array([[0.6, 0.8, 0.0], [-0.48, 0.36, -0.8], [-0.64, 0.48, 0.6]])
SAGITTAL = np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])


def test_slices_that_were_cleaned_name_both_models(tmp_path):
    write_series(tmp_path / "in", "MR")
    volume = read(tmp_path / "in")
    series = set()
    for digit in "cd":
        cleaner = {"name": "medrestore/mr-denoise", "sha256": 64 * digit}
        record = replace(record_of(volume, denoise_with=cleaner), slices={"denoised_with": cleaner})
        report = write_dicom(volume, tmp_path / f"out{digit}", record)
        series.add(report.series_uid)
        described = images(tmp_path / f"out{digit}")[0].DerivationDescription
        assert f"after model medrestore/mr-denoise, weights sha256 {64 * digit}" in described
    assert len(series) == 2  # other weights make other voxels


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize("frame", [np.eye(3), SAGITTAL, OBLIQUE], ids=["axial", "sagittal", "oblique"])
def test_what_is_written_is_read_back_where_it_was(derived, modality, frame):
    volume, folder, report = derived(modality, frame=frame, edit=lambda a: a + 7)
    back = read(folder)
    assert back.geometry.allclose(volume.geometry, 1e-6)
    assert np.array_equal(back.array, volume.array)
    assert (back.modality, back.units) == (volume.modality, volume.units)
    assert (report.files, report.clipped_voxels) == (6, 0)


def test_patient_study_and_frame_are_kept_and_uids_are_new(derived, tmp_path):
    _, folder, report = derived()
    sources = {str(data.SOPInstanceUID): data for data in images(tmp_path / "in")}
    found = images(folder)
    assert {data.SeriesInstanceUID for data in found} == {report.series_uid} != {SERIES}
    uids = {str(data.SOPInstanceUID) for data in found}
    assert len(uids) == 6
    assert not uids & sources.keys()
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)
    for data in found:
        assert (data.StudyInstanceUID, data.FrameOfReferenceUID) == (STUDY, FRAME)
        assert (data.PatientName, data.PatientID, data.AccessionNumber) == ("Doe^Jane", "4711", "A1")
        assert list(data.ImageType) == ["DERIVED", "SECONDARY", "M", "ND"]
        assert data.SeriesDescription == "Restored (mr-denoise) Head scan"
        assert data.ImageComments.startswith("PROCESSED IMAGE, NOT AN ORIGINAL: restored by medrestore 0.1.0")
        assert "ab" * 32 in data.DerivationDescription
        assert data.SeriesNumber == 1005
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
        (source,) = data.SourceImageSequence
        assert source.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert source.SpatialLocationsPreserved == "YES"
        origin = sources[source.ReferencedSOPInstanceUID]
        assert origin.ImagePositionPatient == data.ImagePositionPatient
        assert origin.InstanceNumber == data.InstanceNumber
        assert data.ContributingEquipmentSequence[-1].Manufacturer == "medrestore"
        assert data.DerivationCodeSequence[0].CodeMeaning == "Smoothing"


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_images_have_one_frame_of_reference_where_each_of_the_source_had_its_own(derived, modality):
    def change(index, data):
        data.FrameOfReferenceUID = f"1.2.{index + 1}"
        return data

    volume, folder, _ = derived(modality, change=change)
    assert {data.FrameOfReferenceUID for data in images(folder)} == {"1.2.1"}
    assert read(folder).geometry.allclose(volume.geometry, 1e-6)
    assert not dicom_errors(sorted(folder.iterdir())[3])


def test_a_rerun_gives_the_same_bytes_and_other_settings_other_uids(derived, tmp_path):
    volume, folder, report = derived()
    again = write_dicom(volume, tmp_path / "again", record_of(volume))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()
    }
    assert again.sha256 == report.sha256
    in_parts = write_dicom(volume, tmp_path / "parts", record_of(volume, tile=64, max_memory="4GB"))
    assert (in_parts.sha256, in_parts.series_uid) == (report.sha256, report.series_uid)
    others = [record_of(volume, weights="cd" * 32), record_of(volume, output="sample")]
    others.append(replace(record_of(volume), medrestore="0.2.0"))
    uids = {report.series_uid}
    for number, other in enumerate(others):
        uids.add(write_dicom(volume, tmp_path / f"other{number}", other).series_uid)
    uids.add(write_dicom(volume, tmp_path / "std", record_of(volume), quantity="std").series_uid)
    assert len(uids) == 5


def test_what_is_no_longer_true_does_not_travel(derived):
    def change(_, data):
        add_baggage(data)
        data.InstanceCreationDate = data.ContentDate = data.SeriesDate = "20240102"
        data.AcquisitionDate = "20240102"

    _, folder, _ = derived(change=change)
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        assert not [element for element in data.iterall() if element.tag.is_private]
        assert not [element for element in data if element.tag.group >> 8 == 0x60]
        for name in ("IconImageSequence", "SmallestImagePixelValue", "LargestImagePixelValue"):
            assert name not in data
        assert not {"InstanceCreationDate", "ContentDate", "SeriesDate"} & set(data.dir())
        assert data.AcquisitionDate == "20240102"
        assert data.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.5"
        assert b"private words" not in path.read_bytes()


def test_what_the_source_says_of_its_own_making_is_appended_to(derived):
    def change(_, data):
        add_baggage(data)
        item = pydicom.Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = (
            "113072",
            "DCM",
            "Multiplanar reformatting",
        )
        data.DerivationCodeSequence, data.DerivationDescription = [item], "reformatted"
        purpose = pydicom.Dataset()
        purpose.CodeValue, purpose.CodingSchemeDesignator = "109102", "DCM"
        purpose.CodeMeaning = "Processing Equipment"
        maker = pydicom.Dataset()
        maker.Manufacturer, maker.PurposeOfReferenceCodeSequence = "Workstation", [purpose]
        data.ContributingEquipmentSequence, data.ImageComments = [maker], "32 CH"

    _, folder, _ = derived(change=change)
    data = images(folder)[0]
    assert [item.CodeMeaning for item in data.DerivationCodeSequence][:2] == [
        "Multiplanar reformatting",
        "Smoothing",
    ]
    assert data.DerivationDescription.endswith("After: reformatted")
    assert [item.Manufacturer for item in data.ContributingEquipmentSequence] == ["Workstation", "medrestore"]
    assert data.ImageComments.endswith("32 CH")


def test_hounsfield_units_are_whole_numbers_and_clipping_is_counted(derived):
    def edit(array):
        array = array + 0.4
        array[0, 0, 0], array[1, 0, 0] = 1e6, -1e6
        return array

    volume, folder, report = derived("CT", edit=edit)
    assert (report.slope, report.clipped_voxels) == (1.0, 2)
    back = read(folder).array
    inside = np.abs(volume.array) < 1e5
    np.testing.assert_array_equal(back[inside], np.rint(volume.array[inside]))
    data = images(folder)[0]
    assert (data.RescaleType, data.WindowCenter, data.WindowWidth) == ("HU", 40, 400)


def test_ct_keeps_the_source_s_intercept_and_a_finer_slope(derived, tmp_path):
    _, _, report = derived("CT")
    assert (report.slope, report.inter) == (1.0, -1024.0)

    def finer(_, data):
        data.RescaleSlope, data.RescaleIntercept = "0.1", "-100"

    write_series(tmp_path / "fine", "CT", finer)
    volume = read(tmp_path / "fine")
    assert write_dicom(volume, tmp_path / "fine_out", record_of(volume)).slope == 0.1


@pytest.mark.parametrize("sigma", [0.3, 20.0, 900.0])
def test_rounding_of_mr_is_far_below_the_noise(derived, sigma):
    rng = np.random.default_rng(1)
    volume, folder, report = derived(edit=lambda a: a + rng.uniform(-3, 3, a.shape), sigma=sigma)
    apart = read(folder).array - volume.array
    assert apart.std() < 0.04 * sigma
    assert report.clipped_voxels == 0
    # Coarse enough noise: the values of the source, and no rescaling that a viewer may not know of.
    assert ("RescaleSlope" in images(folder)[0]) == (sigma < 10)


def test_large_values_get_a_coarser_scale_and_negative_ones_a_sign(derived):
    volume, folder, report = derived(edit=lambda a: a * 100.0 - 5000)
    assert images(folder)[0].PixelRepresentation == 1
    assert report.clipped_voxels == 0
    np.testing.assert_allclose(read(folder).array, volume.array, atol=report.slope * 0.51)


def test_padding_keeps_its_value_and_nothing_else_gets_it(derived):
    def change(index, data):
        data.add_new("PixelPaddingValue", "SS", -2000)
        pixels = np.frombuffer(data.PixelData, np.int16).reshape(data.Rows, data.Columns).copy()
        pixels[:2, :3] = -2000
        data.PixelData = pixels.tobytes()

    def edit(array):
        array = array + 3.0
        array[8, 8, 0] = -3024.0  # measured, and by chance what padding is stored as
        return array

    _, folder, _ = derived("CT", change=change, edit=edit)
    for data in images(folder):
        assert data.PixelPaddingValue == -2000
        expected = np.zeros((data.Rows, data.Columns), dtype=bool)
        expected[:2, :3] = True
        np.testing.assert_array_equal(data.pixel_array == -2000, expected)
    assert images(folder)[0].pixel_array[8, 8] == -1999


def regridded(volume: Volume, geometry: Geometry) -> Volume:
    array = np.random.default_rng(2).uniform(0, 900, geometry.shape).astype(np.float32)
    return replace(volume, array=array, geometry=geometry)


def thin(geometry: Geometry, times: int) -> Geometry:
    """The same extent in slices that are thinner: edges stay, centres shift by a fraction of a voxel."""
    affine = geometry.affine.copy()
    affine[:3, 2] /= times
    affine[:3, 3] = geometry.world([0, 0, -0.5 + 0.5 / times])
    return Geometry((*geometry.shape[:2], geometry.shape[2] * times), affine)


@pytest.mark.parametrize("slope", [4.56789e-8, 2.5e-12])
def test_small_units_are_kept_in_scale_and_window(derived, slope):
    def change(index, data):
        data.RescaleSlope, data.RescaleIntercept, data.RescaleType = f"{slope:.9e}", 0, "US"

    volume, folder, report = derived(change=change)
    np.testing.assert_allclose(read(folder).array, volume.array, rtol=1e-5, atol=report.slope)
    for data in images(folder):
        assert float(data.WindowWidth) == pytest.approx(np.ptp(volume.array), rel=0.1)
        assert data.VOILUTFunction == "LINEAR_EXACT"  # LINEAR takes no width below 1


def test_the_standard_deviation_is_a_series_of_its_own(tmp_path):
    write_series(tmp_path / "in", "CT")
    volume = read(tmp_path / "in")
    spread = volume.with_array(np.random.default_rng(0).uniform(0, 3, volume.shape), Step("std"))
    report = write_dicom(spread, tmp_path / "std", record_of(spread), quantity="std")
    np.testing.assert_allclose(spread_of(tmp_path / "std"), spread.array, atol=1e-3)
    with pytest.raises(InputError, match="a standard deviation, which is no scan"):
        read(tmp_path / "std")
    data = images(tmp_path / "std")[0]
    assert list(data.ImageType) == ["DERIVED", "SECONDARY", "AXIAL", "STD_DEV"]
    assert data.SeriesDescription == "Std dev (mr-denoise) Head scan"
    assert data.ImageComments.startswith("NOT AN IMAGE OF THE PATIENT: standard deviation of 8")
    assert data.WindowWidth < 4  # not the source's 400
    assert report.slope < 0.001
    assert data.SeriesNumber == 2005


def test_a_deviation_of_zero_still_has_the_scale_that_ct_needs(tmp_path):
    write_series(tmp_path / "in", "CT")
    volume = read(tmp_path / "in")
    spread = volume.with_array(np.zeros_like(volume.array), Step("std"))
    write_dicom(spread, tmp_path / "std", record_of(spread), quantity="std")
    assert not spread_of(tmp_path / "std").any()


@pytest.mark.parametrize("stated", [True, False])
def test_loss_is_carried_on_with_ratio_and_method(derived, stated):
    def change(index, data):
        if stated and index == 2:
            data.LossyImageCompression, data.LossyImageCompressionRatio = "01", 12.5
            data.LossyImageCompressionMethod = "ISO_15444_1"

    _, folder, report = derived(change=change)
    for data in images(folder):
        if stated:
            assert (data.LossyImageCompression, data.LossyImageCompressionRatio) == ("01", 12.5)
            assert data.LossyImageCompressionMethod == "ISO_15444_1"
        else:
            assert "LossyImageCompression" not in data
    assert report.findings == ()


def test_loss_without_a_ratio_is_said(derived):
    def change(_, data):
        data.LossyImageCompression = "01"

    _, folder, report = derived(change=change)
    assert images(folder)[0].LossyImageCompression == "01"
    assert "not by what ratio" in report.findings[0].text


def test_no_source_no_series(tmp_path):
    volume = Volume.from_array(np.zeros((4, 4, 4), dtype=np.float32))
    with pytest.raises(OutputError, match="no DICOM"):
        write_dicom(volume, tmp_path / "out", record_of(volume))


def test_a_source_that_changed_or_has_no_uids_is_refused(tmp_path):
    write_series(tmp_path / "in")
    volume = read(tmp_path / "in")
    (tmp_path / "in" / "s0.dcm").unlink()
    with pytest.raises(OutputError, match="5 images, where 6 were read"):
        write_dicom(volume, tmp_path / "out", record_of(volume))

    def change(_, data):
        del data.StudyInstanceUID

    write_series(tmp_path / "bare", change=change)
    volume = read(tmp_path / "bare")
    with pytest.raises(OutputError, match="has no StudyInstanceUID"):
        write_dicom(volume, tmp_path / "out", record_of(volume))


def test_a_series_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    write_series(tmp_path / "in")
    volume = read(tmp_path / "in")
    from medrestore.io.dicom.derive import write as dicom_writer

    save, saved = dicom_writer._save, []

    def fail_at_the_third(data, file):
        saved.append(file)
        if len(saved) == 3:
            raise OSError(28, "No space left on device")
        save(data, file)

    monkeypatch.setattr(dicom_writer, "_save", fail_at_the_third)
    with pytest.raises(OutputError, match="No space left"):
        write_dicom(volume, tmp_path / "out", record_of(volume))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_series_is_replaced_only_on_request(derived, tmp_path):
    volume, folder, _ = derived()
    with pytest.raises(OutputError, match="exists already"):
        write_dicom(volume, folder, record_of(volume))
    (folder / "IM00099.dcm").write_text("of an earlier run")
    write_dicom(volume, folder, record_of(volume), overwrite=True)
    assert len(list(folder.iterdir())) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize("quantity", ["restored", "std"])
@pytest.mark.parametrize("times", [1, 2])
def test_others_find_no_error(tmp_path, modality, quantity, times):
    def change(_, data):
        add_baggage(data)
        data.LossyImageCompression, data.LossyImageCompressionRatio = "01", 12.5
        data.LossyImageCompressionMethod = "ISO_15444_1"

    write_series(tmp_path / "in", modality, change)
    volume = read(tmp_path / "in")
    volume = volume if times == 1 else regridded(volume, thin(volume.geometry, times))
    write_dicom(volume, tmp_path / "out", record_of(volume, sigma=0.7), quantity=quantity)
    for path in sorted((tmp_path / "out").iterdir()):
        assert dicom_errors(path) == []
        assert is_part_10(path)
