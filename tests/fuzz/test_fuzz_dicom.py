"""Damaged DICOM: a classic series with a damaged slice, and an enhanced object: see `judge` and `damage`."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pydicom
import pytest
from damage import ANY, Damage, damaged, splice
from dicom_series import write_series
from judge import PERSON, bounded, check_words, share, tried
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage

from medrestore.io import Plan, ReadRequest, plan_dicom, read_series, reading_findings
from medrestore.io.dicom.read import planned_header, read_dicom
from medrestore.volume import Volume

PARTS, WHOLE = 10, 5_000
SLICES = 3

_TEXTS = (
    "PatientName",
    "PatientID",
    "ReferringPhysicianName",
    "SeriesDescription",
    "StudyID",
    "AccessionNumber",
)


def named(data: Dataset) -> None:
    """Put the name into every text."""
    for keyword in _TEXTS:
        setattr(data, keyword, PERSON[:16] if keyword in {"StudyID", "AccessionNumber"} else PERSON)


def in_order(folder: Path) -> list[Path]:
    """Return the first slices of a series."""
    return sorted(folder.iterdir(), key=lambda path: pydicom.dcmread(path).InstanceNumber)[:SLICES]


def small(index: int, data: Dataset) -> None:
    named(data)
    data.Rows = data.Columns = 3
    data.add_new("PixelData", "OW", np.arange(index, index + 9, dtype=np.int16).tobytes())


def enhanced(path: Path) -> None:
    """Write the images of a classic series as the frames of one."""
    write_series(path.with_name("classic"), change=small)
    images = [pydicom.dcmread(one) for one in in_order(path.with_name("classic"))]
    data = images[0]
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    data.NumberOfFrames = len(images)
    data.PixelData = b"".join(one.PixelData for one in images)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = data.PixelSpacing, data.SliceThickness
    orientation.ImageOrientationPatient = data.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    data.SharedFunctionalGroupsSequence, frames = [shared], []
    for number, image in enumerate(images, 1):
        frame, content, place = Dataset(), Dataset(), Dataset()
        content.StackID, content.InStackPositionNumber = "1", number
        place.ImagePositionPatient = image.ImagePositionPatient
        frame.FrameContentSequence, frame.PlanePositionSequence = [content], [place]
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = frames
    for keyword in ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness"):
        delattr(data, keyword)
    data.save_as(path, enforce_file_format=True)


def set_element(draw: random.Random, content: bytearray) -> bytearray:
    """Change the header of an element: its type, or its length."""
    marks = [
        at for at in range(132, len(content) - 8) if content[at + 4 : at + 6].isalpha() and content[at] < 0x60
    ]
    at = draw.choice(marks or [0])
    if draw.random() < 0.5:
        length = draw.choice((0, 1, 2, 3, 0xFF, 0xFFFE, 0xFFFF, draw.randrange(0x10000)))
        content[at + 6 : at + 8] = length.to_bytes(2, "little")
    else:
        content[at + 4 : at + 6] = draw.choice(
            (b"UN", b"SQ", b"OB", b"DS", b"US", b"FD", b"XX", b"UT", b"??", b"\0\0")
        )
    return content


def set_text(draw: random.Random, content: bytearray) -> bytearray:
    """Put what is no number, or an odd one, where a number stands as text."""
    marks = [at for at in range(132, len(content) - 2) if content[at : at + 1].isdigit()]
    at = draw.choice(marks or [0])
    word = draw.choice((b"A", b"?", b",", b"-", b"e9", b"\\", b"nan", b"1e999", b" ", b"\0", b"9" * 12))
    content[at : at + len(word)] = word
    return content


WAYS: tuple[Damage, ...] = (*ANY, *[set_element] * 4, *[set_text] * 4)


@pytest.fixture(scope="module")
def classic(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("classic")
    write_series(folder, change=small)
    return {path.name: path.read_bytes() for path in in_order(folder)}


@pytest.fixture(scope="module")
def multi_frame(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("enhanced") / "a.dcm"
    enhanced(path)
    return path.read_bytes()


def check(path: Path, folder: Path) -> None:
    """Plan a folder or a file, which always succeeds, and read the one series if it can be read."""
    plan = tried(lambda: plan_dicom(path), folder)
    assert isinstance(plan, Plan), plan
    check_plan(plan, folder)
    found = tried(lambda: read_dicom(planned_header(path, ReadRequest(), plan.choose())), folder)
    if not isinstance(found, str):
        check_volumes(found, folder)


def check_plan(plan: Plan, folder: Path) -> None:
    for item in plan.left_out:
        check_words(item.text, folder)
    for series in plan.series:
        for text in (series.reason, *(finding.text for finding in (*series.findings, *series.notes))):
            check_words(text, folder)


def check_volumes(volumes: tuple[Volume, ...], folder: Path) -> None:
    for volume in volumes:
        assert np.isfinite(volume.array).all()
        check_words([finding.text for finding in reading_findings(volume)], folder)


@pytest.mark.parametrize("part", range(PARTS))
def test_a_series_with_a_damaged_slice(tmp_path, classic, part):
    draw = random.Random(f"classic {part}")
    for name, content in classic.items():
        (tmp_path / name).write_bytes(content)
    with bounded():
        for _ in range(share(WHOLE, 0.6 / PARTS)):
            name = draw.choice(list(classic))
            (tmp_path / name).write_bytes(
                damaged(draw, classic[name], (*WAYS, splice(list(classic.values()))))
            )
            check(tmp_path, tmp_path)
            (tmp_path / name).write_bytes(classic[name])


@pytest.mark.parametrize("part", range(PARTS))
def test_a_damaged_enhanced_object(tmp_path, multi_frame, part):
    draw, path = random.Random(f"enhanced {part}"), tmp_path / "a.dcm"
    with bounded():
        for _ in range(share(WHOLE, 0.4 / PARTS)):
            path.write_bytes(damaged(draw, multi_frame, WAYS))
            check(path, tmp_path)


def test_what_is_sound_is_read(tmp_path, classic, multi_frame):
    """Else nothing of the above would say much."""
    for name, content in classic.items():
        (tmp_path / name).write_bytes(content)
    (whole,) = read_series(tmp_path)
    assert whole.shape == (3, 3, SLICES)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.dcm").write_bytes(multi_frame)
    (frames,) = read_series(tmp_path / "b" / "a.dcm")
    assert frames.shape == (3, 3, SLICES)
