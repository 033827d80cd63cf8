from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
    RLELossless,
    generate_uid,
)

from medrestore.errors import GeometryError, InputError
from medrestore.io import read, read_series, write
from medrestore.types import Modality

SPACING = (0.8, 0.6)  # between rows, between columns
STEP = 2.5
ORIENTATIONS = {
    "axial": np.eye(3),
    "sagittal": np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "oblique": nib.eulerangles.euler2mat(0.3, -0.2, 0.7).T,
}
"""Unit vectors along a row, along a column and along the normal, LPS+."""


def voxels(slices=7, rows=5, columns=6) -> np.ndarray:
    """Stored values (slice, row, column) that tell every voxel apart."""
    return np.arange(slices * rows * columns).reshape(slices, rows, columns).astype(np.int16)


def image(stored: np.ndarray, modality="MR", **attributes) -> FileDataset:
    """One classic image; attributes replace or, when None, remove what is there."""
    kind = CTImageStorage if modality == "CT" else MRImageStorage
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID, data.Modality = "Doe^Jane", "4711", modality
    data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.3", "1.2.3.4"
    data.Rows, data.Columns = stored.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1
    data.PixelSpacing, data.SliceThickness = list(SPACING), 9.0
    if modality == "CT":
        data.RescaleSlope, data.RescaleIntercept = 2, -1024
    data.PixelData = stored.tobytes()
    for name, value in attributes.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    return data


def place(data: FileDataset, index: float, frame: np.ndarray) -> FileDataset:
    data.ImageOrientationPatient = [f"{x:.10g}" for x in frame[:2].ravel()]
    data.ImagePositionPatient = [f"{x:.10g}" for x in np.array([-20.0, 30.0, 40.0]) + index * STEP * frame[2]]
    return data


def series(folder: Path, orientation="axial", modality="MR", change=None, **attributes) -> np.ndarray:
    """Write a series under shuffled names; `change(index, data)` edits a slice, or drops it by None."""
    folder.mkdir(exist_ok=True)
    stored = voxels()
    names = np.random.default_rng(3).permutation(len(stored))
    for index, pixels in enumerate(stored):
        data = place(image(pixels, modality, **attributes), index, ORIENTATIONS[orientation])
        data = data if change is None else change(index, data)
        if data is not None:
            pydicom.dcmwrite(folder / f"{names[index]:03d}", data, enforce_file_format=True)
    return stored


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_voxel_lies_where_dicom_says(tmp_path, orientation):
    stored = series(tmp_path, orientation)
    volume = read(tmp_path)
    assert volume.shape == (6, 5, 7)
    assert volume.array.dtype == np.float32
    assert volume.spacing == pytest.approx((SPACING[1], SPACING[0], STEP), abs=1e-6)
    row, column, normal = ORIENTATIONS[orientation]
    for value in (0, 1, 29, 31, 100, stored.size - 1):
        # PS3.3 C.7.6.2.1.1: position + column index * spacing along row + row index * spacing along column.
        k, i, j = np.argwhere(stored == value)[0]
        lps = np.array([-20, 30, 40]) + k * STEP * normal + j * SPACING[1] * row + i * SPACING[0] * column
        found = np.argwhere(volume.array == value)
        assert len(found) == 1
        assert volume.geometry.world(found[0]) == pytest.approx(lps * [-1, -1, 1], abs=1e-4)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_order_of_the_normal_does_not_depend_on_names_or_order_of_writing(tmp_path, orientation):
    series(tmp_path / "a", orientation)
    first = read(tmp_path / "a")
    for number, path in enumerate(sorted((tmp_path / "a").iterdir(), reverse=True)):
        path.rename(path.with_name(f"z{number}.dcm"))
    second = read(tmp_path / "a")
    assert np.array_equal(first.array, second.array)
    assert first.geometry == second.geometry
    assert first.source.sha256 == second.source.sha256


def test_ct_is_in_hounsfield_units_and_keeps_its_integer_type(tmp_path):
    stored = series(tmp_path / "ct", modality="CT")
    volume = read(tmp_path / "ct")
    assert (volume.modality, volume.units) == (Modality.CT, "HU")
    assert np.array_equal(volume.array, stored.transpose(2, 1, 0) * 2.0 - 1024)
    report = write(volume, tmp_path / "ct.nii", dtype="input")
    out = nib.load(tmp_path / "ct.nii")
    assert out.get_data_dtype() == np.int16
    assert np.array_equal(out.get_fdata(), volume.array)
    assert report.clipped_voxels == 0
    assert read(tmp_path / "ct.nii").geometry.allclose(volume.geometry)
    assert int(out.header["sform_code"]) == int(out.header["qform_code"]) == 1


