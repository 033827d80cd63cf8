"""Scans in and out: NIfTI files, folders of DICOM series, and whatever formats a caller adds.

`read` and `read_series` return `Volume`; `read_header` what is known before; `plan_dicom` says what a folder
holds; `write` makes files and `write_dicom` derived DICOM series, atomically.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medrestore.errors import InputError, OutputError
from medrestore.io.atomic import atomic_folder, atomic_write
from medrestore.io.formats import Format, Formats, ScanHeader, StoredVoxels, WriteReport
from medrestore.lazy import on_first_use
from medrestore.options import ReadPolicy, ReadRequest
from medrestore.provenance import sha256_file
from medrestore.volume import Volume

if TYPE_CHECKING:
    from medrestore.io.dicom.derive.report import check_reports_can_be_written, write_report
    from medrestore.io.dicom.derive.write import SeriesReport, Sources, check_derivable, write_dicom
    from medrestore.io.dicom.plan.plan import Plan, PlannedSeries, plan_dicom
    from medrestore.io.dicom.read import is_dicom, reading_findings

__all__ = [
    "DICOM",
    "NIFTI",
    "Format",
    "Formats",
    "Plan",
    "PlannedSeries",
    "ReadPolicy",
    "ReadRequest",
    "ScanHeader",
    "SeriesReport",
    "Sources",
    "StoredVoxels",
    "WriteReport",
    "atomic_folder",
    "atomic_write",
    "check_derivable",
    "check_reports_can_be_written",
    "is_dicom",
    "plan_dicom",
    "read",
    "read_header",
    "read_series",
    "reading_findings",
    "write",
    "write_dicom",
    "write_report",
]


_HOMES = {
    "Plan": "medrestore.io.dicom.plan.plan",
    "PlannedSeries": "medrestore.io.dicom.plan.plan",
    "SeriesReport": "medrestore.io.dicom.derive.write",
    "Sources": "medrestore.io.dicom.derive.write",
    "check_derivable": "medrestore.io.dicom.derive.write",
    "check_reports_can_be_written": "medrestore.io.dicom.derive.report",
    "is_dicom": "medrestore.io.dicom.read",
    "plan_dicom": "medrestore.io.dicom.plan.plan",
    "reading_findings": "medrestore.io.dicom.read",
    "write_dicom": "medrestore.io.dicom.derive.write",
    "write_report": "medrestore.io.dicom.derive.report",
}
"""What is imported when it is asked for: whoever names a format pays for no reader."""


__getattr__ = on_first_use(__name__, _HOMES)


def _holds_dicom(path: Path) -> bool:
    from medrestore.io.dicom.read import holds_dicom

    return holds_dicom(path)


def _dicom_header(path: Path, request: ReadRequest) -> ScanHeader:
    from medrestore.io.dicom.read import dicom_header

    return dicom_header(path, request)


def _read_dicom(header: ScanHeader) -> tuple[Volume, ...]:
    from medrestore.io.dicom.read import read_dicom

    return read_dicom(header)


def _is_nifti(path: Path) -> bool:
    from medrestore.io.nifti.read import is_nifti

    return is_nifti(path)


def _nifti_header(path: Path, request: ReadRequest) -> ScanHeader:
    from medrestore.io.nifti.read import nifti_header

    return nifti_header(path, request)


def _read_nifti(header: ScanHeader) -> tuple[Volume, ...]:
    from medrestore.io.nifti.read import read_nifti

    return read_nifti(header)


def _first_nifti(header: ScanHeader) -> Volume:
    from medrestore.io.nifti.read import first_nifti

    return first_nifti(header)


def _write_nifti(volumes: Sequence[Volume], path: Path, dtype: str) -> StoredVoxels:
    from medrestore.io.nifti.write import write_nifti

    return write_nifti(volumes, path, dtype)


DICOM = Format(
    name="dicom",
    suffixes=(".dcm",),
    header=_dicom_header,
    read=_read_dicom,
    recognises=_holds_dicom,
    title="DICOM",
)
NIFTI = Format(
    name="nifti",
    suffixes=(".nii.gz", ".nii"),
    header=_nifti_header,
    read=_read_nifti,
    first=_first_nifti,
    recognises=_is_nifti,
    write=_write_nifti,
    title="NIfTI",
)
STANDARD = Formats((DICOM, NIFTI))
"""What is read where a caller names no formats."""


def read_header(
    path: str | os.PathLike[str], request: ReadRequest | None = None, formats: Formats = STANDARD
) -> ScanHeader:
    """Read what is known of a scan before its voxels: grid, number of volumes, modality.

    Args:
        path: File or folder.
        request: How it is to be read.
        formats: Which formats there are.

    Raises:
        InputError: The path is missing or no such scan, there are several DICOM series, or one is asked for
            of what is no DICOM.
        GeometryError: The scan has no usable place in space.
    """
    return formats.header(Path(path), request or ReadRequest())


def read(
    path: str | os.PathLike[str],
    *,
    policy: ReadPolicy | None = None,
    series: str | None = None,
    formats: Formats = STANDARD,
) -> Volume:
    """Read a NIfTI file (.nii, .nii.gz, version 1 or 2) or a folder with one DICOM series.

    Formats are told by content. Voxels come as float32 (X, Y, Z) with the file's scaling applied, in the
    order of the file; an image is a volume of one slice. A folder is read with all its subfolders; a DICOM
    file is read by itself.

    Args:
        path: File or folder.
        policy: What is done with DICOM series that are no regular grid; they are refused otherwise.
        series: Number of the DICOM series in the plan of the folder (`medrestore scan`), or its UID.
        formats: Which formats there are.

    Raises:
        InputError: The path is missing or no such scan, a file is damaged, voxels are not real or not
            finite, there are several series, or several volumes (use `read_series`).
        GeometryError: The scan has no usable place in space.
    """
    header = read_header(path, ReadRequest(policy or ReadPolicy(), series), formats)
    if header.volumes > 1:
        raise InputError(
            f"{path}: a series of {header.volumes} volumes, expected one; read it with read_series, "
            "which returns one volume for each, or restore it from file to file with restore_file"
        )
    (volume,) = read_volumes(header, formats)
    return volume


def read_series(
    path: str | os.PathLike[str],
    *,
    policy: ReadPolicy | None = None,
    series: str | None = None,
    formats: Formats = STANDARD,
) -> tuple[Volume, ...]:
    """Read every volume of a 4-D file or DICOM series, each as `read` would; else the one there is.

    Args:
        path: File or folder.
        policy: As for `read`.
        series: As for `read`.
        formats: As for `read`.

    Raises:
        InputError: As `read`; several volumes are no error here.
        GeometryError: As `read`.
    """
    return read_volumes(read_header(path, ReadRequest(policy or ReadPolicy(), series), formats), formats)


def read_volumes(header: ScanHeader, formats: Formats = STANDARD) -> tuple[Volume, ...]:
    """Read the voxels of a scan whose header is known; nothing of it is parsed again.

    Raises:
        InputError: As `read`.
    """
    return formats.volumes(header)


def read_first(header: ScanHeader, formats: Formats = STANDARD) -> Volume:
    """Read the first volume of a scan whose header is known, for a look at what it is of.

    Raises:
        InputError: As `read`.
    """
    return formats.first(header)


def write(
    volumes: Volume | Sequence[Volume],
    path: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    overwrite: bool = False,
    formats: Formats = STANDARD,
) -> WriteReport:
    """Write a volume, or several on one grid as a 4-D series, in the format that the name ends as.

    The header is a new one: grid, voxel sizes in mm, for NIfTI sform and qform with the input's codes, the
    input's NIfTI version and time step. No text of the input's header is copied. The file appears whole or
    not at all.

    Args:
        volumes: What to write.
        path: Ends in .nii, .nii.gz or as a plugin's format does; the folder must exist.
        dtype: ``"float32"``; ``"input"`` for the type and scaling of the input, values rounded and clipped
            to what it can hold; or the name of a type, such as ``"int16"``, without scaling.
        overwrite: Replace a file that is there already.
        formats: Which formats there are.

    Returns:
        Where it went, the type of the voxels, how many were clipped, and the file's SHA-256.

    Raises:
        OutputError: The file exists, cannot be written, the name or type is not one of the format's, the
            input's type is unknown, or the volumes do not share one grid.
    """
    path, series = Path(path), (volumes,) if isinstance(volumes, Volume) else tuple(volumes)
    chosen = formats.written_as(path)
    if chosen is None or chosen.write is None:
        formats.refuse_broken()
        known = ", ".join(formats.written)
        raise OutputError(f"{path}: no format is written under that name; expected an ending of {known}")
    _check_series(series, path)
    with atomic_write(path, overwrite) as temporary:
        try:
            stored = chosen.write(series, temporary, dtype)
        except OutputError as error:
            raise OutputError(f"{path}: {error}") from error.__cause__
        return WriteReport(path, stored.dtype, stored.clipped_voxels, sha256_file(temporary))


def _check_series(volumes: Sequence[Volume], path: Path) -> None:
    if not volumes:
        raise OutputError(f"{path}: no volume to write")
    first = volumes[0].geometry
    for index, volume in enumerate(volumes):
        if not first.allclose(volume.geometry):
            raise OutputError(
                f"{path}: volume {index} lies on another grid ({volume.geometry.shape}) than volume 0 "
                f"({first.shape}); a series shares one grid, write the volumes to files of their own"
            )
