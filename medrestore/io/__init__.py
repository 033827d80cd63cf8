"""Scans in and out: NIfTI files, and folders of DICOM series.

`read` and `read_series` return `Volume`; `plan_dicom` says what a folder holds; `write` makes NIfTI files and
`write_dicom` derived DICOM series, atomically.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medrestore.errors import InputError
from medrestore.io.atomic import atomic_folder, atomic_write
from medrestore.io.dicom.derive.write import SeriesReport, check_derivable, write_dicom
from medrestore.io.dicom.plan.plan import Plan, PlannedSeries, plan_dicom
from medrestore.io.dicom.plan.policy import ReadPolicy
from medrestore.io.dicom.read import is_dicom, read_dicom, read_dicom_series, reading_notes
from medrestore.volume import Volume

if TYPE_CHECKING:
    from medrestore.io.nifti.write import WriteReport

__all__ = [
    "Plan",
    "PlannedSeries",
    "ReadPolicy",
    "SeriesReport",
    "WriteReport",
    "atomic_folder",
    "atomic_write",
    "check_derivable",
    "plan_dicom",
    "read",
    "read_series",
    "reading_notes",
    "write",
    "write_dicom",
]


def read(
    path: str | os.PathLike[str], *, policy: ReadPolicy | None = None, series: str | None = None
) -> Volume:
    """Read a NIfTI file (.nii, .nii.gz, version 1 or 2), or a folder with one DICOM series.

    Formats are told by content. Voxels come as float32 (X, Y, Z) with the file's scaling applied, in the
    order of the file; an image is a volume of one slice. A folder is read with all its subfolders; a DICOM
    file is read by itself.

    Args:
        path: File or folder.
        policy: What is done with DICOM series that are no regular grid; they are refused otherwise.
        series: Number of the DICOM series in the plan of the folder (`medrestore scan`), or its UID.

    Raises:
        InputError: The path is missing or no such scan, a file is damaged, voxels are not real or not
            finite, there are several series, or several volumes (use `read_series`).
        GeometryError: The scan has no usable place in space.
    """
    path = _existing(path)
    if path.is_dir() or is_dicom(path):
        return read_dicom(path, policy, series)
    _check_nifti(path, series)
    from medrestore.io.nifti.read import read_nifti  # noqa: PLC0415  # nibabel costs more than a plan

    return read_nifti(path)


def read_series(
    path: str | os.PathLike[str], *, policy: ReadPolicy | None = None, series: str | None = None
) -> tuple[Volume, ...]:
    """Read every volume of a 4-D NIfTI file or DICOM series, each as `read` would; else the one there is.

    Args:
        path: File or folder.
        policy: As for `read`.
        series: As for `read`.

    Raises:
        InputError: As `read`; several volumes are no error here.
        GeometryError: As `read`.
    """
    path = _existing(path)
    if path.is_dir() or is_dicom(path):
        return read_dicom_series(path, policy, series)
    _check_nifti(path, series)
    from medrestore.io.nifti.read import read_nifti_series  # noqa: PLC0415

    return read_nifti_series(path)


def write(
    volumes: Volume | Sequence[Volume],
    path: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    overwrite: bool = False,
) -> WriteReport:
    """Write a volume, or several on one grid as a 4-D series, to a NIfTI file.

    The header is a new one: grid, voxel sizes in mm, sform and qform with the input's codes, the input's
    NIfTI version and time step. No text of the input's header is copied. The file appears whole or not at
    all.

    Args:
        volumes: What to write.
        path: Ends in .nii or .nii.gz; the folder must exist.
        dtype: ``"float32"``; ``"input"`` for the type and scaling of the input, values rounded and clipped
            to what it can hold; or the name of a type, such as ``"int16"``, without scaling.
        overwrite: Replace a file that is there already.

    Returns:
        Where it went, how many voxels were clipped, and the file's SHA-256.

    Raises:
        OutputError: The file exists, cannot be written, the name or type is not one of NIfTI's, the input's
            type is unknown, or the volumes do not share one grid.
    """
    from medrestore.io.nifti.write import write_nifti  # noqa: PLC0415

    series = (volumes,) if isinstance(volumes, Volume) else tuple(volumes)
    return write_nifti(series, Path(path), dtype=dtype, overwrite=overwrite)


def _check_nifti(path: Path, series: str | None) -> None:
    if series is not None:
        raise InputError(f"{path}: no DICOM, and so without a series {series!r}")


def _existing(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if not path.exists():
        raise InputError(
            f"{path}: no such file or folder; expected a NIfTI file or a folder with a DICOM series"
        )
    return path


def __getattr__(name: str) -> object:
    if name != "WriteReport":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Lazily, as for everything of NIfTI: a plan of DICOM series needs no nibabel.
    from medrestore.io.nifti.write import WriteReport  # noqa: PLC0415

    return WriteReport