def test_mr_is_in_arbitrary_units_and_slices_may_have_scales_of_their_own(tmp_path):
    def rescale(index, data):
        data.RescaleSlope, data.RescaleIntercept = index + 1, 0
        return data

    stored = series(tmp_path, change=rescale)
    volume = read(tmp_path)
    assert (volume.modality, volume.units) == (Modality.MR, "arbitrary")
    assert np.array_equal(volume.array, stored.transpose(2, 1, 0) * np.arange(1.0, 8.0))
    assert volume.source.details["dtype"] == "float32"


def test_other_modalities_are_read_as_unknown(tmp_path):
    series(tmp_path, modality="PT")
    assert read(tmp_path).modality is Modality.UNKNOWN


def test_files_are_told_by_content(tmp_path):
    stored = series(tmp_path)
    (tmp_path / "notes.dcm").write_text("not an image")
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / ".hidden").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "sub").mkdir()
    assert np.array_equal(read(tmp_path).array, stored.transpose(2, 1, 0))


def test_hash_covers_the_images_and_only_them(tmp_path):
    series(tmp_path)
    digests = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir())
    (tmp_path / "notes.txt").write_text("x")
    assert read(tmp_path).source.sha256 == hashlib.sha256("".join(digests).encode()).hexdigest()


def test_no_patient_data_travels(tmp_path):
    series(tmp_path / "in")
    volume = read(tmp_path / "in")
    write(volume, tmp_path / "out.nii")
    assert b"Jane" in next((tmp_path / "in").iterdir()).read_bytes()
    assert b"Jane" not in (tmp_path / "out.nii").read_bytes()
    assert "Jane" not in repr(volume.source)
    assert "4711" not in repr(volume.source)


def test_one_file_is_one_slice(tmp_path):
    place(image(voxels()[3]), 3, ORIENTATIONS["coronal"]).save_as(tmp_path / "one", enforce_file_format=True)
    volume = read(tmp_path / "one")
    assert volume.shape == (6, 5, 1)
    assert volume.spacing[2] == 9.0
    assert volume.source.sha256 == hashlib.sha256((tmp_path / "one").read_bytes()).hexdigest()
    (again,) = read_series(tmp_path / "one")
    assert np.array_equal(again.array[:, :, 0], voxels()[3].T)
    assert read(tmp_path).shape == (6, 5, 1)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
def test_transfer_syntaxes(tmp_path, syntax):
    def encode(index, data):
        if syntax == RLELossless:
            data.compress(RLELossless, generate_instance_uid=False)
        elif syntax == ExplicitVRBigEndian:
            data.PixelData = voxels()[index].astype(">i2").tobytes()
        data.file_meta.TransferSyntaxUID = syntax
        return data

    stored = series(tmp_path, change=encode)
    assert np.array_equal(read(tmp_path).array, stored.transpose(2, 1, 0))


def test_file_without_preamble_is_read(tmp_path):
    stored = series(tmp_path)
    for path in list(tmp_path.iterdir()):
        data = pydicom.dcmread(path)
        bare = pydicom.Dataset(data)
        pydicom.dcmwrite(path, bare, implicit_vr=True, little_endian=True, overwrite=True)
        assert path.read_bytes()[128:132] != b"DICM"
    assert np.array_equal(read(tmp_path).array, stored.transpose(2, 1, 0))


@pytest.mark.parametrize("sign", [0, 1])
def test_bits_above_the_stored_ones_are_dropped(tmp_path, sign):
    values = np.array([[0, 1, 2047], [-2048, -1, 5]]) if sign else np.array([[0, 1, 4095], [2048, 7, 5]])
    dirty = ((values & 0x0FFF) | 0x5000).astype(np.uint16)
    data = image(dirty, BitsStored=12, HighBit=11, PixelRepresentation=sign)
    place(data, 0, np.eye(3)).save_as(tmp_path / "a", enforce_file_format=True)
    assert np.array_equal(read(tmp_path).array[:, :, 0], values.T)


# --- what is refused ---


def edit(**by_index):
    """Return a `change` that sets attributes on slices: ``edit(s3={"Rows": 4})``."""

    def change(index, data):
        for name, value in by_index.get(f"s{index}", by_index.get("every", {})).items():
            setattr(data, name, value)
        return data

    return change


def drop(*indices):
    return lambda index, data: None if index in indices else data


def move(index_to_place, frame=ORIENTATIONS["axial"]):
    return lambda index, data: place(data, index_to_place(index), frame)


def tilt(index, data):
    data.ImagePositionPatient = [0, index * 0.4, index * STEP]
    return data


