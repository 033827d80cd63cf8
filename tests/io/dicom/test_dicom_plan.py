"""The plan of a tree of DICOM files: classes, policies, what is left out; `medrestore scan` prints it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import RLELossless, generate_uid
from test_io_dicom import (
    ORIENTATIONS,
    SPACING,
    STEP,
    drop,
    edit,
    image,
    move,
    place,
    series,
    shift,
    tilt,
    voxels,
)
from tiny import CommandLine, model_folder

from medrestore.errors import ConfigError, GeometryError, InputError
from medrestore.io import ReadPolicy, plan_dicom, read, read_series, reading_findings
from medrestore.io.dicom.parse.sop_classes import SkipReason
from medrestore.provenance import RunRecord

OTHER_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.7": SkipReason.SECONDARY,
    "1.2.840.10008.5.1.4.1.1.88.33": SkipReason.REPORT,
    "1.2.840.10008.5.1.4.1.1.66.4": SkipReason.SEGMENTATION,
    "1.2.840.10008.5.1.4.1.1.481.2": SkipReason.RADIOTHERAPY,
    "1.2.840.10008.5.1.4.1.1.481.3": SkipReason.RADIOTHERAPY,
    "1.2.840.10008.5.1.4.1.1.11.1": SkipReason.PRESENTATION,
    "1.2.840.10008.5.1.4.1.1.6.1": SkipReason.OTHER,
    "1.2.840.10008.5.1.4.1.1.4.3": SkipReason.COLOUR,
}


def far(index, data):
    """Slices at heights 0, 1, 2, 10 ... 13 steps."""
    return place(data, index + 7 * (index > 2), np.eye(3))


@pytest.mark.parametrize(
    ("change", "kind", "action", "reason"),
    [
        (None, "regular", "read", ""),
        (drop(0, 1, 2, 3, 4, 6), "single", "read", ""),
        (drop(3), "gap(1)", "fail", "--on-gap resample"),
        (drop(1, 4), "gap(2)", "fail", "--on-gap resample"),
        (move(lambda n: min(n, 5)), "duplicate(1)", "fail", "--on-duplicate resample"),
        (tilt, "tilt(9.09)", "fail", "--on-tilt resample"),
        (move(lambda n: n + 0.3 * (n > 4)), "nonuniform", "fail", "--on-nonuniform resample"),
        (shift, "nonuniform", "fail", "--on-nonuniform resample"),
        (far, "gap(7)", "fail", "no resampling can mend"),
        (lambda n, data: None if n == 3 else tilt(n, data), "gap(1)+tilt(9.09)", "fail", "--on-gap"),
    ],
)
def test_class_and_what_is_done(tmp_path, change, kind, action, reason):
    series(tmp_path, change=change)
    (planned,) = plan_dicom(tmp_path).series
    assert (planned.kind, planned.action) == (kind, action)
    assert reason in planned.reason
    assert (planned.geometry is None) == (action == "fail")
    assert planned.shape[:2] == (6, 5)
    assert planned.spacing[:2] == (SPACING[1], SPACING[0])


@pytest.mark.parametrize(("orientation", "plane"), [*zip(ORIENTATIONS, ORIENTATIONS, strict=True)][:3])
def test_planes_have_names(tmp_path, orientation, plane):
    series(tmp_path, orientation)
    assert plan_dicom(tmp_path).series[0].plane == plane


# --- mending ---


def ramp(volume, step=(1.0, 2.0, 3.0)) -> np.ndarray:
    """What a linear function of world coordinates is on a grid."""
    index = np.indices(volume.shape).reshape(3, -1).T
    return (volume.geometry.world(index) @ step).reshape(volume.shape)


def ramp_series(folder: Path, where, orientation="axial", skip=()) -> None:
    """Slices at `where(index)` (LPS+ offset) with voxels that are a linear function of world coordinates."""
    folder.mkdir(exist_ok=True)
    row, column, _ = ORIENTATIONS[orientation]
    i, j = np.meshgrid(np.arange(10), np.arange(12), indexing="ij")
    for index in range(8):
        if index in skip:
            continue
        origin = np.array([-20.0, 30.0, 40.0]) + where(index)
        points = origin + j[..., None] * SPACING[1] * row + i[..., None] * SPACING[0] * column
        values = points @ (-1.0, -2.0, 3.0)  # LPS+, so 1, 2, 3 in RAS+
        data = image(np.rint(values * 100).astype(np.int16), RescaleSlope=0.01, RescaleIntercept=0)
        data.ImageOrientationPatient = [f"{x:.10g}" for x in (*row, *column)]
        data.ImagePositionPatient = [f"{x:.10g}" for x in origin]
        data.save_as(folder / f"{(index * 5) % 11}", enforce_file_format=True)


def check_ramp(folder: Path, policy: ReadPolicy, label: str, inner=slice(None)):
    volume = read(folder, policy=policy)
    expected = ramp(volume)
    inside = (inner, inner, slice(None))
    np.testing.assert_allclose(volume.array[inside], expected[inside], atol=0.02)
    (step,) = volume.history
    assert step.name == "dicom:resample"
    assert step.params["mended"] == (label,)
    assert dict(volume.source.details["resampled"]) == dict(step.params)
    assert "resampled when it was read" in reading_findings(volume)[-1].text
    return volume, step


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_missing_slices_are_interpolated_on_request(tmp_path, orientation):
    normal = ORIENTATIONS[orientation][2]
    ramp_series(tmp_path, lambda n: n * STEP * normal, orientation, skip=(2, 5))
    volume, step = check_ramp(tmp_path, ReadPolicy(on_gap="resample"), "gap(2)")
    assert volume.shape == (12, 10, 8)
    assert step.params["interpolated"] == (2, 5)


def test_uneven_distances_are_interpolated_on_request(tmp_path):
    ramp_series(tmp_path, lambda n: np.array([0, 0, n * 2.5 + 0.7 * (n > 3)]))
    volume, _ = check_ramp(tmp_path, ReadPolicy(on_nonuniform="resample"), "nonuniform")
    assert volume.spacing[2] == pytest.approx(2.5)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("degrees", [15.0, -15.0])
def test_tilt_is_resampled_to_a_rectangular_grid_on_request(tmp_path, orientation, degrees):
    _, column, normal = ORIENTATIONS[orientation]
    lean = np.tan(np.deg2rad(degrees))
    ramp_series(tmp_path, lambda n: n * STEP * (normal + lean * column), orientation)
    policy = ReadPolicy(on_tilt="resample")
    with pytest.raises(GeometryError, match=r"15\.00 degrees"):
        read(tmp_path)
    volume = read(tmp_path, policy=policy)
    axes = volume.geometry.affine[:3, :3] / volume.spacing
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    # What no slice covers is air, the least value; the rest must be the ramp.
    right = np.isclose(volume.array, ramp(volume), atol=0.02)
    covered = right.sum() / (12 * 10 * 8)
    assert 0.85 < covered <= 1.0
    assert volume.array[~right].max() < ramp(volume).max()
    assert volume.history[0].params["mended"] == ("tilt(15)",)


def test_images_in_one_place_are_averaged_on_request(tmp_path):
    stored = series(tmp_path, change=move(lambda n: min(n, 5)))
    volume = read(tmp_path, policy=ReadPolicy(on_duplicate="resample"))
    assert volume.shape == (6, 5, 6)
    assert np.array_equal(volume.array[:, :, 5], (stored[5].T + stored[6].T) / 2)
    assert volume.history[0].params["mended"] == ("duplicate(1)",)


@pytest.mark.parametrize("missing", [3, 4])
def test_more_than_three_neighbours_missing_are_never_invented(tmp_path, missing):
    series(tmp_path, change=move(lambda n: n + missing * (n > 3)))
    policy = ReadPolicy(on_gap="resample")
    if missing <= 3:
        assert read(tmp_path, policy=policy).shape[2] == 10
    else:
        with pytest.raises(GeometryError, match="no resampling can mend that"):
            read(tmp_path, policy=policy)


def test_what_is_skipped_leaves_the_good_series(tmp_path):
    stored = series(tmp_path / "a")
    series(tmp_path / "b", change=drop(3), SeriesInstanceUID="9.9")
    with pytest.raises(InputError, match="2 DICOM series"):
        read(tmp_path)
    volume = read(tmp_path, policy=ReadPolicy(on_gap="skip"))
    assert np.array_equal(volume.array, stored.transpose(2, 1, 0))


def test_a_policy_of_other_words_is_refused():
    with pytest.raises(ConfigError, match="on_gap is 'guess'"):
        ReadPolicy(on_gap="guess")


def test_copies_are_taken_once_with_a_note(tmp_path):
    stored = series(tmp_path)
    first, second = sorted(tmp_path.iterdir())[:2]
    shutil.copy(first, tmp_path / "again")
    data = pydicom.dcmread(second)
    data.SOPInstanceUID = generate_uid()
    data.save_as(tmp_path / "renamed")
    data.compress(RLELossless, generate_instance_uid=False)
    data.save_as(tmp_path / "compressed")
    volume = read(tmp_path)
    assert np.array_equal(volume.array, stored.transpose(2, 1, 0))
    assert "3 copies of images were passed over" in reading_findings(volume)[0].text


def test_other_pixels_in_the_same_place_are_no_copy(tmp_path):
    series(tmp_path)
    data = pydicom.dcmread(sorted(tmp_path.iterdir())[0])
    data.PixelData = (data.pixel_array + 1).tobytes()
    data.save_as(tmp_path / "changed")
    assert plan_dicom(tmp_path).series[0].kind == "duplicate(1)"


# --- several series, and what is left out ---


def test_two_series_are_told_apart_and_taken_by_number_or_uid(tmp_path):
    stored = series(tmp_path, SeriesNumber=1)
    for index in range(4):
        data = place(image(voxels()[index] + 500, SeriesInstanceUID="9.9", SeriesNumber=2), index, np.eye(3))
        data.save_as(tmp_path / f"other{index}", enforce_file_format=True)
    assert [item.shape[2] for item in plan_dicom(tmp_path).series] == [7, 4]
    assert np.array_equal(read(tmp_path, series="1").array, stored.transpose(2, 1, 0))
    assert read(tmp_path, series="9.9").array.min() == 500
    with pytest.raises(InputError, match="no series '3' among 1 to 2"):
        read(tmp_path, series="3")


@pytest.mark.parametrize(("uid", "why"), OTHER_CLASSES.items())
def test_other_objects_are_left_out_by_name(tmp_path, uid, why):
    stored = series(tmp_path)
    data = place(image(voxels()[0], SOPClassUID=uid, SeriesInstanceUID="9.9"), 9, np.eye(3))
    data.file_meta.MediaStorageSOPClassUID = uid
    data.save_as(tmp_path / "other", enforce_file_format=True)
    plan = plan_dicom(tmp_path)
    assert [item.why for item in plan.left_out] == [why]
    assert plan.left_out[0].text.startswith(str(tmp_path / "other"))
    assert np.array_equal(read(tmp_path).array, stored.transpose(2, 1, 0))


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, SkipReason.LOCALIZER),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, SkipReason.COLOUR),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}, SkipReason.MOSAIC),
        ({"ImagePositionPatient": None}, SkipReason.NO_PLACE),
    ],
)
def test_images_are_left_out_with_a_reason(tmp_path, attributes, why):
    series(tmp_path)
    data = place(image(voxels()[0], SeriesInstanceUID="9.9"), 9, np.eye(3))
    for name, value in attributes.items():
        data.__delattr__(name) if value is None else setattr(data, name, value)
    data.save_as(tmp_path / "other", enforce_file_format=True)
    assert [item.why for item in plan_dicom(tmp_path).left_out] == [why]
    assert read(tmp_path).shape == (6, 5, 7)


def test_a_localizer_in_the_series_itself_is_left_out(tmp_path):
    series(tmp_path, change=edit(s6={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}))
    assert read(tmp_path).shape == (6, 5, 6)


def test_links_are_not_followed_out_of_the_folder(tmp_path):
    series(tmp_path / "in")
    series(tmp_path / "out", SeriesInstanceUID="9.9")
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "out")
    assert len(plan_dicom(tmp_path / "in").series) == 1
    target = next((tmp_path / "out").iterdir())
    (tmp_path / "in" / "link").symlink_to(target)
    assert [item.why for item in plan_dicom(tmp_path / "in").left_out] == [SkipReason.LINK]
    with pytest.raises(InputError, match="link that leads out"):
        read(tmp_path / "in")


def test_a_damaged_file_makes_its_series_refused(tmp_path):
    series(tmp_path)
    path = sorted(tmp_path.iterdir())[0]
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=path.name):
        read(tmp_path)


def test_an_empty_image_is_seen_where_names_end_in_numbers(tmp_path):
    series(tmp_path)
    files = sorted(tmp_path.iterdir())
    for number, path in enumerate(files):
        path.rename(tmp_path / f"i77.MRDC.{number}")
    (tmp_path / f"i77.MRDC.{len(files) - 1}").write_bytes(b"")
    with pytest.raises(InputError, match="empty, or nothing but zeros"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"", bytes(100), bytes(5000)])
def test_an_image_that_a_broken_copy_left_empty_makes_its_series_refused(tmp_path, content):
    series(tmp_path)
    (tmp_path / "notes.txt").write_bytes(content)
    assert read(tmp_path).shape == (6, 5, 7)
    last = sorted(path for path in tmp_path.iterdir() if path.suffix != ".txt")[-1]
    last.write_bytes(content)
    with pytest.raises(InputError, match=f"{last.name}: empty, or nothing but zeros"):
        read(tmp_path)


def test_a_nesting_bomb_is_refused_quickly(tmp_path):
    opening = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    start = image(voxels()[0])
    start.save_as(tmp_path / "a", enforce_file_format=True)
    head = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(head[: head.index(b"\x08\x00\x16\x00UI")] + opening * 50_000)
    begun = time.monotonic()
    with pytest.raises(InputError, match="damaged"):
        read(tmp_path)
    assert time.monotonic() - begun < 20


def test_planning_imports_neither_torch_nor_nibabel():
    code = (
        "import sys, medrestore.io; from medrestore.cli import app; "
        "print(sorted({'torch', 'monai', 'nibabel'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# --- the command line ---


@pytest.fixture
def cli(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


def test_scan_prints_what_is_there_and_what_is_not_read(cli, tmp_path):
    series(tmp_path / "a", modality="CT", change=tilt, SeriesNumber=3, SeriesDescription="Head")
    scout = image(voxels()[0], PixelSpacing=None, SeriesInstanceUID="9.9")
    scout.save_as(tmp_path / "scout", enforce_file_format=True)
    (tmp_path / "notes.txt").write_text("x")
    status, shown, _ = cli("scan", tmp_path)
    assert status == 0
    words = " ".join(shown.split())
    assert "3 Head" in words and "tilt(9.09)" in words and "HU" in words and "6 x 5 x 7" in words
    assert "no place in a frame of reference" in words and "1 files are no DICOM" in words
    status, shown, _ = cli("scan", tmp_path, "--json", "--on-tilt", "resample")
    (record,) = json.loads(shown)["series"]
    assert (record["class"], record["action"], record["units"]) == ("tilt(9.09)", "resample", "HU")
    assert len(record["volumes"][0]["slices"]) == 7
    assert json.loads(shown)["left_out"][0]["file"] == str(tmp_path / "scout")


def test_scan_takes_one_file_and_looks_at_nothing_beside_it(cli, tmp_path):
    series(tmp_path / "a")
    (tmp_path / "a" / "other.nii.gz").write_bytes(b"")
    status, shown, _ = cli("scan", tmp_path / "a" / "000", "--json")
    assert status == 0
    record = json.loads(shown)
    assert len(record["series"]) == 1 and not record["other_formats"]
    status, shown, _ = cli("scan", tmp_path / "a" / "other.nii.gz")
    assert status == 0
    assert "1 files are no DICOM" in shown


def test_restore_follows_the_policy_and_records_it(cli, tmp_path):
    series(tmp_path / "scan", change=drop(3))
    model = model_folder(tmp_path / "tiny")
    arguments = ("restore", tmp_path / "scan", "-o", tmp_path / "out.nii.gz", "--model", model, "--force")
    status, _, said = cli(*arguments)
    assert status == 2 and "--on-gap resample mends it" in said
    status, _, said = cli(*arguments, "--on-gap", "resample", "--noise", "5")
    assert status == 0, said
    record = RunRecord.from_json((tmp_path / "out.json").read_text())
    assert record.input.details["resampled"]["mended"] == ("gap(1)",)
    assert any("resampled when it was read" in warning for warning in record.sentences)


# --- properties ---


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(range(7)),
    folders=st.lists(st.sampled_from(["", "a", "a/b"]), min_size=7, max_size=7),
    rle=st.lists(st.booleans(), min_size=7, max_size=7),
    flips=st.tuples(st.booleans(), st.booleans()),
    orientation=st.sampled_from([*ORIENTATIONS]),
)
def test_names_folders_encoding_and_flips_do_not_move_voxels(
    tmp_path_factory, order, folders, rle, flips, orientation
):
    folder = tmp_path_factory.mktemp("scan")
    stored = voxels()
    axes = ORIENTATIONS[orientation]
    along_row, along_column = (-1 if flip else 1 for flip in flips)
    for index, pixels in enumerate(stored):
        data = place(image(np.ascontiguousarray(pixels[::along_column, ::along_row])), index, axes)
        corner = np.asarray(data.ImagePositionPatient, float)
        corner += axes[0] * SPACING[1] * 5 * flips[0] + axes[1] * SPACING[0] * 4 * flips[1]
        data.ImagePositionPatient = [f"{x:.10g}" for x in corner]
        data.ImageOrientationPatient = [f"{x:.10g}" for x in (*axes[0] * along_row, *axes[1] * along_column)]
        if rle[index]:
            data.compress(RLELossless, generate_instance_uid=False)
        where = folder / folders[index]
        where.mkdir(parents=True, exist_ok=True)
        data.save_as(where / f"{order[index]}.x", enforce_file_format=True)
    volume = read(folder)
    for value in (0, 5, 29, 77, stored.size - 1):
        k, i, j = np.argwhere(stored == value)[0]
        lps = (
            np.array([-20, 30, 40]) + k * STEP * axes[2] + j * SPACING[1] * axes[0] + i * SPACING[0] * axes[1]
        )
        (found,) = np.argwhere(volume.array == value)
        np.testing.assert_allclose(volume.geometry.world(found), lps * [-1, -1, 1], atol=1e-4)
    assert len(read_series(folder)) == 1
