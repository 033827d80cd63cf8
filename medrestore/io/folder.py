"""The files below a folder that are scans by their names, each with all that belongs to it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medrestore.io import DICOM, NIFTI, is_dicom
from medrestore.io.formats import Formats

IMAGES = (
    *(".nii.bz2", ".nii.xz", ".nii.zst", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgh", ".mgz", ".hdr", ".hdr.gz"),
    *(".par", ".mnc", ".mnc.gz", ".mif", ".mif.gz", ".mih", ".head", ".gipl", ".gipl.gz", ".vti"),
    *(".tif", ".tiff"),
)
"""Ends of names of volumes: where no format reads them, that is said."""


@dataclass(frozen=True)
class ScanFile:
    """A scan in files.

    Attributes:
        path: What names it: the file, or the header of several.
        format: Name of its format, by its ending.
        files: All that it is read from, `path` first.
    """

    path: Path
    format: str
    files: tuple[Path, ...]


def scan_file(path: Path, formats: Formats) -> ScanFile:
    """Return the scan that a file is by its name; one without an ending is taken for NIfTI."""
    found = formats.of_name(path)
    return ScanFile(path, NIFTI.name if found is None else found.name, formats.files(path))


def scan_files(
    root: Path, formats: Formats, aside: Path | None = None
) -> tuple[list[ScanFile], Counter[str]]:
    """Find the scans below a folder that are no DICOM, in the order of their names.

    Hidden files and links to elsewhere are not followed; a file of voxels whose header is another file
    is no scan of its own.

    Args:
        root: The folder, resolved.
        formats: Which formats there are.
        aside: A folder that is not looked into.

    Returns:
        The scans, and how many images were left out, by reason.
    """
    found, left_out = list[ScanFile](), Counter[str]()
    for path in _files(root, aside):
        known = formats.of_name(path)
        if known is not None and known.name != DICOM.name:
            found.append(scan_file(path, formats))
        elif ending := next((end for end in IMAGES if path.name.lower().endswith(end)), ""):
            left_out[f"image of a format that is not read ({ending})"] += 1
    parts = {part for scan in found for part in scan.files[1:]}
    for scan in found:
        if scan.path != scan.files[0] and not scan.files[0].is_file() and not is_dicom(scan.path):
            left_out["file of voxels whose header is missing"] += 1
    return [scan for scan in found if scan.path == scan.files[0] and scan.path not in parts], left_out


def _files(root: Path, aside: Path | None) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and here / name != aside)
        for name in sorted(files):
            path = here / name
            if not name.startswith(".") and path.resolve().is_relative_to(root):
                yield path
