"""A folder with one classic DICOM series to a volume."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medrestore.errors import InputError
from medrestore.io.dicom_head import READ_ERRORS, Head, is_dicom, read_head
from medrestore.io.dicom_series import SeriesPlan, plan_series
from medrestore.provenance import JSON, Source
from medrestore.types import FloatArray, Modality
from medrestore.volume import Volume

__all__ = ["is_dicom", "read_dicom"]

_MODALITIES = {"MR": Modality.MR, "CT": Modality.CT}


def read_dicom(path: Path) -> Volume:
    """Read a folder with one classic single-frame series, or one file of it as a single slice.

    Files are told by content and ordered by position; files that are no DICOM are passed over, subfolders are
    not entered. Voxels are float32, axes (column, row, slice along the normal), rescaled: HU for CT.

    Raises:
        InputError: No DICOM file, a damaged one, or files that are not one series of greyscale images.
        GeometryError: The slices make no regular grid: missing, doubled, uneven, tilted, of different
            orientations.
    """
    files = _dicom_files(path) if path.is_dir() else [path]
    heads = [head for head in map(read_head, files) if head is not None]
    if not heads:
        raise InputError(
            f"{path}: holds a DICOM directory (DICOMDIR) only, expected the images of one series"
        )
    plan = plan_series(heads, path)
    array, digests = _voxels(plan, path)
    digest = (
        digests[0] if not path.is_dir() else hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    )
    modality = _MODALITIES.get(str(heads[0].same["Modality"]), Modality.UNKNOWN)
    source = Source(str(path), "dicom", digest, _details(plan))
    return Volume(array, plan.geometry, modality, _units(modality, heads[0]), source)


def _dicom_files(folder: Path) -> list[Path]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        files = [entry for entry in entries if entry.is_file()]
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror or error})") from error
    found = [file for file in files if is_dicom(file)]
    if not found:
        folders = [entry.name for entry in entries if entry.is_dir()]
        hint = f"; subfolders are not entered, name one of them ({', '.join(folders[:4])})" if folders else ""
        raise InputError(f"{folder}: no DICOM file among {len(files)} files{hint}")
    return found


def _units(modality: Modality, head: Head) -> str:
    stated = str(head.same["RescaleType"] or "")
    if modality is Modality.CT:
        # "US" is DICOM's word for unspecified; CT without a stated type is in HU by the standard.
        return "HU" if stated in ("", "HU", "US") else stated
    return "arbitrary"


def _details(plan: SeriesPlan) -> dict[str, JSON]:
    """Return what a writer needs; scanner coordinates are what DICOM positions are in."""
    facts: dict[str, JSON] = {"slices": len(plan.heads), "sform_code": 1, "qform_code": 1}
    scales = {head.scale for head in plan.heads}
    if len(scales) > 1:
        # Slices with scales of their own (PET, some MR) have no common integer type.
        return facts | {"dtype": "float32", "slope": 1.0, "inter": 0.0}
    ((slope, inter),) = scales
    return facts | {"dtype": plan.heads[0].dtype.name, "slope": slope, "inter": inter}


def _voxels(plan: SeriesPlan, path: Path) -> tuple[FloatArray, list[str]]:
    """Return the voxels, (column, row, slice) with columns fastest in memory, and the hash of each file."""
    columns, rows, slices = plan.geometry.shape
    try:
        stack: FloatArray = np.empty((slices, rows, columns), dtype=np.float32)
    except MemoryError as error:
        raise InputError(
            f"{path}: {4 * slices * rows * columns} bytes of voxels do not fit into memory"
        ) from error
    digests = []
    for index, head in enumerate(plan.heads):
        try:
            content = head.path.read_bytes()
        except OSError as error:
            raise InputError(f"{head.path}: cannot be read ({error.strerror or error})") from error
        digests.append(hashlib.sha256(content).hexdigest())
        _decode(head, content, stack[index])
    return stack.transpose(2, 1, 0), digests


def _decode(head: Head, content: bytes, target: FloatArray) -> None:
    """Decode one slice into `target`, (row, column), rescaled."""
    try:
        data = pydicom.dcmread(io.BytesIO(content), force=True)
        if "TransferSyntaxUID" not in data.file_meta:
            implicit = data.original_encoding[0]
            data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        stored = data.pixel_array
    except READ_ERRORS as error:
        syntax = head.syntax.name or "no transfer syntax"
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"{head.path}: pixels cannot be decoded ({syntax}): {reason}; the file is damaged, or compressed "
            "in a way that needs the extra medrestore[dicom-extra]"
        ) from error
    if stored.shape != target.shape:
        raise InputError(f"{head.path}: {stored.shape} pixels decoded, the header declares {target.shape}")
    unused = head.unused_bits
    if unused and stored.dtype.itemsize == head.dtype.itemsize:
        # Scanners have kept overlays and garbage above the stored bits; shifting there and back drops it
        # and carries the sign.
        stored = (stored << unused) >> unused
    slope, inter = head.scale
    target[...] = stored if head.scale == (1.0, 0.0) else stored.astype(np.float64) * slope + inter
