"""Elements that are malformed: passed over where voxels need them not, else mended or named."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from dicom_series import write_series
from doubtful import codes, rederived
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from medrestore.errors import InputError, reason_of
from medrestore.io import (
    read,
    reading_findings,
)


def malformed(data, keyword: str, text: str) -> None:
    """Give an element a text that is no value of its kind."""
    tag = Tag(keyword)
    vr = pydicom.datadict.dictionary_VR(tag)
    value = text.encode() + b" " * (len(text) % 2)
    data._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("SliceThickness", "2,0"),
        ("SliceThickness", "2.5\\2.5"),
        ("SpacingBetweenSlices", "?"),
        ("SpacingBetweenSlices", "2\\3"),
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
        ("RescaleSlope", "1\\2", "RescaleSlope (0028,1053)"),
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
