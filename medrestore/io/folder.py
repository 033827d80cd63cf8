"""The files below a folder that are scans by their names, each with all that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medrestore.io import DICOM, NIFTI, is_dicom
from medrestore.io.formats import Formats
from medrestore.io.tree import walk
from medrestore.paths import Obstacle, obstacle

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
        refused: Why it cannot be opened; empty if it can be tried.
    """

    path: Path
    format: str
    files: tuple[Path, ...]
    refused: str = ""


@dataclass(frozen=True)
class PassedOver:
    """What is no scan to restore.

    Attributes:
        path: Where it is.
        why: Why it is none.
    """

    path: Path
    why: str


def scan_file(path: Path, formats: Formats) -> ScanFile:
    """Return the scan that a file is by its name; one without an ending is taken for NIfTI."""
    found = formats.of_name(path)
    name = NIFTI.name if found is None else found.name
    hindrance = obstacle(path)
    if hindrance is not None:
        return ScanFile(path, name, (path,), f"is {hindrance}, expected a file")
    return ScanFile(path, name, formats.files(path))


def scan_files(
    root: Path, formats: Formats, aside: Path | None = None
) -> tuple[list[ScanFile], list[PassedOver]]:
    """Find the scans below a folder that are no DICOM, in the order of their names.

    Hidden files and links to elsewhere are not followed; a file of voxels whose header is another file
    is no scan of its own. What is named as a scan and is no file, a pipe say, is a scan that is refused.

    Args:
        root: The folder, resolved.
        formats: Which formats there are.
        aside: A folder that is not looked into.

    Returns:
        The scans, and the images that were left out.
    """
    found, folders, left_out = list[ScanFile](), list[ScanFile](), list[PassedOver]()
    for entry in walk(root, aside):
        path, known = entry.path, formats.of_name(entry.path)
        is_named = known is not None and known.name != DICOM.name
        if entry.is_folder:
            if entry.obstacle is Obstacle.OUTSIDE:
                left_out.append(PassedOver(path, "link to a folder that leads out of the folder"))
            elif is_named and entry.obstacle is None:
                folders.append(ScanFile(path, "", (path,), "is a folder, expected a file"))
        elif is_named and entry.obstacle is not Obstacle.OUTSIDE:
            found.append(scan_file(path, formats))
        elif ending := next((end for end in IMAGES if path.name.lower().endswith(end)), ""):
            left_out.append(PassedOver(path, f"image of a format that is not read ({ending})"))
    parts = {part for scan in found for part in scan.files[1:]}
    for scan in found:
        if scan.path != scan.files[0] and not scan.files[0].is_file() and not is_dicom(scan.path):
            left_out.append(PassedOver(scan.path, "file of voxels whose header is missing"))
    scans = [scan for scan in found if scan.path == scan.files[0] and scan.path not in parts]
    # Programs that unpack put x.nii into a folder x.nii: only where no scan is within, one was meant.
    empty = [one for one in folders if not any(one.path in scan.path.parents for scan in scans)]
    return [*scans, *empty], left_out
