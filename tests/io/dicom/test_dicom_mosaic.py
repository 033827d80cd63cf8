"""Pictures of tiles: unfolded where their header says how, refused by name where it does not."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from dicom_series import AXIAL, dicom_errors, header, stored_voxels, write_series
from pydicom.dataset import Dataset
from test_dicom_read_others import converted, differing
from test_dicom_write import images, record_of

from medrestore.errors import InputError
from medrestore.io import read, read_series, reading_findings, write_dicom

SIDE, DISTANCE = 3, 3.5
OBLIQUE = np.array([[0.6, 0.8, 0.0], [-0.48, 0.36, -0.8], [-0.64, 0.48, 0.6]])


def csa(**fields) -> bytes:
    """Siemens' header of an image: names, and values as text."""
    out = b"SV10\4\3\2\1" + struct.pack("<2I", len(fields), 77)
    for name, values in fields.items():
        texts = [f"{value}".encode() + b"\0" for value in values]
        out += name.encode().ljust(64, b"\0") + struct.pack(
            "<i4s3i", len(texts), b"FD\0\0", 3, len(texts), 77
        )
        for text in texts:
            out += struct.pack("<4i", len(text), len(text), 77, len(text)) + text.ljust(
                -(-len(text) // 4) * 4
            )
    return out


def mosaic(path, axes=AXIAL, change=None, time=1, **fields) -> np.ndarray:
    """Write a mosaic of seven slices; return them, (slice, row, column)."""
    stored = stored_voxels(7) // time
    rows, columns = stored.shape[1:]
    picture = np.zeros((SIDE, rows, SIDE, columns), dtype=np.int16)
    for k, pixels in enumerate(stored):
        picture[k // SIDE, :, k % SIDE] = pixels
    data = header("MR", time, axes)
    data.Rows, data.Columns = SIDE * rows, SIDE * columns
    data.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    data.SpacingBetweenSlices, data.AcquisitionNumber, data.Manufacturer = DISTANCE, time, "SIEMENS"
    down, across = np.asarray(data.PixelSpacing, float)
    corner = np.array(
        [-20.0, 30.0, 40.0]
    )  # of the first slice; what is stated has it in the picture's middle
    corner = corner - axes[0] * across * (SIDE - 1) * columns / 2 - axes[1] * down * (SIDE - 1) * rows / 2
    data.ImagePositionPatient = [f"{x:.10g}" for x in corner]
    data.SliceLocation = 12
    data.add_new("PixelData", "OW", picture.tobytes())
    said = {"NumberOfImagesInMosaic": [7], "SliceNormalVector": axes[2], "ProtocolSliceNumber": [0], **fields}
    block = data.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", csa(**said))
    data.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 7)
    if change is not None:
        change(data)
    path.parent.mkdir(exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return stored


@pytest.mark.parametrize("axes", [np.eye(3), OBLIQUE], ids=["axial", "oblique"])
def test_a_mosaic_is_a_volume(tmp_path, axes):
    stored = mosaic(tmp_path / "in" / "a.dcm", axes)
    volume = read(tmp_path / "in")
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    assert volume.spacing == pytest.approx((0.8, 0.9, DISTANCE))
    lps = np.array([-20.0, 30.0, 40.0]) + 5 * DISTANCE * axes[2]
    np.testing.assert_allclose(volume.geometry.world([0, 0, 5]), lps * [-1, -1, 1], atol=1e-5)
    (image,) = converted(tmp_path / "in", tmp_path / "nii").values()
    assert differing([volume], image).size == 0


SAGITTAL = np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])


@pytest.mark.parametrize("number", [0, 6])
@pytest.mark.parametrize("axes", [AXIAL, OBLIQUE, SAGITTAL], ids=["axial", "oblique", "sagittal"])
def test_tiles_follow_the_normal_that_siemens_states(tmp_path, axes, number):
    """It runs against rows and columns in sagittal slices, and where protocols number in reverse."""
    fields = {"SliceNormalVector": -axes[2], "ProtocolSliceNumber": [number]}
    stored = mosaic(tmp_path / "in" / "a.dcm", axes, **fields)
    volume = read(tmp_path / "in")
    np.testing.assert_array_equal(volume.array, stored[::-1].transpose(2, 1, 0))
    lps = np.array([-20.0, 30.0, 40.0]) - 6 * DISTANCE * axes[2]
    np.testing.assert_allclose(volume.geometry.world([0, 0, 0]), lps * [-1, -1, 1], atol=1e-5)
    (image,) = converted(tmp_path / "in", tmp_path / "nii").values()
    assert differing([volume], image).size == 0


