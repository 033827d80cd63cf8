"""The sample scans are what their README says: checksums, noise level, and one place in the world."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medrestore import io

FOLDER = Path(__file__).resolve().parents[1] / "sample_data"
CLEAN = FOLDER / "colin27_crop.nii.gz"
NOISY = FOLDER / "colin27_crop_rician5.nii.gz"
SERIES = FOLDER / "dicom_rician5"


def _script(name: str = "make_sample_data") -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"sample_data_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _voxels(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def test_checksums_cover_every_data_file_and_hold() -> None:
    listed = dict(reversed(line.split("  ")) for line in (FOLDER / "CHECKSUMS").read_text().splitlines())
    data = {p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob("*") if p.name.endswith((".gz", ".dcm"))}
    assert set(listed) == data
    assert len(data) == 130
    wrong = [
        n for n, digest in listed.items() if hashlib.sha256((FOLDER / n).read_bytes()).hexdigest() != digest
    ]
    assert wrong == []


def test_folder_stays_small() -> None:
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) < 10e6


def test_noise_is_rician_of_the_stated_level() -> None:
    clean, noisy = _voxels(CLEAN).astype(float), _voxels(NOISY).astype(float)
    sigma = 0.05 * np.percentile(clean, 99)
    assert sigma == pytest.approx(7.55)
    air = clean == 0
    assert noisy[air].mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.01)
    assert np.mean(noisy**2 - clean**2) == pytest.approx(2 * sigma**2, rel=0.02)
    bright = clean > 8 * sigma
    assert (noisy - clean)[bright].std() == pytest.approx(sigma, rel=0.01)


def test_series_and_nifti_have_the_same_value_at_the_same_place() -> None:
    """By the headers alone (DICOM PS3.3 C.7.6.2.1.1), without our reader; an L-R slip would show."""
    image = nib.load(NOISY)
    voxels = np.asanyarray(image.dataobj)
    to_voxel = np.linalg.inv(image.affine)
    rng = np.random.default_rng(0)
    for path in sorted(SERIES.glob("*.dcm"))[::9]:
        slice_ = pydicom.dcmread(path)
        along_row, along_column = np.reshape(np.array(slice_.ImageOrientationPatient, dtype=float), (2, 3))
        between_rows, between_columns = (float(value) for value in slice_.PixelSpacing)
        pixels = slice_.pixel_array
        for row, column in rng.integers(0, 128, (40, 2)):
            lps = (
                np.array(slice_.ImagePositionPatient, dtype=float)
                + along_row * between_columns * column
                + along_column * between_rows * row
            )
            index = to_voxel @ [-lps[0], -lps[1], lps[2], 1]
            i, j, k = np.rint(index[:3]).astype(int)
            assert np.allclose(index[:3], [i, j, k], atol=1e-4)
            assert pixels[row, column] == voxels[i, j, k]
    assert not np.array_equal(voxels, voxels[::-1])


def test_our_reader_puts_both_in_the_same_world() -> None:
    nifti, dicom = io.read(NOISY), io.read(SERIES)
    between = np.linalg.inv(nifti.geometry.affine) @ dicom.geometry.affine
    grid = np.stack(
        [*np.meshgrid(*(np.arange(n) for n in dicom.array.shape), indexing="ij"), np.ones((128,) * 3)]
    )
    index = np.einsum("ab,b...->a...", between, grid)[:3]
    rounded = np.rint(index).astype(int)
    assert np.abs(index - rounded).max() < 1e-4
    np.testing.assert_array_equal(dicom.array, nifti.array[tuple(rounded)])


def test_series_is_one_series_of_mr_images() -> None:
    heads = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(SERIES.glob("*.dcm"))]
    assert {head.SOPClassUID.name for head in heads} == {"MR Image Storage"}
    for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({head[name].value for head in heads}) == 1, name
    assert len({head.SOPInstanceUID for head in heads}) == 128
    assert all(head.file_meta.MediaStorageSOPInstanceUID == head.SOPInstanceUID for head in heads)
    assert all(head.SOPInstanceUID.is_valid for head in heads)
    assert [head.InstanceNumber for head in heads] == list(range(1, 129))


def test_script_still_makes_this_series(tmp_path: Path) -> None:
    _script().write_dicom(nib.load(NOISY), tmp_path / "series")
    made = sorted((tmp_path / "series").glob("*.dcm"))
    assert [path.name for path in made] == [path.name for path in sorted(SERIES.glob("*.dcm"))]
    for path in made[::16]:
        assert pydicom.dcmread(path) == pydicom.dcmread(SERIES / path.name)


def test_script_crops_without_moving_a_voxel() -> None:
    rng = np.random.default_rng(0)
    affine = np.array([[1.0, 0, 0, -90], [0, 1, 0, -125], [0, 0, 1, -71], [0, 0, 0, 1]])
    source = nib.Nifti1Image(rng.integers(0, 255, (181, 217, 181), dtype=np.uint8), affine)
    script = _script()
    part = script.crop(source)
    assert part.shape == (128, 128, 128)
    np.testing.assert_array_equal(part.affine, nib.load(CLEAN).affine)
    point = part.affine @ [5, 6, 7, 1]
    i, j, k = np.rint(np.linalg.inv(affine) @ point).astype(int)[:3]
    assert np.asanyarray(part.dataobj)[5, 6, 7] == np.asanyarray(source.dataobj)[i, j, k]


@pytest.mark.parametrize(
    ("axis", "marked", "row", "column"),
    [
        (2, np.s_[110:, :, :], None, "left"),  # the patient's right
        (2, np.s_[:, 110:, :], "top", None),  # the front
        (1, np.s_[110:, :, :], None, "left"),
        (1, np.s_[:, :, 110:], "top", None),  # the crown
        (0, np.s_[:, 110:, :], None, "right"),
        (0, np.s_[:, :, 110:], "top", None),
    ],
)
def test_pictures_of_the_demo_are_the_right_way_round(
    axis: int, marked: tuple[slice, ...], row: str | None, column: str | None
) -> None:
    pytest.importorskip("dipy")
    volume = np.zeros((128, 120, 124))
    volume[marked] = 1.0
    shown = _script("demo").slice_of(volume, axis)
    assert shown.shape == tuple(np.delete(volume.shape, axis)[::-1])
    assert shown.any()
    if column == "left":
        assert shown[:, :8].all()
        assert not shown[:, 64:].any()
    if column == "right":
        assert shown[:, -8:].all()
        assert not shown[:, :60].any()
    if row == "top":
        assert shown[:8].all()
        assert not shown[60:].any()


def test_demo_puts_the_series_and_the_file_on_one_grid() -> None:
    pytest.importorskip("dipy")
    demo = _script("demo")
    np.testing.assert_array_equal(demo.to_ras(io.read(SERIES)), demo.to_ras(io.read(NOISY)))
