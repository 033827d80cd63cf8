"""What divides a series and what does not, and volumes that no header names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset
from test_dicom_enhanced import enhanced, frame, item
from test_io_dicom import ORIENTATIONS, STEP, drop, image, place, series, voxels

from medrestore.errors import GeometryError, InputError
from medrestore.io import ReadPolicy, plan_dicom, read, read_series

AXIAL = ORIENTATIONS["axial"]
Change = Callable[[int, FileDataset], FileDataset | None]


def kinds(folder: Path, policy: ReadPolicy | None = None) -> list[tuple[str, str]]:
    return [(item.kind, item.action) for item in plan_dicom(folder, policy).series]


def notes(folder: Path) -> list[str]:
    return [note.code for item in plan_dicom(folder).series for note in item.notes]


def sets(**values: Callable[[int], object]) -> Change:
    """Attributes of slice `index`, each by a function of it."""

    def change(index: int, data: FileDataset) -> FileDataset:
        for name, value in values.items():
            setattr(data, name, value(index))
        return data

    return change


def both(*changes: Change) -> Change:
    def change(index: int, data: FileDataset) -> FileDataset | None:
        for one in changes:
            data = None if data is None else one(index, data)
        return data

    return change


def turned(angle: Callable[[int], float]) -> Change:
    """Slices turned in their plane by an angle, in radians."""

    def change(index: int, data: FileDataset) -> FileDataset:
        turn = angle(index)
        cosines = np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0]])
        data.ImageOrientationPatient = [f"{x:.10g}" for x in cosines.ravel()]
        return data

    return change


frames_of_reference = sets(FrameOfReferenceUID=lambda n: f"1.2.{n + 1}")
half_derived = sets(ImageType=lambda n: [("ORIGINAL", "DERIVED")[n > 3], "PRIMARY", "AXIAL"])

JITTER = {
    "a frame of reference for each slice": (frames_of_reference, "frame of reference"),
    "two frames of reference in turn": (
        sets(FrameOfReferenceUID=lambda n: f"1.2.{n % 2 + 1}"),
        "frame of reference",
    ),
    "cosines off by 3e-4": (turned(lambda n: 3e-4 * (n % 3 - 1)), "orientation or pixel spacing"),
    "cosines off by 1e-3": (turned(lambda n: 1e-3 * (n % 2)), "orientation or pixel spacing"),
    "pixels off by 2e-4": (
        sets(PixelSpacing=lambda n: [0.8 + 2e-4 * (n % 2), 0.6]),
        "orientation or pixel spacing",
    ),
    "echo time in the last digit": (sets(EchoTime=lambda n: 4.6 + 0.001 * (n % 2)), "echo time"),
    "an echo time for each slice": (sets(EchoTime=lambda n: 4.6 + 0.001 * n), "echo time"),
    "an echo time on some slices": (sets(EchoTime=lambda n: 4.6 if n % 2 else None), "echo time"),
    "image types in turn": (
        sets(ImageType=lambda n: [("ORIGINAL", "DERIVED")[n % 2], "PRIMARY"]),
        "image type",
    ),
    "derived from the middle on": (half_derived, "image type"),
    "frame of reference and image type": (both(frames_of_reference, half_derived), "image type"),
}


@pytest.mark.parametrize("name", JITTER)
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_slices_between_each_other_are_one_volume(tmp_path, name, modality):
    change, word = JITTER[name]
    stored = series(tmp_path / "a", modality=modality, change=change)
    series(tmp_path / "plain", modality=modality)
    volume, plain = read(tmp_path / "a"), read(tmp_path / "plain")
    assert volume.shape == (6, 5, 7) == stored.shape[::-1]
    assert np.array_equal(volume.array, plain.array)
    assert volume.geometry.allclose(plain.geometry, 5e-3)
    (planned,) = plan_dicom(tmp_path / "a").series
    (note,) = planned.notes
    assert note.code == "attributes-vary-in-volume" and word in note.data["attributes"]
    assert notes(tmp_path / "plain") == []


def test_units_that_are_stated_for_some_slices_divide_nothing(tmp_path):
    series(tmp_path, modality="CT", change=sets(RescaleType=lambda n: "HU" if n % 2 else "US"))
    assert kinds(tmp_path) == [("regular", "read")]


def test_a_gap_is_seen_where_every_slice_has_a_frame_of_reference(tmp_path):
    series(tmp_path, change=both(drop(3), frames_of_reference))
    assert kinds(tmp_path) == [("gap(1)", "fail")]


def test_images_of_two_types_in_the_same_places_are_two_series(tmp_path):
    change = both(sets(ImageType=lambda n: ["ORIGINAL", "PRIMARY", "M"]), frames_of_reference)
    series(tmp_path / "m", change=change)
    series(tmp_path / "p", change=sets(ImageType=lambda n: ["ORIGINAL", "PRIMARY", "P"]))
    assert kinds(tmp_path) == [("regular", "read")] * 2


def test_two_echoes_whose_times_are_not_exact_are_two_volumes(tmp_path):
    for echo in (1, 2):
        series(tmp_path / str(echo), change=sets(EchoTime=lambda n, echo=echo: 4.6 * echo + 0.001 * (n % 2)))
    (planned,) = plan_dicom(tmp_path).series
    assert planned.kind == "multi-volume(2)"
    assert [dict(volume.label)["echo time"] for volume in planned.volumes] == [4.6, 9.2]


def test_b_values_near_each_other_stay_two_volumes(tmp_path):
    for b in (995.0, 1000.0):
        series(tmp_path / str(b), change=sets(DiffusionBValue=lambda n, b=b: b))
    assert kinds(tmp_path) == [("multi-volume(2)", "read")]


@pytest.mark.parametrize("change", [turned(lambda n: 8e-3 * n / 7), turned(lambda n: 8e-3 * (n % 2))])
def test_slices_that_are_turned_too_far_for_one_volume_are_no_volumes_of_their_own(tmp_path, change):
    series(tmp_path, change=change)
    planned = plan_dicom(tmp_path).series
    assert {item.action for item in planned} == {"fail"}
    assert all("part of a cut series" in item.reason for item in planned)
    assert {item.action for item in plan_dicom(tmp_path, ReadPolicy(on_gap="resample")).series} == {"fail"}


def test_images_kept_from_a_series_are_part_of_a_cut_one(tmp_path):
    stored = series(tmp_path / "a")
    keys = both(drop(1, 3, 5), sets(ImageType=lambda n: ["DERIVED", "SECONDARY", "KEY"]))
    series(tmp_path / "b", change=keys)
    assert sorted(kinds(tmp_path)) == [("gap(3)", "fail"), ("regular", "read")]
    assert np.array_equal(read(tmp_path, series="1").array, stored.transpose(2, 1, 0))


def test_slices_of_which_each_has_a_series_uid_are_no_series_of_their_own(tmp_path):
    series(tmp_path / "scan", change=sets(SeriesInstanceUID=lambda n: f"1.2.{n + 1}"))
    assert kinds(tmp_path / "scan") == [("gap", "fail")] * 7
    with pytest.raises(GeometryError, match="part of a cut series"):
        read(tmp_path / "scan", series="1")
    apart = sets(SeriesInstanceUID=lambda n: f"1.2.{n + 1}", SeriesNumber=lambda n: n + 1)
    series(tmp_path / "scouts", change=both(drop(3, 4, 5, 6), apart))
    assert kinds(tmp_path / "scouts") == [("single", "read")] * 3


def test_stacks_apart_from_each_other_are_told_apart_by_their_frames_of_reference(tmp_path):
    series(tmp_path, change=lambda n, data: None)
    for block in (0, 1):
        for n in range(4):
            data = place(image(voxels()[n], FrameOfReferenceUID=f"1.2.{block}"), n + 30.5 * block, AXIAL)
            data.save_as(tmp_path / f"{block}{n}", enforce_file_format=True)
    assert kinds(tmp_path) == [("regular", "read")] * 2


# --- volumes that no header names ---


def write_volumes(folder: Path, numbers, count=3, change: Callable | None = None) -> np.ndarray:
    """Write `count` volumes in the same places; `numbers(volume, slice)` are instance numbers, or None."""
    folder.mkdir(exist_ok=True)
    stored = np.stack([voxels() + 1000 * volume for volume in range(count)])
    for volume in range(count):
        for n in range(7):
            data = place(image(np.ascontiguousarray(stored[volume, n])), n, AXIAL)
            if numbers(volume, n) is not None:
                data.InstanceNumber = numbers(volume, n)
            data = data if change is None else change(volume, n, data)
            if data is not None:
                data.save_as(folder / f"{(volume * 7 + n) * 5 % 23:02d}", enforce_file_format=True)
    return stored


ORDERS = {
    "volume after volume": lambda volume, n: 1 + volume * 7 + n,
    "volume after volume, with numbers left out": lambda volume, n: 1 + volume * 40 + n,
    "from the top in one, from the bottom in another": lambda volume, n: (
        1 + volume * 7 + abs(n - 6 * (volume % 2))
    ),
    "place after place": lambda volume, n: 1 + 3 * n + volume,
}


@pytest.mark.parametrize("order", ORDERS)
def test_volumes_are_told_apart_by_the_order_of_their_images(tmp_path, order):
    stored = write_volumes(tmp_path, ORDERS[order])
    volumes = read_series(tmp_path)
    assert len(volumes) == 3
    for volume, expected in zip(volumes, stored, strict=True):
        assert np.array_equal(volume.array, expected.transpose(2, 1, 0))
    assert notes(tmp_path) == ["volumes-by-order"]
    assert [volume.source.details["label"]["order"] for volume in volumes] == [1, 2, 3]


@pytest.mark.parametrize("numbers", [lambda volume, n: None, lambda volume, n: 1 + n])
def test_images_without_an_order_are_neither_volumes_nor_averaged(tmp_path, numbers):
    write_volumes(tmp_path, numbers)
    assert kinds(tmp_path) == [("duplicate(7)", "fail")]
    with pytest.raises(GeometryError, match="looks like volumes"):
        read(tmp_path, policy=ReadPolicy(on_duplicate="resample"))


HINTS = {
    "acquisition": lambda volume, data: setattr(data, "AcquisitionNumber", volume + 1),
    "frame reference time": lambda volume, data: setattr(data, "FrameReferenceTime", 1000.0 * volume),
    "spin label": lambda volume, data: setattr(
        data, "ASLContext", ["LABEL", "CONTROL", "M_ZERO_SCAN"][volume]
    ),
    "coil": lambda volume, data: private(data, 0x0051, "SIEMENS MR HEADER", {0x0F: ("LO", f"H{volume}")}),
    "b-value of GE": lambda volume, data: private(
        data, 0x0043, "GEMS_PARM_01", {0x39: ("IS", [500 * volume, 8, 0, 0])}
    ),
    "direction of GE": lambda volume, data: private(
        data, 0x0019, "GEMS_ACQU_01", {0xBB + k: ("DS", float(k == volume)) for k in range(3)}
    ),
    "direction of Philips": lambda volume, data: private(
        data, 0x2005, "Philips MR Imaging DD 001", {0xB0 + k: ("FL", float(k == volume)) for k in range(3)}
    ),
    "b-value of UIH": lambda volume, data: private(
        data, 0x0065, "Image Private Header", {0x09: ("FD", 500.0 * volume)}
    ),
    "comment of Canon": lambda volume, data: setattr(
        data, "ImageComments", f"b=1500(0.{volume},-0.445,0.895)" if volume else "b=0(0,0,0)"
    ),
}


def private(data: FileDataset, group: int, creator: str, elements: dict[int, tuple[str, object]]) -> None:
    block = data.private_block(group, creator, create=True)
    for offset, (kind, value) in elements.items():
        block.add_new(offset, kind, value)


@pytest.mark.parametrize("hint", HINTS)
def test_volumes_are_told_apart_by_what_scanners_write(tmp_path, hint):
    def change(volume, n, data):
        HINTS[hint](volume, data)
        return data

    stored = write_volumes(tmp_path, lambda volume, n: None, change=change)
    volumes = read_series(tmp_path)
    found = sorted(volumes, key=lambda volume: volume.array.min())
    for volume, expected in zip(found, stored, strict=True):
        assert np.array_equal(volume.array, expected.transpose(2, 1, 0))
    assert notes(tmp_path) == []


@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
def test_b_values_survive_the_name_of_their_block(tmp_path, syntax):
    def change(volume, n, data):
        data.Manufacturer = "GE MEDICAL SYSTEMS"
        HINTS["b-value of GE"](volume, data)
        del data[0x0043, 0x0010]
        if syntax == "implicit":
            data.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        return data

    write_volumes(tmp_path, lambda volume, n: None, change=change)
    labels = [volume.source.details["label"]["b-value"] for volume in read_series(tmp_path)]
    assert labels == [0, 500, 1000]


def test_elements_of_another_maker_are_not_believed(tmp_path):
    def change(volume, n, data):
        private(data, 0x0043, "ACME", {0x39: ("IS", [500 * volume, 8, 0, 0])})
        return data

    write_volumes(tmp_path, lambda volume, n: None, change=change)
    assert kinds(tmp_path) == [("duplicate(7)", "fail")]


def test_frames_are_told_apart_by_a_dimension_of_their_image(tmp_path):
    """As Philips numbers label and control, by an index whose meaning is private."""
    pixels, groups = [], []
    for n in range(7):
        for volume in range(2):
            pixels.append(voxels()[n] + 1000 * volume)
            content = item(
                StackID="1", InStackPositionNumber=n + 1, DimensionIndexValues=[1, n + 1, volume + 1]
            )
            groups.append(frame(n, AXIAL, FrameContentSequence=content))
    pointers = [item(DimensionIndexPointer=tag) for tag in (0x00209056, 0x00209057, 0x20051429)]
    enhanced(tmp_path / "a", np.stack(pixels), groups, DimensionIndexSequence=pointers)
    volumes = read_series(tmp_path / "a")
    assert [int(volume.array.min()) for volume in volumes] == [0, 1000]


ODDITIES = {
    "none": lambda data, k: None,
    "frame of reference": lambda data, k: setattr(data, "FrameOfReferenceUID", f"1.2.{k + 1}"),
    "echo time": lambda data, k: setattr(data, "EchoTime", 4.6 + 0.001 * (k * 5 % 3)),
    "image type": lambda data, k: setattr(
        data, "ImageType", [("ORIGINAL", "DERIVED")[k * 5 % 3 > 1], "PRIMARY"]
    ),
    "pixels": lambda data, k: setattr(data, "PixelSpacing", [0.8 * (1 + 2e-4 * (k * 5 % 3)), 0.6]),
}


@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize("hint", ["order", *HINTS])
def test_what_varies_within_volumes_does_not_hide_them(tmp_path, hint, oddity):
    def change(volume, n, data):
        if hint in HINTS:
            HINTS[hint](volume, data)
        ODDITIES[oddity](data, 7 * volume + n)
        return data

    stored = write_volumes(tmp_path, ORDERS["volume after volume"], change=change)
    (planned,) = plan_dicom(tmp_path).series
    assert (planned.kind, planned.action) == ("multi-volume(3)", "read")
    for volume, expected in zip(read_series(tmp_path), stored, strict=True):
        assert np.array_equal(volume.array, expected.transpose(2, 1, 0))


@pytest.mark.parametrize("first", [0, 6])
def test_a_slice_that_is_missing_at_the_start_shifts_no_volume(tmp_path, first):
    """Runs of as many images as there are places would then be made of two volumes each."""

    def change(volume, n, data):
        return None if (volume, n) == (0, first) else data

    write_volumes(tmp_path, ORDERS["volume after volume"], change=change)
    assert [action for _, action in kinds(tmp_path)] == ["fail"]


@pytest.mark.parametrize("missing", [1, 4])
@pytest.mark.parametrize("named", [True, False])
def test_an_interrupted_last_volume_is_set_apart(tmp_path, missing, named):
    def change(volume, n, data):
        if named:
            data.AcquisitionNumber = volume + 1
        return None if volume == 2 and n >= 7 - missing else data

    stored = write_volumes(tmp_path, ORDERS["volume after volume"], change=change)
    volumes = read_series(tmp_path)
    assert [int(volume.array.min()) for volume in volumes] == [int(part.min()) for part in stored[:2]]
    plan = plan_dicom(tmp_path)
    assert [item.why for item in plan.left_out] == ["volume that was interrupted"] * (7 - missing)
    (found,) = [note for note in plan.series[0].notes if note.code == "volume-interrupted"]
    assert found.data == {"slices": 7, "missing": missing} and found.severity == "warning"


def test_a_volume_in_the_middle_that_lacks_slices_is_refused(tmp_path):
    def change(volume, n, data):
        data.AcquisitionNumber = volume + 1
        data.TemporalPositionIdentifier = volume + 1
        return None if volume == 1 and n == 6 else data

    write_volumes(tmp_path, ORDERS["volume after volume"], change=change)
    assert sorted(kinds(tmp_path)) == [("gap(1)", "fail"), ("multi-volume(2)", "read")]
    with pytest.raises(InputError, match="2 DICOM series"):
        read(tmp_path)


def test_signed_images_among_others_are_a_series_of_their_own(tmp_path):
    """As GE writes a field map: magnitude, and hertz in the same places, and no word of it."""

    def change(volume, n, data):
        if volume == 1:
            data.PixelData = (voxels()[n] - 100).astype(np.int16).tobytes()
        return data

    write_volumes(tmp_path, ORDERS["volume after volume"], count=2, change=change)
    assert kinds(tmp_path) == [("regular", "read")] * 2
    assert sorted(notes(tmp_path)) == ["signed-values", "volumes-by-order", "volumes-by-order"]


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("AcquisitionNumber", 9, "acquisition"),
        ("ImagePositionPatient", [100.0, 30, 40], "place in their plane"),
        ("AcquisitionTime", "101112", "acquired at"),
    ],
)
def test_images_that_are_no_repeats_are_never_averaged(tmp_path, name, value, word):
    """One image more, of another acquisition, time or field of view."""
    stored = series(tmp_path)
    more = place(image(stored[0] + 7), 0, AXIAL)
    setattr(more, name, value)
    more.save_as(tmp_path / "more", enforce_file_format=True)
    with pytest.raises(GeometryError, match=f"differ in {word}"):
        read(tmp_path, policy=ReadPolicy(on_duplicate="resample"))


def test_images_in_one_place_that_show_other_things_are_not_averaged(tmp_path):
    stored = series(tmp_path)
    more = place(image(np.ascontiguousarray(stored[0][::-1, ::-1])), 0, AXIAL)
    more.save_as(tmp_path / "more", enforce_file_format=True)
    with pytest.raises(GeometryError, match="do not show the same"):
        read(tmp_path, policy=ReadPolicy(on_duplicate="resample"))


# --- positions in tenths of a millimetre ---


def rounded(folder: Path, step: float, axes: np.ndarray, count=24, skip=(), moved=0.0) -> None:
    folder.mkdir(exist_ok=True)
    for n in range(count):
        if n in skip:
            continue
        data = place(image(voxels()[0] + n, SliceThickness=step), 0, axes)
        where = np.array([-20.03, 30.02, 40.07]) + (n * step + moved * (n > count // 2)) * axes[2]
        data.ImagePositionPatient = [f"{x:.1f}" for x in where]
        data.save_as(folder / f"{n:03d}", enforce_file_format=True)


@pytest.mark.parametrize("step", [0.625, 0.75, 1.25, 2.5, 3.3])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_rounded_positions_are_an_even_line(tmp_path, step, orientation):
    rounded(tmp_path, step, ORIENTATIONS[orientation])
    (planned,) = plan_dicom(tmp_path).series
    assert (planned.kind, planned.action) == ("regular", "read")
    volume = read(tmp_path)
    assert volume.spacing[2] == pytest.approx(step, abs=2e-3)
    places = volume.geometry.world(np.array([[0, 0, 0], [0, 0, 23]])) * [-1, -1, 1]
    true = np.array([-20.03, 30.02, 40.07]) + np.outer([0, 23 * step], ORIENTATIONS[orientation][2])
    np.testing.assert_allclose(places, true, atol=0.12)


@pytest.mark.parametrize("step", [0.625, 1.25])
def test_a_gap_and_a_shift_are_seen_in_rounded_positions(tmp_path, step):
    rounded(tmp_path / "gap", step, AXIAL, skip=(9,))
    assert kinds(tmp_path / "gap") == [("gap(1)", "fail")]
    rounded(tmp_path / "shift", step, AXIAL, moved=0.4 * step)
    assert kinds(tmp_path / "shift") == [("nonuniform", "fail")]


def test_exact_positions_are_held_to_their_digits(tmp_path):
    series(tmp_path, change=lambda n, data: place(data, n + 0.03 * (n % 2), AXIAL))
    assert STEP * 0.03 > 0.02
    assert kinds(tmp_path) == [("nonuniform", "fail")]
