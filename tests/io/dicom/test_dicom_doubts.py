"""Headers that are wrong or leave something open: what is read all the same, with what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import dicom_errors, write_series
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from test_dicom_write import images, record_of

from medrestore.errors import InputError, OutputError, reason_of
from medrestore.io import (
    ReadPolicy,
    check_derivable,
    plan_dicom,
    read,
    read_series,
    reading_findings,
    write_dicom,
)
from medrestore.io.dicom.parse.header import SkipReason

STORED = ReadPolicy(values="stored")


def codes(volume) -> list[str]:
    """Codes of what is said of how a scan was read; the plan says the same, but for what pixels tell."""
    found = [finding.code for finding in reading_findings(volume)]
    (series,) = plan_dicom(Path(volume.source.path)).series
    assert [note.code for note in series.notes] == [code for code in found if code != "padding-not-believed"]
    return found


def head_of_ct(seed: int = 0, noise: float = 10.0) -> np.ndarray:
    """A round head in air, HU, (slice, row, column), int16: 10 x 12 pixels for each of six slices."""
    hounsfield = np.full((6, 10, 12), -1000.0)
    hounsfield[:, 2:8, 2:10] = 40
    hounsfield[:, 2, 2:10] = 900
    return np.rint(hounsfield + np.random.default_rng(seed).normal(0, noise, hounsfield.shape)).astype(
        np.int16
    )


def ct(folder, stored, **attributes):
    """Write a CT of stored values; attributes replace or, when None, remove what is there."""

    def change(index, data):
        data.PixelRepresentation = int(stored.dtype.kind == "i")
        data.add_new("PixelData", "OW", stored[index].tobytes())
        for name, value in attributes.items():
            if value is None:
                delattr(data, name)
            else:
                setattr(data, name, value)

    write_series(folder, "CT", change)


def malformed(data, keyword: str, text: str) -> None:
    """Give an element a text that is no value of its kind."""
    tag = Tag(keyword)
    vr = pydicom.datadict.dictionary_VR(tag)
    value = text.encode() + b" " * (len(text) % 2)
    data._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def rederived(volumes, out) -> None:
    """Write a derived series of volumes and check that it is in order, and read as it was written."""
    write_dicom(volumes, out, [record_of(volume) for volume in volumes])
    assert all(dicom_errors(path) == [] for path in out.iterdir())
    for volume, again in zip(volumes, read_series(out), strict=True):
        np.testing.assert_allclose(again.array, volume.array, atol=0.51)
        assert reading_findings(again) == ()


# --- one bad element ---


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("SliceThickness", "2,0"),
        ("SpacingBetweenSlices", "?"),
        ("SeriesNumber", "A"),
        ("InstanceNumber", "one"),
        ("EchoTime", "3,5"),
        ("AcquisitionNumber", "1-5"),
        ("FlipAngle", ""),
        ("WindowCenter", "40,5\\x"),
    ],
)
def test_a_malformed_element_that_is_not_needed_condemns_no_file(tmp_path, keyword, text):
    def change(index, data):
        malformed(data, keyword, text)

    stored = write_series(tmp_path / "in", change=change)
    volume = read(tmp_path / "in")
    assert np.array_equal(volume.array, stored.transpose(2, 1, 0))
    looked_at = text and keyword != "WindowCenter"
    assert codes(volume) == (["malformed-elements"] if looked_at else [])
    rederived([volume], tmp_path / "out")


def test_what_is_malformed_is_named_and_not_quoted(tmp_path):
    def change(index, data):
        malformed(data, "SliceThickness", "Doe^Jane")

    write_series(tmp_path, change=change)
    (found,) = reading_findings(read(tmp_path))
    assert "malformed SliceThickness (0018,0050) (in 6 images" in found.text
    assert "Doe" not in found.text
    assert found.data["images"] == 6


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("PixelSpacing", "0,9\\0,8"),
        ("RescaleSlope", "1,0"),
        ("ImageOrientationPatient", "1,0\\0,0\\0\\0\\1\\0"),
        ("Rows", None),
    ],
)
def test_a_decimal_comma_in_what_is_needed_is_read(tmp_path, keyword, text):
    def change(index, data):
        if text is not None:
            data.RescaleSlope, data.RescaleIntercept = 1, 0
            malformed(data, keyword, text)

    stored = write_series(tmp_path / "in", change=change)
    volume = read(tmp_path / "in")
    assert np.array_equal(volume.array, stored.transpose(2, 1, 0))
    assert volume.spacing == pytest.approx((0.8, 0.9, 2.5))
    assert codes(volume) == ([] if text is None else ["malformed-elements"])


@pytest.mark.parametrize(
    ("keyword", "text", "tag"),
    [
        ("PixelSpacing", "?", "PixelSpacing (0028,0030)"),
        ("RescaleSlope", "Doe", "RescaleSlope (0028,1053)"),
        ("RescaleIntercept", "1,000,0", "RescaleIntercept (0028,1052)"),
        ("ImagePositionPatient", "0\\0\\Doe", "ImagePositionPatient (0020,0032)"),
        ("NumberOfFrames", "one", "NumberOfFrames (0028,0008)"),
    ],
)
def test_a_malformed_element_that_is_needed_is_named(tmp_path, keyword, text, tag):
    write_series(tmp_path, change=lambda index, data: malformed(data, keyword, text) if index == 2 else None)
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert f"{tag} is malformed, and needed" in str(caught.value)
    assert "Doe" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "could not convert string to float: np.str_('Doe^Jane')",
            "could not convert string to float: np.str_(...)",
        ),
        ("Instead received b'Doe' with length 3", "Instead received ... with length 3"),
        ("'O'Doe^Jane' is no number", "... is no number"),
        ("no end: 'Doe", "no end: ..."),
        ("can't do it\nDoe", "can't do it"),
        ("x" * 500, "x" * 200),
        ("", "ValueError"),
    ],
)
def test_what_another_library_says_is_told_without_what_it_quotes(text, told):
    assert reason_of(ValueError(text)) == told


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


# --- padding ---


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
