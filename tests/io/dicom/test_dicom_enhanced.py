"""Enhanced multi-frame objects, and series of several volumes."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage, RLELossless
from test_io_dicom import ORIENTATIONS, SPACING, STEP, image, place, series, voxels

from medrestore.errors import GeometryError, InputError
from medrestore.io import plan_dicom, read, read_series

AXIAL = np.eye(3)


def item(**attributes) -> Dataset:
    data = Dataset()
    for name, value in attributes.items():
        setattr(data, name, value)
    return data


def frame(k: int, axes: np.ndarray, **more) -> Dataset:
    """Functional groups of a frame in place `k`; `more` are further groups, by name."""
    origin = np.array([-20.0, 30, 40]) + k * STEP * axes[2]
    groups = item(
        FrameContentSequence=[item(StackID="1", InStackPositionNumber=k + 1)],
        PlanePositionSequence=[item(ImagePositionPatient=[f"{x:.10g}" for x in origin])],
    )
    for name, value in more.items():
        setattr(groups, name, [value])
    return groups


def enhanced(path, pixels, groups, axes=AXIAL, kind=EnhancedMRImageStorage, **attributes):
    """Write an enhanced image of frames (frame, row, column)."""
    pixels = np.ascontiguousarray(pixels)
    data = image(pixels[0], "CT" if kind == EnhancedCTImageStorage else "MR")
    for name in ("PixelSpacing", "SliceThickness", "RescaleSlope", "RescaleIntercept"):
        data.pop(name, None)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = kind
    data.NumberOfFrames, data.PixelData = len(pixels), pixels.tobytes()
    data.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=list(SPACING), SliceThickness=STEP)],
            PlaneOrientationSequence=[item(ImageOrientationPatient=[f"{x:.10g}" for x in axes[:2].ravel()])],
        )
    ]
    data.PerFrameFunctionalGroupsSequence = groups
    for name, value in attributes.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return data


SHUFFLED = [4, 0, 6, 2, 1, 5, 3]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("compressed", [False, True])
def test_frames_in_any_order_make_one_volume(tmp_path, orientation, compressed):
    axes = ORIENTATIONS[orientation]
    data = enhanced(tmp_path / "a", voxels()[SHUFFLED], [frame(k, axes) for k in SHUFFLED], axes=axes)
    if compressed:
        data.compress(RLELossless, generate_instance_uid=False)
        data.save_as(tmp_path / "a", enforce_file_format=True)
    series(tmp_path / "classic", orientation)
    volume, classic = read(tmp_path / "a"), read(tmp_path / "classic")
    assert np.array_equal(volume.array, classic.array)
    assert volume.geometry.allclose(classic.geometry, 1e-6)


def test_each_frame_has_its_own_rescaling(tmp_path):
    groups = [
        frame(k, np.eye(3), PixelValueTransformationSequence=item(RescaleSlope=k + 1, RescaleIntercept=-k))
        for k in SHUFFLED
    ]
    enhanced(tmp_path / "a", voxels()[SHUFFLED], groups)
    expected = voxels() * np.arange(1.0, 8)[:, None, None] - np.arange(7)[:, None, None]
    assert np.array_equal(read(tmp_path / "a").array, expected.transpose(2, 1, 0))


def test_enhanced_ct_without_rescaling_is_refused(tmp_path):
    enhanced(tmp_path / "a", voxels(), [frame(k, np.eye(3)) for k in range(7)], kind=EnhancedCTImageStorage)
    with pytest.raises(InputError, match=r"frame 1: a CT image without rescale slope"):
        read(tmp_path)


def test_several_volumes_in_one_object(tmp_path):
    order = np.random.default_rng(0).permutation(14)
    stored = np.concatenate([voxels(), voxels() + 1000])
    groups = [
        frame(int(n) % 7, np.eye(3), MREchoSequence=item(EffectiveEchoTime=[4.5, 9.0][n // 7])) for n in order
    ]
    enhanced(tmp_path / "a", stored[order], groups)
    with pytest.raises(InputError, match="a series of 2 volumes"):
        read(tmp_path)
    early, late = read_series(tmp_path)
    assert np.array_equal(early.array, voxels().transpose(2, 1, 0))
    assert np.array_equal(late.array, early.array + 1000)
    assert late.source.details["label"] == {"echo time": 9.0}
    assert plan_dicom(tmp_path).series[0].kind == "multi-volume(2)"


def test_image_types_in_one_object_are_series_of_their_own(tmp_path):
    kinds = [["ORIGINAL", "PRIMARY", "M_FFE", "M"], ["ORIGINAL", "PRIMARY", "PHASE_MAP", "P"]]
    groups = [
        frame(k, np.eye(3), MRImageFrameTypeSequence=item(FrameType=kind)) for kind in kinds for k in range(7)
    ]
    enhanced(tmp_path / "a", np.concatenate([voxels(), voxels() + 1000]), groups)
    with pytest.raises(InputError, match=r"2 DICOM series.*differ in image type"):
        read(tmp_path)
    assert np.array_equal(read(tmp_path, series="2").array, voxels().transpose(2, 1, 0) + 1000)


@pytest.mark.parametrize("total", [2, None])
def test_parts_of_a_concatenation_are_put_together_if_all_are_there(tmp_path, total):
    for number, part in ((1, range(3)), (2, range(3, 7))):
        said = {"ConcatenationUID": "1.9", "InConcatenationNumber": number}
        if total:
            said["InConcatenationTotalNumber"] = total
        enhanced(tmp_path / f"part{number}", voxels()[part], [frame(k, np.eye(3)) for k in part], **said)
    assert np.array_equal(read(tmp_path).array, voxels().transpose(2, 1, 0))
    (tmp_path / "part1").unlink()
    with pytest.raises(GeometryError, match=r"1 part\(s\) of a concatenation .* missing"):
        read(tmp_path)


def test_a_part_of_a_concatenation_may_hold_one_series_alone(tmp_path):
    for number, kind in ((1, "M"), (2, "P")):
        groups = [
            frame(k, AXIAL, MRImageFrameTypeSequence=item(FrameType=["ORIGINAL", "PRIMARY", "T1", kind]))
            for k in range(7)
        ]
        said = {"ConcatenationUID": "1.9", "InConcatenationNumber": number, "InConcatenationTotalNumber": 2}
        enhanced(tmp_path / f"part{number}", voxels(), groups, **said)
    assert [item.action for item in plan_dicom(tmp_path).series] == ["read", "read"]


def test_a_missing_frame_is_a_gap(tmp_path):
    kept = [0, 1, 2, 4, 5, 6]
    enhanced(tmp_path / "a", voxels()[kept], [frame(k, np.eye(3)) for k in kept])
    with pytest.raises(GeometryError, match=r"5\.000 mm between a frame 3 and a frame 4"):
        read(tmp_path)


@pytest.mark.parametrize("groups", [6, 0])
def test_frames_that_are_not_described_are_refused(tmp_path, groups):
    enhanced(tmp_path / "a", voxels(), [frame(k, np.eye(3)) for k in range(groups)])
    with pytest.raises(InputError, match=r"7 frames declared, and 6 described|does not describe its frames"):
        read(tmp_path)


# --- classic series of several volumes ---


@pytest.mark.parametrize(
    ("name", "values", "label"),
    [
        ("EchoTime", [2.5, 30.0], "echo time"),
        ("EchoNumbers", [1, 2], "echo"),
        ("DiffusionBValue", [0.0, 1000.0], "b-value"),
        ("TemporalPositionIdentifier", [1, 2], "time"),
        ("AcquisitionNumber", [1, 2], "acquisition"),
        ("TriggerTime", [0.0, 250.0], "trigger time"),
        ("AcquisitionTime", ["101112", "101115"], "seconds after the first"),  # never the time of day
    ],
)
def test_volumes_of_a_classic_series(tmp_path, name, values, label):
    for n, value in enumerate(values):
        stored = voxels() + 1000 * n
        for k in np.random.default_rng(n).permutation(7):
            data = place(image(stored[k], **{name: value}), int(k), ORIENTATIONS["oblique"])
            data.save_as(tmp_path / f"{k}{n}", enforce_file_format=True)
    first, second = read_series(tmp_path)
    assert np.array_equal(first.array, voxels().transpose(2, 1, 0))
    assert np.array_equal(second.array, first.array + 1000)
    assert first.geometry == second.geometry
    assert list(second.source.details["label"]) == [label]
    if label == "seconds after the first":
        assert second.source.details["label"] == {label: 3.0}
    next(tmp_path.iterdir()).unlink()
    with pytest.raises((GeometryError, InputError)):
        read_series(tmp_path)


def test_siemens_b_values_tell_volumes_apart(tmp_path):
    for n, value in enumerate((0, 700)):
        for k in range(7):
            data = place(image(voxels()[k] + 1000 * n), k, np.eye(3))
            data.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", value)
            data.save_as(tmp_path / f"{k}{n}", enforce_file_format=True)
    assert [v.source.details["label"]["b-value"] for v in read_series(tmp_path)] == [0.0, 700.0]


def test_a_quantity_of_the_slice_does_not_split_a_volume(tmp_path):
    for k in range(7):
        data = place(image(voxels()[k], TriggerTime=30.0 * k, TemporalPositionIdentifier=k + 1), k, np.eye(3))
        data.save_as(tmp_path / f"{k}", enforce_file_format=True)
    assert read(tmp_path).shape == (6, 5, 7)


def test_no_text_of_the_header_travels_with_an_enhanced_image(tmp_path):
    enhanced(tmp_path / "a", voxels(), [frame(k, np.eye(3)) for k in range(7)])
    assert b"Jane" in (tmp_path / "a").read_bytes()
    assert "Jane" not in repr(read(tmp_path).source)
    assert pydicom.dcmread(tmp_path / "a").NumberOfFrames == 7