@pytest.mark.needs_shared
@pytest.mark.parametrize("name", ["mosaic_reversed", "mosaic_sagittal", "enhanced_says_mosaic"])
def test_real_tiles_are_unfolded_as_dcm2niix_does(problem_cases, tmp_path, name):
    volumes = read_series(problem_cases / "dicom" / name)
    (image,) = converted(problem_cases / "dicom" / name, tmp_path / "nii").values()
    assert len(volumes) == image.shape[3]
    assert differing(volumes, image).size == 0


def plain_type(data):
    data.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]


def test_a_mosaic_that_lost_its_word_is_unfolded_by_what_siemens_states(tmp_path):
    stored = mosaic(tmp_path / "in" / "a.dcm", change=plain_type)
    np.testing.assert_array_equal(read(tmp_path / "in").array, stored.transpose(2, 1, 0))


def test_a_picture_wider_than_any_scanner_is_not_read_flat(tmp_path):
    def anonymous(data):
        plain_type(data)
        data.remove_private_tags()
        data.PixelSpacing = [21, 18]

    mosaic(tmp_path / "in" / "a.dcm", change=anonymous)
    with pytest.raises(InputError, match="630 x 648 mm, wider than any scanner's field of view: a mosaic"):
        read(tmp_path / "in")


def test_the_word_alone_makes_no_mosaic_of_a_picture_as_large_as_was_acquired(tmp_path):
    def change(_, data):
        data.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
        data.AcquisitionMatrix = [12, 0, 0, 10]

    stored = write_series(tmp_path / "in", change=change)
    volume = read(tmp_path / "in")
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    assert [found.code for found in reading_findings(volume)] == ["tiles-not-believed"]


def test_a_tile_that_was_cut_out_already_is_one_slice(tmp_path):
    """Programs that unfold mosaics leave Siemens' header as it was."""

    def change(_, data):
        data.AcquisitionMatrix = [12, 0, 0, 10]
        data.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 7)

    stored = write_series(tmp_path / "in", change=change)
    np.testing.assert_array_equal(read(tmp_path / "in").array, stored.transpose(2, 1, 0))


