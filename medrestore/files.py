"""Scans in and out in every installed format: what `medrestore.io` does, with the formats of all plugins."""

from __future__ import annotations

import os
from collections.abc import Sequence

from medrestore import io
from medrestore.io import ReadPolicy, ReadRequest, ScanHeader, WriteReport
from medrestore.plugin import installed_formats
from medrestore.volume import Volume


def read_header(path: str | os.PathLike[str], request: ReadRequest | None = None) -> ScanHeader:
    """Read what is known of a scan before its voxels: grid, number of volumes, modality.

    Args:
        path: File or folder.
        request: How it is to be read.

    Raises:
        InputError: The path is missing or no such scan, there are several DICOM series, or one is asked for
            of what is no DICOM.
        GeometryError: The scan has no usable place in space.
        PluginError: A plugin that reads the format fails.
    """
    return io.read_header(path, request, installed_formats())


def read_volumes(header: ScanHeader) -> tuple[Volume, ...]:
    """Read the voxels of a scan whose header is known; nothing of it is parsed again.

    Raises:
        InputError: As `read`.
        PluginError: As `read`.
    """
    return io.read_volumes(header, installed_formats())


def read_first(header: ScanHeader) -> Volume:
    """Read the first volume of a scan whose header is known, for a look at what it is of.

    Raises:
        InputError: As `read`.
        PluginError: As `read`.
    """
    return io.read_first(header, installed_formats())


def read(
    path: str | os.PathLike[str], *, policy: ReadPolicy | None = None, series: str | None = None
) -> Volume:
    """Read a scan: a NIfTI file, a folder with one DICOM series, or what a plugin has a format for.

    Formats are told by content, then by name. Voxels come as float32 (X, Y, Z) with the file's scaling
    applied, in the order of the file; an image is a volume of one slice. A folder is read with all its
    subfolders; a DICOM file is read by itself.

    Args:
        path: File or folder.
        policy: What is done with DICOM series that are no regular grid; they are refused otherwise.
        series: Number of the DICOM series in the plan of the folder (`medrestore scan`), or its UID.

    Raises:
        InputError: The path is missing or no such scan, a file is damaged, voxels are not real or not
            finite, there are several series, or several volumes (use `read_series`).
        GeometryError: The scan has no usable place in space.
        PluginError: A plugin that reads the format fails; the message names both.
    """
    return io.read(path, policy=policy, series=series, formats=installed_formats())


def read_series(
    path: str | os.PathLike[str], *, policy: ReadPolicy | None = None, series: str | None = None
) -> tuple[Volume, ...]:
    """Read every volume of a 4-D file or DICOM series, each as `read` would; else the one there is.

    Args:
        path: File or folder.
        policy: As for `read`.
        series: As for `read`.

    Raises:
        InputError: As `read`; several volumes are no error here.
        GeometryError: As `read`.
        PluginError: As `read`.
    """
    return io.read_series(path, policy=policy, series=series, formats=installed_formats())


def write(
    volumes: Volume | Sequence[Volume],
    path: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    overwrite: bool = False,
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

    Returns:
        Where it went, the type of the voxels, how many were clipped, and the file's SHA-256.

    Raises:
        OutputError: The file exists, cannot be written, the name or type is not one of the format's, the
            input's type is unknown, or the volumes do not share one grid.
        PluginError: A plugin that writes the format fails.
    """
    return io.write(volumes, path, dtype=dtype, overwrite=overwrite, formats=installed_formats())
