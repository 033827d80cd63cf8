"""What is written from real scans, judged by programs that are not ours: dciodvfy, dcmftest, dcm2niix."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_series import dicom_errors, is_part_10, write_series
from test_dicom_write import record_of

from medrestore.io import read, write_dicom
from medrestore.volume import Volume

ARCHIVES = {
    "ct_chest": "ct_chest/*.dcm",
    "mr_t1w_sagittal": "mr_t1w_sagittal/*.dcm",
    "qa_decubitus": "qa_decubitus/In/HFP/*/*.dcm",
    "qa_frag": "qa_frag/In/*/*.dcm",
}
"""Series of real scanners; the other archives are mosaics, enhanced or tilted. None of these is refused."""

PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
SINGLE = (
    *("MR_small.dcm", "CT_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm"),
    *("dicomdirtests/77654033/CT2/17106", "dicomdirtests/98892003/MR1/4919"),
    *("dicomdirtests/98892003/MR2/6273", "dicomdirtests/98892003/MR700/4467"),
)
FOLDER = "dicomdirtests/98892001/CT5N"
SAMPLE = Path(__file__).parents[3] / "sample_data" / "dicom_rician5"
TAKEN = 8
"""Slices of a series that are looked at: neighbours, so that the grid stays regular."""


def neighbours(files: list[Path], folder: Path) -> Path:
    """Copy a few neighbouring slices from the middle of a series."""
    folder.mkdir()
    ordered = sorted(
        files, key=lambda path: int(pydicom.dcmread(path, stop_before_pixels=True).InstanceNumber)
    )
    start = max(len(ordered) // 2 - TAKEN // 2, 0)
    for path in ordered[start : start + TAKEN]:
        shutil.copy(path, folder / path.name)
    return folder


def judge(source: Path, volume: Volume, folder: Path) -> None:
    """Write a series as the result of a run, and ask everybody."""
    write_dicom(volume, folder / "out", record_of(volume, sigma=float(volume.array.std()) / 50))
    files = sorted((folder / "out").iterdir())
    assert len(files) == volume.shape[2]
    origins = sorted(source.iterdir()) if source.is_dir() else [source]
    known = {error for path in origins for error in dicom_errors(path)}
    for path in files:
        assert set(dicom_errors(path)) <= known  # what is wrong in the source and is kept, is not ours
        assert is_part_10(path)
    back = read(folder / "out")
    assert back.geometry.allclose(volume.geometry, 1e-3)
    np.testing.assert_allclose(
        back.array, volume.array, atol=float(volume.array.std()) / 400 + 0.51 * (volume.units == "HU")
    )
    header = pydicom.dcmread(files[0])
    assert header.get("LossyImageCompression") != "01" or "LossyImageCompressionRatio" in header


def converted(source: Path, folder: Path) -> nib.Nifti1Image:
    """Return what dcm2niix makes of a folder."""
    dcm2niix = pytest.importorskip("dcm2niix")
    folder.mkdir()
    arguments = [dcm2niix.bin, "-b", "n", "-z", "n", "-m", "n", "-f", "image", "-o", folder, source]
    run = subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=False)
    found = sorted(folder.glob("*.nii"))
    assert len(found) == 1, run.stdout
    return nib.load(found[0])


def same_for_dcm2niix(source: Path, folder: Path) -> None:
    """Check that dcm2niix sees the derived series where it sees the source, with the same values."""
    before, after = converted(source, folder / "before"), converted(folder / "out", folder / "after")
    assert before.shape == after.shape
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-4)
    values = before.get_fdata()
    np.testing.assert_allclose(after.get_fdata(), values, atol=float(values.std()) / 400 + 0.01)


@pytest.mark.needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHIVES)
def test_archives(shared, tmp_path, name):
    with tarfile.open(shared / "data" / "dicom" / f"{name}.tar.xz") as archive:
        archive.extractall(tmp_path / "all", filter="data")
    source = neighbours(sorted((tmp_path / "all").glob(ARCHIVES[name])), tmp_path / "in")
    judge(source, read(source), tmp_path)
    same_for_dcm2niix(source, tmp_path)


@pytest.mark.parametrize("name", SINGLE)
def test_single_files_of_pydicom(tmp_path, name):
    judge(PYDICOM / name, read(PYDICOM / name), tmp_path)


def test_a_folder_of_pydicom(tmp_path):
    source = shutil.copytree(PYDICOM / FOLDER, tmp_path / "in")
    judge(source, read(source), tmp_path)


def test_the_sample_series(tmp_path):
    source = neighbours(sorted(SAMPLE.glob("*.dcm")), tmp_path / "in")
    judge(source, read(source), tmp_path)
    same_for_dcm2niix(source, tmp_path)


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_dcm2niix_sees_the_same_scan(tmp_path, modality):
    oblique = np.array([[0.6, 0.8, 0.0], [-0.48, 0.36, -0.8], [-0.64, 0.48, 0.6]])
    write_series(tmp_path / "in", modality, frame=oblique)
    judge(tmp_path / "in", read(tmp_path / "in"), tmp_path)
    same_for_dcm2niix(tmp_path / "in", tmp_path)


def test_the_judge_finds_what_is_wrong(tmp_path):
    def change(_, data):
        del data.PatientID
        data.PixelSpacing = [0.9, 0.8, 0.7]

    write_series(tmp_path / "in", change=change)
    found = " ".join(dicom_errors(tmp_path / "in" / "s0.dcm"))
    assert re.search("PatientID", found) and re.search("PixelSpacing", found)
    assert not is_part_10(Path(__file__))
