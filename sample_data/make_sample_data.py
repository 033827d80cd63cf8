"""Make the sample scans of this folder from Colin27 (``ch2.nii.gz`` of Debian's package mricron-data).

Get the source without installing anything, then run this script from the root of the repository:

    apt-get download mricron-data && dpkg -x mricron-data_*.deb mricron
    python sample_data/make_sample_data.py --ch2 mricron/usr/share/mricron/templates/ch2.nii.gz

Everything is seeded: the same source and the same numpy give the same voxels and the same DICOM files.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import uuid
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from medrestore.physics.mr_noise import add_rician

HERE = Path(__file__).resolve().parent
CH2_SHA256 = "a009051127f64dc3dd554d5f5b589870ea72106d9642c21b4e7093e478cfc309"
START = (2, 14, 46)  # first voxel of the crop: left, back and upper part of the head; no part of the face
SIZE = 128
LEVEL = 0.05  # Rician sigma as a fraction of the 99th percentile of the clean crop
SEED = 20240527
CLEAN = "colin27_crop.nii.gz"
NOISY = "colin27_crop_rician5.nii.gz"
SERIES = "dicom_rician5"


def crop(ch2: nib.Nifti1Image) -> nib.Nifti1Image:
    """Cut (128, 128, 128) voxels out of the head; the affine follows, so they stay where they were."""
    part = ch2.slicer[tuple(slice(first, first + SIZE) for first in START)]
    return _nifti(np.asanyarray(part.dataobj).astype(np.uint8), part.affine)


def add_noise(clean: nib.Nifti1Image) -> nib.Nifti1Image:
    """Rician noise, rounded to int16: rounding adds 1/12 to a variance of 57, which nothing here can see."""
    voxels = np.asanyarray(clean.dataobj).astype(np.float32)
    sigma = LEVEL * float(np.percentile(voxels, 99))
    noisy = add_rician(voxels, sigma, np.random.default_rng(SEED))
    return _nifti(np.rint(noisy).astype(np.int16), clean.affine)


def _nifti(voxels: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"Colin27 crop, (C) Louis Collins, MNI, McGill"
    return image


def write_dicom(image: nib.Nifti1Image, folder: Path) -> None:
    """Write axial slices, feet first, each one file of MR Image Storage.

    NIfTI counts x to the right and y to the front; DICOM's columns run to the patient's left and its rows to
    the back. So both axes are reversed here, and a voxel keeps its place in the world.
    """
    voxels = np.asanyarray(image.dataobj).astype(np.uint16)
    folder.mkdir(exist_ok=True)
    columns, rows, slices = voxels.shape
    for k in range(slices):
        corner_ras = image.affine @ [columns - 1, rows - 1, k, 1]
        position = [-corner_ras[0], -corner_ras[1], corner_ras[2]]
        pixels = np.ascontiguousarray(voxels[::-1, ::-1, k].T)
        _slice(pixels, position, k).save_as(folder / f"IM{k + 1:04d}.dcm", enforce_file_format=True)


def _slice(pixels: np.ndarray, position: list[float], index: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = _uid(f"instance {index}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    _identify(dataset)
    _describe(dataset)
    dataset.InstanceNumber = index + 1
    dataset.ImagePositionPatient = [f"{value:g}" for value in position]
    dataset.SliceLocation = f"{position[2]:g}"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SmallestImagePixelValue = int(pixels.min())
    dataset.LargestImagePixelValue = int(pixels.max())
    dataset.PixelData = pixels.astype("<u2").tobytes()
    return dataset


def _identify(dataset: Dataset) -> None:
    """Patient, study and series: invented, and said to be; dates are left empty."""
    dataset.PatientName = "Colin27^Sample"
    dataset.PatientID = "COLIN27-SAMPLE"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = ""
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Public template; patient and study are synthetic"
    dataset.StudyInstanceUID = _uid("study")
    dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.StudyID = "1"
    dataset.StudyDescription = "medrestore sample data"
    dataset.SeriesInstanceUID = _uid("series")
    dataset.SeriesNumber = 1
    dataset.SeriesDescription = "Colin27 crop, Rician noise 5 %"
    dataset.Modality = "MR"
    dataset.BodyPartExamined = "HEAD"
    dataset.PatientPosition = "HFS"
    dataset.FrameOfReferenceUID = _uid("frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.Manufacturer = "medrestore make_sample_data.py"


def _describe(dataset: Dataset) -> None:
    """What the images are. How Colin27 was acquired is not in the file it came in, so that stays empty."""
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    dataset.DerivationDescription = (
        "Average of 27 T1-weighted scans (Colin27, Copyright (C) 1993-2009 Louis Collins, McConnell Brain "
        "Imaging Centre, Montreal Neurological Institute, McGill University), cropped; Rician noise added, "
        "sigma 5 % of the 99th percentile"
    )
    dataset.ScanningSequence = "RM"
    dataset.SequenceVariant = "NONE"
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = "3D"
    dataset.RepetitionTime = dataset.EchoTime = None
    dataset.EchoTrainLength = None
    dataset.SliceThickness = "1"
    dataset.SpacingBetweenSlices = "1"
    dataset.PixelSpacing = ["1", "1"]
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = "85", "170"


def _uid(what: str) -> UID:
    """A UID under 2.25 (ITU-T X.667) that depends on its name alone."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'medrestore sample data/colin27/{what}').int}")


def write_nifti(image: nib.Nifti1Image, path: Path) -> None:
    """Write .nii.gz without a time stamp or a file name in the gzip header."""
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=9, mtime=0))


def write_checksums(folder: Path) -> None:
    """CHECKSUMS over every data file, for ``sha256sum -c CHECKSUMS``."""
    paths = [folder / CLEAN, folder / NOISY, *sorted((folder / SERIES).glob("*.dcm"))]
    lines = [
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}\n" for p in paths
    ]
    (folder / "CHECKSUMS").write_text("".join(lines))


def main() -> None:
    """Read ch2.nii.gz, check that it is the one expected, write the samples."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--ch2", type=Path, required=True, help="ch2.nii.gz from Debian's package mricron-data"
    )
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (default: this one)")
    args = parser.parse_args()
    found = hashlib.sha256(args.ch2.read_bytes()).hexdigest()
    if found != CH2_SHA256:
        parser.error(
            f"{args.ch2}: sha256 is {found}, expected {CH2_SHA256} (mricron-data 1.2.20211006+dfsg-4)"
        )
    args.out.mkdir(parents=True, exist_ok=True)
    clean = crop(nib.load(args.ch2))
    noisy = add_noise(clean)
    write_nifti(clean, args.out / CLEAN)
    write_nifti(noisy, args.out / NOISY)
    write_dicom(noisy, args.out / SERIES)
    write_checksums(args.out)


if __name__ == "__main__":
    main()
