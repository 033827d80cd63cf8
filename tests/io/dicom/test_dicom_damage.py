"""Files that cannot be read: named, and a series that may lack their slices is refused, planned or read."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pydicom
import pytest
from dicom_series import header, stored_voxels, write_series
from pydicom.uid import RLELossless
from tiny import CommandLine

from medrestore.batch.find.cases import find_cases
from medrestore.errors import InputError
from medrestore.io import plan_dicom, read
from medrestore.io.dicom.parse.files import is_dicom
from medrestore.io.dicom.parse.header import SkipReason

NAMES = ("Doe", "Roe", "Jane", "Richard")
"""Words of the names in the headers of these tests."""


@pytest.fixture
def cli(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


def refused(folder, series=None) -> str:
    """Return why a series is refused, after checking that the plan says the same and tells no name."""
    with pytest.raises(InputError) as caught:
        read(folder, series=series)
    text = str(caught.value)
    plan = plan_dicom(folder)
    for item in plan.series:
        if series in {None, str(item.number)}:
            assert item.action == "fail" and item.reason in text
    assert not any(name in text for name in NAMES)
    return text


def cut_lengths(content: bytes) -> list[int]:
    """Return lengths of a cut file: all about where elements begin and end, and a sample of the others."""
    edges = {match.start() for match in re.finditer(rb"[\x02\x08\x18\x20\x28\x7f\xe0]\x00", content)}
    near = {edge + n for edge in edges for n in range(-1, 13)}
    wanted = near | {0, 1, *range(120, 150), *range(0, len(content), 37)}
    return sorted(wanted & set(range(len(content))))


@pytest.mark.parametrize("ending", [".dcm", ""])
def test_a_file_that_is_cut_anywhere_blocks_its_series_and_is_named(tmp_path, ending):
    write_series(tmp_path)
    for name in "035":  # three neighbours are left, which are read again for every cut
        (tmp_path / f"s{name}.dcm").unlink()
    files = sorted(path.rename(path.with_suffix(ending)) for path in tmp_path.iterdir())
    last, content = files[-1], files[-1].read_bytes()
    missed = []
    for length in cut_lengths(content)[:: 1 if ending else 5]:
        last.write_bytes(content[:length])
        plan = plan_dicom(tmp_path)
        with pytest.raises(InputError) as caught:
            plan.choose()
        named = last.name in str(caught.value) and all(item.action == "fail" for item in plan.series)
        if not named or any(name in str(caught.value) for name in NAMES):
            missed.append(length)
    assert not missed
    assert last.name in refused(tmp_path)


def test_a_file_that_is_cut_in_its_compressed_pixels_blocks_its_series(tmp_path):
    def change(_, data):
        data.compress(RLELossless, generate_instance_uid=False)

    write_series(tmp_path, change=change)
    last = sorted(tmp_path.iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-20])
    assert last.name in refused(tmp_path)


@pytest.mark.needs_shared
def test_numbers_of_a_wrong_length_are_damage_of_their_file_alone(problem_cases, tmp_path):
    for path in (problem_cases / "dicom" / "bytes_length").iterdir():
        shutil.copy(path, tmp_path)
    stored = write_series(tmp_path / "good")
    plan = plan_dicom(tmp_path)
    assert {item.why for item in plan.left_out} == {SkipReason.DAMAGED}
    assert len(plan.left_out) == 3
    assert any("(0002,0000)" in item.text for item in plan.left_out)
    assert np.array_equal(read(tmp_path).array, stored.transpose(2, 1, 0))


def test_a_needed_number_of_a_wrong_length_is_named(tmp_path):
    write_series(tmp_path)
    path = sorted(tmp_path.iterdir())[2]
    content = path.read_bytes()
    place = content.index(b"\x28\x00\x10\x00US")
    path.write_bytes(
        content[: place + 6] + b"\x03\x00" + content[place + 8 : place + 10] + b"\0" + content[place + 10 :]
    )
    assert f"{path.name}: Rows (0028,0010) is malformed" in refused(tmp_path)


@pytest.mark.parametrize("change", [-6, -1, 1, 30, 120])
def test_a_wrong_length_of_its_series_uid_hides_no_file(tmp_path, change):
    write_series(tmp_path)
    (last,) = {head.path for head in plan_dicom(tmp_path).series[0].heads if head.position[2] > 52}
    content = last.read_bytes()
    place = content.index(b"\x20\x00\x0e\x00UI") + 6
    length = int.from_bytes(content[place : place + 2], "little") + change
    last.write_bytes(content[:place] + length.to_bytes(2, "little") + content[place + 2 :])
    assert last.name in refused(tmp_path)


# --- files that are no DICOM by their content ---


@pytest.mark.parametrize(
    ("name", "sibling"), [("s7.dcm", "s{}.dcm"), ("IM0007", "IM{:04}"), ("1.2.3.7", "1.2.3.{}")]
)
@pytest.mark.parametrize("content", [b"<html>404 Not found</html>", bytes(40) + b"\1" * 400, b""])
def test_a_file_named_as_its_siblings_that_is_no_dicom_blocks_their_series(tmp_path, name, sibling, content):
    write_series(tmp_path)
    for number, path in enumerate(sorted(tmp_path.iterdir())):
        path.rename(tmp_path / sibling.format(number))
    (tmp_path / name).write_bytes(content)
    assert f"/{name}: " in refused(tmp_path)


@pytest.mark.parametrize(
    "name", ["notes.txt", "key.jpg", "scan.nii.gz", "meta.json", "README", "DICOMDIR", "LICENSE", "IM.png"]
)
def test_other_files_beside_images_block_nothing(tmp_path, name):
    stored = write_series(tmp_path / "in")
    for number, path in enumerate(sorted((tmp_path / "in").iterdir())):
        path.rename(tmp_path / "in" / f"IM{number:04}")
    (tmp_path / "in" / name).write_bytes(b"some words")
    assert np.array_equal(read(tmp_path / "in").array, stored.transpose(2, 1, 0))
    assert plan_dicom(tmp_path / "in").others == 1


# --- which series is blocked ---


def study(folder):
    """Write two series in folders of their own, and return the voxels of the first as they are read."""
    stored = write_series(folder / "a")

    def other(_, data):
        data.SeriesInstanceUID, data.SeriesNumber = "1.2.826.0.9", 6

    write_series(folder / "b", change=other)
    return stored.transpose(2, 1, 0)


def junk(path):
    """Write a DICOM file without class, series and pixels."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(
        bytes(128) + b"DICM\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0\x08\x00\x60\x00CS\x02\x00OT"
    )


