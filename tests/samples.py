"""The sample scans that come with the repository, or only their middle, where their size is not the point."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import pydicom

SAMPLES = Path(__file__).resolve().parents[1] / "sample_data"


def small_samples(folder: Path, side: int = 64) -> Path:
    """Write the sample scans under their own names, but only `side` voxels of each axis, in their middle."""
    middle = slice(64 - side // 2, 64 + side // 2)
    (folder / "dicom_rician5").mkdir(parents=True)
    for path in SAMPLES.glob("*.nii.gz"):
        nib.load(path).slicer[middle, middle, middle].to_filename(folder / path.name)
    for path in sorted((SAMPLES / "dicom_rician5").glob("*.dcm"))[middle]:
        header = pydicom.dcmread(path)
        pixels = header.pixel_array[middle, middle]
        header.Rows, header.Columns, header.PixelData = *pixels.shape, pixels.tobytes()
        header.save_as(folder / "dicom_rician5" / path.name)
    return folder
