"""Volumes to a derived DICOM series that a PACS takes, made from the files that the scan was read from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian

from medrestore.errors import OutputError, reason_of
from medrestore.findings import LOSSY_COMPRESSION_UNKNOWN, Finding
from medrestore.io.atomic import atomic_folder
from medrestore.io.dicom.derive.classic import classic_image
from medrestore.io.dicom.derive.enhanced import enhanced_image, objects
from medrestore.io.dicom.derive.header import make_uid
from medrestore.io.dicom.derive.quantities import RESTORED
from medrestore.io.dicom.derive.series import DerivedSeries, check_derivable, plan_series
from medrestore.io.dicom.derive.source import Sources, source_slices
from medrestore.provenance import RunRecord, sha256_file
from medrestore.volume import Volume

__all__ = ["SeriesReport", "Sources", "check_derivable", "write_dicom"]

_IMPLEMENTATION = make_uid("implementation")
_IMPLEMENTATION_NAME = "MEDRESTORE"


@dataclass(frozen=True)
class SeriesReport:
    """The derived series that was written.

    Attributes:
        path: The folder.
        series_uid: UID of the series.
        files: Number of images.
        clipped_voxels: Number of values that 16 bits could not hold.
        sha256: SHA-256 of the sorted hashes of the files, joined as hexadecimal text.
        slope: Rescale slope.
        inter: Rescale intercept.
        dtype: Type of the stored values.
        findings: What a reader of the series should know.
    """

    path: Path
    series_uid: str
    files: int
    clipped_voxels: int
    sha256: str
    slope: float
    inter: float
    dtype: str
    findings: tuple[Finding, ...] = ()


def write_dicom(
    volumes: Volume | Sequence[Volume],
    path: Path,
    records: RunRecord | Sequence[RunRecord],
    *,
    quantity: str = RESTORED,
    overwrite: bool = False,
    sources: Sources | None = None,
) -> SeriesReport:
    """Write a volume, or the volumes of a 4-D series, as a derived series of MR or CT images.

    Classic sources make classic images, a file for each slice; enhanced sources make enhanced images.
    Patient, study and frame of reference are the source's; UIDs of series and instances are new, and depend
    on the source's UIDs, the weights and the settings alone, as do the bytes.

    Args:
        volumes: Volumes to write; read from one DICOM series, all on one rectangular grid in the source's
            frame of reference.
        path: The folder to make; its parent must exist. It appears with all files or not at all.
        records: How the voxels were made, one for each volume.
        quantity: What they show: a name in `QUANTITIES`.
        overwrite: Whether a series already in the folder is replaced.
        sources: Source images as `check_derivable` returns them; None to read the source again.

    Raises:
        OutputError: The volumes do not come from MR or CT images in DICOM, or the folder exists or cannot
            be written.
        GeometryError: The grid is sheared.
    """
    volumes = [volumes] if isinstance(volumes, Volume) else volumes
    records = [records] if isinstance(records, RunRecord) else records
    series = plan_series(volumes, records, quantity, sources or source_slices(volumes))
    clipped, digests = 0, []
    with atomic_folder(path, overwrite) as folder:
        for data, count in _images(series):
            clipped += count
            file = folder / f"IM{int(data.InstanceNumber):05}.dcm"
            _save(data, file)
            digests.append(sha256_file(file))
    return SeriesReport(
        path=path,
        series_uid=series.what.series_uid,
        files=len(digests),
        clipped_voxels=clipped,
        sha256=hashlib.sha256("".join(sorted(digests)).encode()).hexdigest(),
        slope=series.encoding.slope,
        inter=series.encoding.inter,
        dtype="int16" if series.encoding.signed else "uint16",
        findings=_findings(series),
    )


def _images(series: DerivedSeries) -> Iterator[tuple[Dataset, int]]:
    """Yield every image, and how many of its values were clipped."""
    if series.slices[0].source.is_frame:
        for number, slices in enumerate(objects(series), 1):
            yield enhanced_image(series, slices, number)
    else:
        for item in series.slices:
            yield classic_image(series, item)


def _save(data: Dataset, file: Path) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = data.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(_IMPLEMENTATION)
    meta.ImplementationVersionName = _IMPLEMENTATION_NAME
    data.file_meta = meta
    try:
        dcmwrite(file, data, enforce_file_format=True)
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
        raise OutputError(
            f"{file.name}: the source's header cannot be written again ({reason_of(error)})"
        ) from error


def _findings(series: DerivedSeries) -> tuple[Finding, ...]:
    lossy = series.lossy
    if lossy is None or (lossy.ratios and lossy.methods):
        return ()
    text = "the source says that it was compressed with loss, but not by what ratio and method"
    return (LOSSY_COMPRESSION_UNKNOWN.found(text),)