@pytest.mark.parametrize("place", ["other", "."])
def test_a_file_that_lies_elsewhere_blocks_no_series(tmp_path, place):
    voxels = study(tmp_path)
    junk(tmp_path / place / "note.dcm")
    plan = plan_dicom(tmp_path)
    assert [item.action for item in plan.series] == ["read", "read"]
    assert [item.why for item in plan.left_out] == [SkipReason.DAMAGED]
    assert np.array_equal(read(tmp_path, series="1").array, voxels)


def test_a_file_beside_a_series_blocks_it_and_not_the_other(tmp_path):
    study(tmp_path)
    junk(tmp_path / "a" / "note.dcm")
    assert [item.action for item in plan_dicom(tmp_path).series] == ["fail", "read"]
    assert "note.dcm" in refused(tmp_path, "1")
    assert read(tmp_path, series="2").shape == (12, 10, 6)


def test_a_file_of_one_series_in_the_folder_of_another_blocks_its_own(tmp_path):
    study(tmp_path)
    path = sorted((tmp_path / "b").iterdir())[0]
    path.write_bytes(path.read_bytes()[:-60])
    path.rename(tmp_path / "a" / "stray.dcm")
    assert [item.action for item in plan_dicom(tmp_path).series] == ["read", "fail"]
    assert "stray.dcm" in refused(tmp_path, "2")