def tiled_frames(path, count=7, change=None) -> np.ndarray:
    """Write tiled slices as United Imaging does; return them, (slice, row, column)."""
    stored = stored_voxels(count)
    rows, columns = stored.shape[1:]
    across, down = 3, 3
    picture = np.zeros((down, rows, across, columns), dtype=np.int16)
    for k, pixels in enumerate(stored):
        picture[k // across, :, k % across] = pixels
    data = header("MR", 0, OBLIQUE)
    data.Rows, data.Columns = down * rows, across * columns
    data.ImageType = ["ORIGINAL", "PRIMARY", "M", "VFRAME"]
    del data.ImagePositionPatient
    items = [Dataset() for _ in range(count)]
    for k, item in enumerate(items):
        item.ImagePositionPatient = [f"{x:.10g}" for x in [-20, 30, 40] + k * DISTANCE * OBLIQUE[2]]
    data.private_block(0x0065, "Image Private Header", create=True).add_new(0x51, "SQ", items)
    data.add_new("PixelData", "OW", picture.tobytes())
    if change is not None:
        change(data)
    path.parent.mkdir(exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return stored


def test_tiled_frames_of_uih_are_a_volume(tmp_path):
    stored = tiled_frames(tmp_path / "in" / "a.dcm")
    volume = read(tmp_path / "in")
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    lps = np.array([-20.0, 30.0, 40.0]) + 5 * DISTANCE * OBLIQUE[2]
    np.testing.assert_allclose(volume.geometry.world([0, 0, 5]), lps * [-1, -1, 1], atol=1e-5)
    write_dicom(volume, tmp_path / "out", record_of(volume))
    assert np.array_equal(read(tmp_path / "out").array, volume.array)
    assert all(dicom_errors(path) == [] for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "change", [lambda data: data.remove_private_tags(), lambda d: setattr(d, "Rows", 25)]
)
def test_tiled_frames_of_uih_that_do_not_say_how_are_refused_by_name(tmp_path, change):
    tiled_frames(tmp_path / "in" / "a.dcm", change=change)
    with pytest.raises(InputError, match="as United Imaging does"):
        read(tmp_path / "in")


@pytest.mark.needs_shared
def test_real_tiled_frames_of_uih(problem_cases):
    volumes = read_series(problem_cases / "dicom" / "uih_vframe")
    assert (len(volumes), volumes[0].shape) == (17, (64, 64, 20))
    assert volumes[0].spacing == pytest.approx((3.5, 3.5, 4.2), abs=1e-5)


def test_mosaics_of_several_times_are_volumes_of_a_series(tmp_path):
    for time in (1, 2, 3):
        mosaic(tmp_path / "in" / f"{4 - time}.dcm", time=time)
    volumes = read_series(tmp_path / "in")
    assert [v.source.details["label"] for v in volumes] == [{"acquisition": float(n)} for n in (1, 2, 3)]
    np.testing.assert_array_equal(volumes[2].array, stored_voxels(7).transpose(2, 1, 0) // 3)


def test_mosaics_that_nothing_but_their_files_tells_apart_stay_apart(tmp_path):
    for number in (1, 2):

        def change(data, number=number):
            data.AcquisitionNumber = 1
            data.PixelData = (np.frombuffer(data.PixelData, np.int16) // number).tobytes()

        mosaic(tmp_path / "in" / f"{number}.dcm", change=change)
    volumes = read_series(tmp_path / "in")
    write_dicom(volumes, tmp_path / "out", [record_of(volume) for volume in volumes])
    back = read_series(tmp_path / "out")
    for volume, other in zip(volumes, back, strict=True):
        assert np.array_equal(volume.array, other.array)


def test_what_comes_of_a_mosaic_are_plain_images(tmp_path):
    mosaic(tmp_path / "in" / "a.dcm")
    volume = read(tmp_path / "in")
    write_dicom(volume, tmp_path / "out", record_of(volume))
    assert np.array_equal(read(tmp_path / "out").array, volume.array)
    assert read(tmp_path / "out").geometry.allclose(volume.geometry, 1e-6)
    found = images(tmp_path / "out")
    assert [data.InstanceNumber for data in found] == [*range(1, 8)]
    for data in found:
        assert "MOSAIC" not in data.ImageType
        assert "SliceLocation" not in data
        assert (data.Rows, data.Columns) == (10, 12)
        assert data.SourceImageSequence[0].SpatialLocationsPreserved == "NO"
    assert all(dicom_errors(path) == [] for path in (tmp_path / "out").iterdir())
    (image,) = converted(tmp_path / "out", tmp_path / "nii").values()
    assert differing([volume], image).size == 0


@pytest.mark.parametrize(
    ("fields", "change"),
    [
        ({"SliceNormalVector": [0, 1, 0]}, None),
        ({"SliceNormalVector": []}, None),
        ({"NumberOfImagesInMosaic": []}, lambda data: data.pop(0x0019100A)),
        ({"NumberOfImagesInMosaic": [50]}, None),  # eight tiles along a side do not fit
        ({}, lambda data: data.pop("SpacingBetweenSlices")),
        ({}, lambda data: data.remove_private_tags()),
        (
            {},
            lambda data: data.__setitem__(0x00291010, data[0x00291010].__class__(0x00291010, "OB", b"SV10")),
        ),
    ],
    ids=["another normal", "no normal", "no number", "too many", "no distance", "no header", "cut"],
)
def test_a_mosaic_that_does_not_say_how_is_refused_by_name(tmp_path, fields, change):
    mosaic(tmp_path / "in" / "a.dcm", change=change, **fields)
    with pytest.raises(InputError, match="a mosaic, many slices tiled into one picture"):
        read(tmp_path / "in")
