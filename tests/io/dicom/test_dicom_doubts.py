"""Headers that are wrong or leave something open: what is read all the same, with what is said of it."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from dicom_series import write_series
from doubtful import codes, ct, head_of_ct, rederived
from test_dicom_write import images

from medrestore.errors import InputError, OutputError
from medrestore.io import (
    ReadPolicy,
    check_derivable,
    plan_dicom,
    read,
    reading_findings,
)
from medrestore.io.dicom.parse.header import SkipReason

STORED = ReadPolicy(values="stored")


# --- values ---


def test_ct_without_rescale_whose_values_are_hu_is_read(tmp_path):
    stored = head_of_ct()
    ct(tmp_path / "in", stored, RescaleSlope=None, RescaleIntercept=None, RescaleType=None)
    volume = read(tmp_path / "in")
    assert np.array_equal(volume.array, stored.transpose(2, 1, 0))
    assert (volume.units, codes(volume)) == ("HU", ["hounsfield-judged"])
    rederived([volume], tmp_path / "out")


@pytest.mark.parametrize("kind", ["Unspecified", "HOUNSFIELD", "Doe^Jane"])
def test_a_rescale_type_that_dicom_does_not_have_is_judged_by_the_values(tmp_path, kind):
    stored = head_of_ct() + np.int16(1024)
    ct(tmp_path / "in", stored, RescaleType=kind)
    volume = read(tmp_path / "in")
    assert np.array_equal(volume.array, stored.transpose(2, 1, 0) - 1024)
    assert codes(volume) == ["hounsfield-judged"]
    assert all("Doe" not in found.text for found in reading_findings(volume))
    rederived([volume], tmp_path / "out")


def test_ct_stored_without_a_sign_and_without_rescale_is_read_where_air_is_at_24(tmp_path):
    stored = np.maximum(head_of_ct() + 1024, 0).astype(np.uint16)
    ct(tmp_path / "in", stored, RescaleSlope=None, RescaleIntercept=None, RescaleType=None)
    volume = read(tmp_path / "in")
    assert np.array_equal(volume.array, stored.transpose(2, 1, 0).astype(int) - 1024)
    assert codes(volume) == ["hounsfield-judged"]
    rederived([volume], tmp_path / "out")


@pytest.mark.parametrize(("times", "doubted"), [(0.5, True), (1.0, False), (4.0, False), (0.0, False)])
def test_pixels_that_are_too_large_for_the_diameter_of_the_reconstruction_are_doubted(
    tmp_path, times, doubted
):
    stored = head_of_ct()
    columns = stored.shape[2]
    ct(tmp_path, stored)
    spacing = float(pydicom.dcmread(next(tmp_path.iterdir())).PixelSpacing[1])
    ct(tmp_path, stored, ReconstructionDiameter=f"{times * columns * spacing:.6g}")
    assert codes(read(tmp_path)) == ["voxel-size-doubted"] * doubted


UNCERTAIN = {
    "shift of 1000": lambda hu: np.maximum(hu + 1000, 0).astype(np.uint16),
    "no air": lambda hu: np.where(hu < -500, 0, hu).astype(np.int16),
    "values of MR": lambda hu: np.abs(hu // 2).astype(np.int16),
    "counts": lambda hu: (hu.astype(int) * 5 + 6000).astype(np.int16),
    "one value": lambda hu: np.full_like(hu, -1000),
}


@pytest.mark.parametrize("change", UNCERTAIN.values(), ids=UNCERTAIN)
def test_ct_whose_values_are_not_hu_for_certain_is_refused_and_read_on_request(tmp_path, change):
    stored = change(head_of_ct())
    ct(tmp_path, stored, RescaleSlope=None, RescaleIntercept=None, RescaleType=None)
    with pytest.raises(
        InputError, match="without rescale slope and intercept; its values are not in HU for certain"
    ):
        read(tmp_path)
    assert {item.why for item in plan_dicom(tmp_path).left_out} == {SkipReason.UNUSABLE}
    volume = read(tmp_path, policy=STORED)
    assert (volume.units, volume.source.details["policy"]["values"]) == ("HU", "stored")
    assert np.array_equal(volume.array, stored.transpose(2, 1, 0))


@pytest.mark.parametrize("kind", ["MGML", "Z_EFF", "ED", "HU_MOD"])
def test_other_units_of_ct_are_refused_whatever_the_values(tmp_path, kind):
    ct(tmp_path, head_of_ct() + np.int16(1024), RescaleType=kind)
    with pytest.raises(InputError, match=f"rescale type {kind}; its values are not in HU"):
        read(tmp_path)


def test_stored_values_are_taken_without_any_scale(tmp_path):
    stored = head_of_ct()
    ct(tmp_path, stored, RescaleSlope=2, RescaleIntercept=-500)
    assert np.array_equal(read(tmp_path, policy=STORED).array, stored.transpose(2, 1, 0))


def scaled(*slopes):
    def change(index, data):
        data.RescaleSlope, data.RescaleIntercept = slopes[index % len(slopes)], 5

    return change


def test_a_slope_of_0_in_every_slice_of_mr_is_not_believed(tmp_path):
    stored = write_series(tmp_path / "in", change=scaled(0))
    volume = read(tmp_path / "in")
    assert np.array_equal(volume.array, stored.transpose(2, 1, 0))
    assert codes(volume) == ["scale-not-believed"]
    rederived([volume], tmp_path / "out")


def test_a_slope_of_0_in_some_slices_is_refused(tmp_path):
    write_series(tmp_path, change=scaled(0, 3))
    with pytest.raises(
        InputError, match=r"a rescale slope of 0, where .* other slices have a slope other than 0"
    ):
        read(tmp_path)


def test_a_slope_of_0_in_pet_is_refused(tmp_path):
    def change(index, data):
        data.Modality, data.RescaleSlope, data.RescaleIntercept = "PT", 0, 0

    write_series(tmp_path, change=change)
    with pytest.raises(InputError, match="a rescale slope of 0"):
        read(tmp_path)


# --- bits ---


def twelve_bits(shift: int, low: int = 0):
    def change(index, data):
        values = np.frombuffer(data.PixelData, np.uint16)
        data.BitsStored, data.HighBit = 12, 15
        data.add_new("PixelData", "OW", ((values << shift) | low).astype(np.uint16).tobytes())

    return change


@pytest.mark.parametrize("shift", [0, 4])
def test_pixels_tell_which_of_their_bits_are_used(tmp_path, shift):
    stored = write_series(tmp_path / "in", change=twelve_bits(shift))
    volume = read(tmp_path / "in")
    assert np.array_equal(volume.array, stored.transpose(2, 1, 0))
    assert codes(volume) == ["bits-judged"]
    rederived([volume], tmp_path / "out")


def test_pixels_that_do_not_tell_are_refused_and_read_on_request(tmp_path):
    stored = write_series(tmp_path, change=twelve_bits(4, 1))
    with pytest.raises(InputError, match="expected whole bytes that hold the value in their lowest bits"):
        read(tmp_path)
    assert np.array_equal(read(tmp_path, policy=STORED).array, stored.transpose(2, 1, 0) * 16 + 1)


# --- black and white exchanged ---


def inverted(index, data):
    data.PhotometricInterpretation = "MONOCHROME1"


def test_grey_of_mr_that_is_shown_inverted_is_inverted(tmp_path):
    stored = write_series(tmp_path / "in", change=inverted)
    volume = read(tmp_path / "in")
    assert np.array_equal(volume.array, stored.max() - stored.transpose(2, 1, 0))
    assert codes(volume) == ["grey-inverted"]
    rederived([volume], tmp_path / "out")
    assert {data.PhotometricInterpretation for data in images(tmp_path / "out")} == {"MONOCHROME2"}
    assert np.array_equal(read(tmp_path / "in", policy=STORED).array, stored.transpose(2, 1, 0))


def test_padding_of_inverted_grey_is_padding(tmp_path):
    def change(index, data):
        inverted(index, data)
        pixels = np.frombuffer(data.PixelData, np.int16).reshape(10, 12).copy()
        pixels[0, 0] = 20000
        data.add_new("PixelData", "OW", pixels.tobytes())
        data.add_new("PixelPaddingValue", "US", 20000)

    write_series(tmp_path / "in", change=change)
    volume = read(tmp_path / "in")
    assert volume.source.details["padding"]["voxels"] == 6
    rederived([volume], tmp_path / "out")


def test_some_slices_shown_inverted_are_refused(tmp_path):
    write_series(tmp_path, change=lambda index, data: inverted(index, data) if index == 3 else None)
    with pytest.raises(InputError, match=r"MONOCHROME1 \(black .*, and others of the series"):
        read(tmp_path)


def test_hu_are_hu_however_they_are_shown(tmp_path):
    stored = head_of_ct() + np.int16(1024)
    ct(tmp_path / "in", stored, PhotometricInterpretation="MONOCHROME1")
    volume = read(tmp_path / "in")
    assert np.array_equal(volume.array, stored.transpose(2, 1, 0) - 1024)
    assert sorted(codes(volume)) == ["grey-inverted", "hounsfield-judged"]
    rederived([volume], tmp_path / "out")


@pytest.mark.needs_shared
@pytest.mark.parametrize(
    ("name", "ends", "code"),
    [
        ("ct_no_rescale", (-999, -158), "hounsfield-judged"),
        ("rescaletype_Unspecified", (-1024, -176), "hounsfield-judged"),
        ("mr_slope0", (0, 851), "scale-not-believed"),
        ("highbit15_stored12", (0, 844), "bits-judged"),
        ("monochrome1", (0, 850), "grey-inverted"),
        ("no_sop_class", (0, 850), "class-not-stated"),
        ("sc_class_with_geometry", (0, 846), "class-not-stated"),
        ("mr_as_ct_cbct_xray3d", (0, 853), "class-not-stated"),
        ("pre_none_starts_0008_0060", (0, 846), "class-not-stated"),
    ],
)
def test_real_headers_that_leave_something_open(problem_cases, name, ends, code):
    volume = read(problem_cases / "dicom" / name)
    assert (volume.shape, volume.spacing) == ((48, 48, 12), (1, 1, 2))
    assert (volume.array.min(), volume.array.max()) == ends
    assert codes(volume) == [code]


# --- classes ---

CAPTURE, CONE_BEAM = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.13.1.2"
OF_A_MAKER = "1.3.6.1.4.1.99999.7"


def of_class(uid):
    def change(_, data):
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = uid

    return change


@pytest.mark.parametrize("uid", [CAPTURE, CONE_BEAM, OF_A_MAKER])
def test_slices_of_another_class_are_told_by_modality_place_and_pixels(tmp_path, uid):
    stored = write_series(tmp_path / "in", change=of_class(uid))
    volume = read(tmp_path / "in")
    assert np.array_equal(volume.array, stored.transpose(2, 1, 0))
    assert codes(volume) == ["class-not-stated"]
    rederived([volume], tmp_path / "out")


def test_slices_without_a_class_are_read_and_no_series_is_derived_of_them(tmp_path):
    stored = write_series(tmp_path)
    for path in tmp_path.iterdir():
        data = pydicom.dcmread(path)
        del data.SOPClassUID, data.file_meta.MediaStorageSOPClassUID
        data.save_as(path, enforce_file_format=False)
    volume = read(tmp_path)
    assert np.array_equal(volume.array, stored.transpose(2, 1, 0))
    assert codes(volume) == ["class-not-stated"]
    with pytest.raises(OutputError, match="has no SOPClassUID"):
        check_derivable(volume)


def test_ct_of_another_class_is_read_where_its_values_are_hu(tmp_path):
    ct(tmp_path / "hu", head_of_ct() + np.int16(1024), SOPClassUID=CONE_BEAM, RescaleType="US")
    assert sorted(codes(read(tmp_path / "hu"))) == ["class-not-stated", "hounsfield-judged"]
    ct(tmp_path / "grey", np.abs(head_of_ct() // 4), SOPClassUID=CONE_BEAM, RescaleType="US")
    with pytest.raises(InputError, match="whose SOP class is not that of CT"):
        read(tmp_path / "grey")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: setattr(data, "BurnedInAnnotation", "YES"),
        lambda data: delattr(data, "ImagePositionPatient"),
        lambda data: setattr(data, "Modality", "OT"),
    ],
    ids=["annotated", "no place", "another modality"],
)
def test_secondary_captures_that_are_no_slices_are_left_out(tmp_path, change):
    def of_capture(index, data):
        of_class(CAPTURE)(index, data)
        change(data)

    write_series(tmp_path, change=of_capture)
    assert {item.why for item in plan_dicom(tmp_path).left_out} == {SkipReason.SECONDARY}


@pytest.mark.parametrize("uid", ["1.2.840.10008.5.1.4.1.1.30", "1.2.840.10008.5.1.4.1.1.4.2"])
def test_other_objects_of_mr_are_no_slices(tmp_path, uid):
    """Parametric maps and spectra have modality, place, rows and columns, too."""
    write_series(tmp_path, change=of_class(uid))
    assert {item.why for item in plan_dicom(tmp_path).left_out} == {SkipReason.OTHER}


def test_one_slice_whose_class_is_wrong_is_no_gap(tmp_path):
    """Damage makes one class of another: a last slice must not vanish by it."""
    stored = write_series(tmp_path, change=lambda k, data: of_class(CAPTURE)(k, data) if k == 5 else None)
    volume = read(tmp_path)
    assert np.array_equal(volume.array, stored.transpose(2, 1, 0))
    assert codes(volume) == ["class-not-stated"]


def test_a_secondary_capture_beside_a_scan_is_a_picture_of_it(tmp_path):
    stored = write_series(tmp_path / "a")

    def picture(index, data):
        of_class(CAPTURE)(index, data)
        data.SeriesInstanceUID = "1.2.826.0.9"

    write_series(tmp_path / "b", change=picture)
    assert {item.why for item in plan_dicom(tmp_path).left_out} == {SkipReason.SECONDARY}
    assert np.array_equal(read(tmp_path).array, stored.transpose(2, 1, 0))