def test_a_series_in_several_folders_is_blocked_by_a_file_in_a_further_one(tmp_path):
    write_series(tmp_path / "in")
    for number, path in enumerate(sorted((tmp_path / "in").iterdir())):
        (tmp_path / "in" / f"d{number}").mkdir()
        path.rename(tmp_path / "in" / f"d{number}" / "image.dcm")
    junk(tmp_path / "in" / "d6" / "image.dcm")
    junk(tmp_path / "note.dcm")
    assert "d6/image.dcm" in refused(tmp_path)


@pytest.mark.needs_shared
def test_a_real_study_with_one_junk_file_is_read(problem_cases, cli):
    folder = problem_cases / "dicom" / "study_one_junk_file"
    assert read(folder, series="1").shape == (48, 48, 12)
    status, shown, _ = cli("scan", folder)
    assert status == 0 and "note.dcm: no SOP class" in " ".join(shown.split())


def test_a_batch_says_why_a_series_is_refused_without_names_of_files(tmp_path):
    study(tmp_path)
    junk(tmp_path / "a" / "Doe.dcm")
    refusals = {case.refused for case in find_cases(tmp_path).cases}
    assert refusals == {"", "a file that may be of it is damaged: see medrestore scan"}


# --- what messages say ---


def dragged(path, keyword: bytes, index: int = 0) -> None:
    """Give an element a length that drags the rest of the header into it."""
    data = header("MR", index)
    data.Rows, data.Columns = 10, 12
    data.add_new("PixelData", "OW", stored_voxels()[index].tobytes())
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    content = path.read_bytes()
    place = content.index(keyword) + 6
    path.write_bytes(content[:place] + (400).to_bytes(2, "little") + content[place + 2 :])


TEXTS = {
    "class": b"\x08\x00\x16\x00UI",
    "modality": b"\x08\x00\x60\x00CS",
    "image type": b"\x08\x00\x08\x00CS",
    "series": b"\x20\x00\x0e\x00UI",
    "spacing": b"\x28\x00\x30\x00DS",
    "orientation": b"\x20\x00\x37\x00DS",
    "grey": b"\x28\x00\x04\x00CS",
    "study": b"\x08\x00\x20\x00DA",
}


@pytest.mark.parametrize("keyword", TEXTS.values(), ids=TEXTS)
def test_no_message_quotes_what_a_wrong_length_drags_in(tmp_path, cli, recwarn, keyword):
    dragged(tmp_path / "a.dcm", keyword)
    for arguments in (("scan", tmp_path), ("scan", tmp_path, "--json")):
        _, shown, said = cli(*arguments)
        assert not any(name in shown + said for name in NAMES)
    for item in plan_dicom(tmp_path).left_out:
        assert len(item.text) < len(str(item.path)) + 400
    assert not any(name in str(warning.message) for warning in recwarn for name in NAMES)


# --- files without a preamble ---


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("first", ["ImageType", "Modality", "StudyDate", "SOPClassUID"])
def test_a_file_without_preamble_may_begin_with_any_element_of_its_first_group(tmp_path, implicit, first):
    stored = write_series(tmp_path)
    for path in tmp_path.iterdir():
        data = pydicom.dcmread(path)
        bare = pydicom.Dataset({e.tag: e for e in data if e.tag >= pydicom.tag.Tag(first)})
        pydicom.dcmwrite(path, bare, implicit_vr=implicit, little_endian=True, overwrite=True)
        assert is_dicom(path)
    assert np.array_equal(read(tmp_path).array, stored.transpose(2, 1, 0))


@pytest.mark.parametrize(
    "content", [b"\x08\x00\x60\x00" + b"word" * 80, b"\x08\x00", b"\x5c\x01\0\0" * 90, bytes(500)]
)
def test_bytes_that_only_begin_like_an_element_are_no_dicom(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert not is_dicom(tmp_path / "a")


def test_a_deflated_file_may_be_smaller_than_its_pixels(tmp_path):
    def change(_, data):
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
        data.PixelData = bytes(240)

    write_series(tmp_path, change=change)
    assert read(tmp_path).shape == (12, 10, 6)