def shift(index, data):
    data.ImagePositionPatient = [1.0 if index == 3 else 0.0, 0, index * STEP]
    return data


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (drop(3), GeometryError, r"1 slice\(s\) missing: 5\.000 mm between .* 2\.500 mm is usual"),
        (drop(2, 3), GeometryError, r"2 slice\(s\) missing"),
        (move(lambda n: n + 0.3 * (n > 4)), GeometryError, "unevenly spaced"),
        (move(lambda n: n * (1 + 0.003 * n)), GeometryError, "unevenly spaced|even line"),
        (move(lambda n: min(n, 5)), GeometryError, "1 slices lie where another one does"),
        (
            move(lambda n: n // 2),
            GeometryError,
            "3 slices lie where another one does.*nothing tells volumes apart",
        ),
        (tilt, GeometryError, r"9\.09 degrees off their normal \(tilted gantry\)"),
        (shift, GeometryError, r"lies 1\.\d+ mm from its place"),
        (
            edit(s3={"ImageOrientationPatient": [1, 0, 0, 0, 0.98, 0.199]}),
            InputError,
            "2 DICOM series.*differ in orientation",
        ),
        (edit(s3={"PixelSpacing": [0.8, 0.7]}), InputError, "differ in pixel spacing"),
        (
            edit(s3={"SeriesInstanceUID": "9.9"}),
            InputError,
            r"2 DICOM series.*1 = 1\.2\.3 .*6 files.*2 = 9\.9 .*1 files",
        ),
        (edit(s3={"Modality": "PT"}), InputError, "differ in modality"),
        (edit(s3={"Rows": 4, "PixelData": bytes(48)}), InputError, "differ in rows and columns"),
        (edit(s3={"PhotometricInterpretation": "RGB"}), InputError, "RGB, expected greyscale"),
        (edit(s3={"PhotometricInterpretation": "MONOCHROME1"}), InputError, "MONOCHROME1"),
        (edit(s3={"NumberOfFrames": 2}), InputError, "with 2 frames"),
        (edit(s3={"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}), InputError, "mosaic"),
        (edit(s3={"BitsStored": 17}), InputError, "lowest bits"),
        (edit(s3={"RescaleSlope": 0}), InputError, "slope other than 0"),
        (edit(s3={"Rows": 30000}), InputError, r"declares 1 x 30000 x 6 pixels .* truncated"),
        (edit(s3={"Rows": 0}), InputError, "without pixels"),
        (edit(every={"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}), GeometryError, "perpendicular"),
        (edit(every={"PixelSpacing": [0, 1]}), GeometryError, "two positive lengths"),
    ],
)
def test_folder_that_is_no_regular_grid_is_refused_and_named(tmp_path, change, kind, words):
    series(tmp_path / "scan", change=change)
    with pytest.raises(kind, match=words) as caught:
        read(tmp_path / "scan")
    assert str(caught.value).startswith(str(tmp_path / "scan"))


@pytest.mark.parametrize("name", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_slice_without_a_place_is_refused(tmp_path, name):
    def remove(index, data):
        delattr(data, name)
        return data

    series(tmp_path, change=remove)
    with pytest.raises(GeometryError, match=f"{name} is None"):
        read(tmp_path)


def test_ct_without_rescale_is_refused(tmp_path):
    series(tmp_path, modality="CT", RescaleIntercept=None)
    with pytest.raises(InputError, match="not in HU"):
        read(tmp_path)


def test_rounded_positions_are_no_uneven_spacing(tmp_path):
    def rounded(index, data):
        data.ImagePositionPatient = [-20, 30, round(40 + index * STEP + 0.004 * (-1) ** index, 3)]
        return data

    stored = series(tmp_path, change=rounded)
    assert np.array_equal(read(tmp_path).array, stored.transpose(2, 1, 0))


def test_truncated_slice_is_refused(tmp_path):
    series(tmp_path)
    path = sorted(tmp_path.iterdir())[2]
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError, match=rf"{path.name}: pixels cannot be decoded"):
        read(tmp_path)


def test_damaged_pixels_name_their_transfer_syntax(tmp_path):
    def garbage(index, data):
        data.PixelData = encapsulate([b"no JPEG 2000 at all"])
        data.file_meta.TransferSyntaxUID = JPEG2000Lossless
        return data

    series(tmp_path, change=garbage)
    with pytest.raises(InputError, match=r"pixels cannot be decoded \(JPEG 2000.*the file is damaged"):
        read(tmp_path)


def test_folder_without_dicom_is_refused(tmp_path):
    (tmp_path / "series_1").mkdir()
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"no DICOM file among 1 files"):
        read(tmp_path)


def test_header_of_noise_is_refused(tmp_path):
    noise = np.random.default_rng(0).bytes(4000)
    (tmp_path / "a").write_bytes(b"\0" * 128 + b"DICM" + noise)
    with pytest.raises(InputError, match=str(tmp_path / "a")):
        read(tmp_path)
