"""Small series of classic MR and CT images without an error for dciodvfy, and what judges others'."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

ROWS, COLUMNS, SLICES = 10, 12, 6
SPACING = (0.9, 0.8)  # between rows, between columns
STEP = 2.5
AXIAL = np.eye(3)
"""Unit vectors along a row, along a column and along the normal, LPS+."""

STUDY, SERIES, FRAME = "1.2.826.0.1.1", "1.2.826.0.1.2", "1.2.826.0.1.3"


def stored_voxels(slices: int = SLICES, seed: int = 0) -> np.ndarray:
    """Stored values, (slice, row, column), int16."""
    values = np.random.default_rng(seed).integers(0, 2000, (slices, ROWS, COLUMNS))
    return values.astype(np.int16)


def header(modality: str, index: int, frame: np.ndarray = AXIAL) -> FileDataset:
    """One image without pixels; slices lie along the normal, instance numbers count from 1."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.4.{index + 1}"
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.ImageType = (
        ["ORIGINAL", "PRIMARY", "AXIAL"] if modality == "CT" else ["ORIGINAL", "PRIMARY", "M", "ND"]
    )
    data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = (
        "Doe^Jane",
        "4711",
        "19700101",
        "F",
    )
    data.StudyInstanceUID, data.StudyID, data.StudyDate, data.StudyTime = STUDY, "7", "20240102", "101112"
    data.AccessionNumber, data.ReferringPhysicianName = "A1", "Roe^Richard"
    data.SeriesInstanceUID, data.SeriesNumber, data.Modality = SERIES, 5, modality
    data.SeriesDescription, data.BodyPartExamined, data.PatientPosition = "Head scan", "HEAD", "HFS"
    data.FrameOfReferenceUID, data.PositionReferenceIndicator = FRAME, ""
    data.Manufacturer, data.InstanceNumber, data.AcquisitionNumber = "Acme", index + 1, 1
    data.SliceThickness, data.PixelSpacing = 2.0, list(SPACING)
    data.ImageOrientationPatient = [f"{x:.10g}" for x in frame[:2].ravel()]
    data.ImagePositionPatient = [f"{x:.10g}" for x in np.array([-20.0, 30.0, 40.0]) + index * STEP * frame[2]]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    if modality == "CT":
        data.KVP, data.RescaleIntercept, data.RescaleSlope, data.PixelRepresentation = 120, -1024, 1, 1
        data.RescaleType, data.WindowCenter, data.WindowWidth = "HU", 40, 400
    else:
        data.ScanningSequence, data.SequenceVariant, data.ScanOptions = "GR", "SP", ""
        data.MRAcquisitionType, data.RepetitionTime, data.EchoTime = "3D", 9, 3
        data.EchoTrainLength, data.PixelRepresentation = 1, 0
    return data


def add_baggage(data: Dataset) -> None:
    """Add what a derived image must not carry on: private elements, an icon, an overlay, old extremes."""
    block = data.private_block(0x0029, "ACME CSA", create=True)
    block.add_new(0x10, "LO", "private words")
    icon = Dataset()
    icon.Rows = icon.Columns = 1
    icon.SamplesPerPixel, icon.PhotometricInterpretation, icon.BitsAllocated = 1, "MONOCHROME2", 8
    icon.BitsStored, icon.HighBit, icon.PixelRepresentation, icon.PixelData = 8, 7, 0, b"\0\0"
    data.IconImageSequence = [icon]
    data.add_new(0x60003000, "OW", b"\0" * 16)
    data.SmallestImagePixelValue, data.LargestImagePixelValue = 0, 1
    inner = Dataset()
    inner.ReferencedSOPClassUID, inner.ReferencedSOPInstanceUID = MRImageStorage, "1.2.3.4.5"
    inner.private_block(0x0029, "ACME CSA", create=True).add_new(0x10, "LO", "nested private words")
    data.ReferencedImageSequence = [inner]


def write_series(folder: Path, modality: str = "MR", change=None, frame: np.ndarray = AXIAL) -> np.ndarray:
    """Write a series; `change(index, data)` edits a slice; returns (slice, row, column)."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = stored_voxels()
    for index, pixels in enumerate(stored):
        data = header(modality, index, frame)
        data.Rows, data.Columns = pixels.shape
        data.add_new("PixelData", "OW", pixels.tobytes())
        if change is not None:
            change(index, data)
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        pydicom.dcmwrite(folder / f"s{(index * 5) % 7}.dcm", data, enforce_file_format=True)
    return stored


def write_head(folder: Path, head: np.ndarray) -> None:
    """Write every second slice of a head, (column, row, slice), at least 13 slices, as a series of MR."""

    def change(index: int, data: FileDataset) -> None:
        data.Rows, data.Columns = head.shape[1], head.shape[0]
        data.add_new("PixelData", "OW", np.rint(head[..., 2 * index + 2]).astype(np.int16).T.tobytes())

    write_series(folder, change=change)


def left_in(folder: Path) -> list[str]:
    """Return the names of what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def tool(name: str) -> str:
    """Return the path of a program, or skip the test that needs it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name} (.ci/run installs it)")
    return found


def dicom_errors(path: Path) -> list[str]:
    """Return what dciodvfy calls an error; its exit status says nothing."""
    run = subprocess.run(
        [tool("dciodvfy"), "-new", str(path)], capture_output=True, text=True, check=False, errors="replace"
    )
    lines = (run.stdout + run.stderr).splitlines()
    assert any(word in line for line in lines for word in ("MRImage", "CTImage", "ComprehensiveSR")), lines[
        :3
    ]
    return [re.sub(r"\s+", " ", line) for line in lines if line.startswith("Error")]


def is_part_10(path: Path) -> bool:
    """Whether dcmftest takes a file for a DICOM file."""
    run = subprocess.run([tool("dcmftest"), str(path)], capture_output=True, text=True, check=False)
    return run.stdout.startswith("yes:")


def spread_of(folder: Path) -> np.ndarray:
    """Values of a series that is a standard deviation, (column, row, slice): it is not read as a scan."""
    files = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    slices = [data.pixel_array.T * float(data.RescaleSlope) + float(data.RescaleIntercept) for data in files]
    return np.stack(slices, axis=2)
