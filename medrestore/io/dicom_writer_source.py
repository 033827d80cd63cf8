"""The images that a derived series is made from: where each lies, and what its header says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset

from medrestore.errors import InputError, OutputError
from medrestore.io.dicom_head import READ_ERRORS, Head
from medrestore.io.dicom_plan import planned_slices
from medrestore.types import Float64Array
from medrestore.volume import Volume

NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


@dataclass(frozen=True)
class SourceSlice:
    """One image of the source, LPS+ mm.

    Attributes:
        data: Its header, without pixels.
        path: Its file.
        position: Centre of the first pixel, (3,).
        axes: Unit vectors along a row and along a column, (2, 3).
        spacing: Between columns, between rows: along the first and the second array axis.
        size: Columns and rows.
        scale: Rescale slope and intercept.
    """

    data: Dataset
    path: Path
    position: Float64Array
    axes: Float64Array
    spacing: tuple[float, float]
    size: tuple[int, int]
    scale: tuple[float, float]

    @property
    def normal(self) -> Float64Array:
        """Unit vector across the slice."""
        return np.asarray(np.cross(self.axes[0], self.axes[1]))

    @property
    def padding(self) -> tuple[int, int] | None:
        """Range of the stored values that mean padding; None where the header names none."""
        first = self.data.get("PixelPaddingValue")
        if first is None or first == "":
            return None
        last = self.data.get("PixelPaddingRangeLimit")
        ends = sorted(
            _as_stored(int(end), self.data) for end in (first, first if last in (None, "") else last)
        )
        return ends[0], ends[1]

    def padded(self) -> npt.NDArray[np.bool_] | None:
        """Return where this image is padding, (column, row); None where it has no such value."""
        limits = self.padding
        if limits is None:
            return None
        stored = self._stored()
        return np.asarray((stored >= limits[0]) & (stored <= limits[1])).T

    def _stored(self) -> npt.NDArray[Any]:
        try:
            data = pydicom.dcmread(self.path, force=True)
            if "TransferSyntaxUID" not in data.file_meta:
                data.file_meta.TransferSyntaxUID = self.data.file_meta.TransferSyntaxUID
            return np.asarray(data.pixel_array)
        except READ_ERRORS as error:
            raise OutputError(f"{self.path}: pixels cannot be decoded a second time ({error})") from error


def _as_stored(value: int, data: Dataset) -> int:
    """Return a padding value as the pixels have it: some headers state a signed one without its sign."""
    bits = int(data.get("BitsAllocated", 16))
    if data.get("PixelRepresentation") and value >= 1 << (bits - 1):
        return value - (1 << bits)
    return value


def source_slices(volume: Volume) -> tuple[SourceSlice, ...]:
    """Return the images that a volume was read from, in the order along their normal.

    Raises:
        OutputError: The volume does not come from DICOM, or its files are gone, changed, or without UIDs.
    """
    source = volume.source
    if source is None or source.format != "dicom":
        origin = "an array" if source is None or not source.path else source.path
        raise OutputError(
            f"{origin}: is no DICOM, and a derived series takes patient, study and place from one; "
            "write NIfTI"
        )
    try:
        heads = planned_slices(volume)
    except InputError as error:
        raise OutputError(f"{source.path}: cannot be planned a second time ({error})") from error
    if any(head.frames > 1 for head in heads):
        raise OutputError(
            f"{source.path}: an enhanced multi-frame series, and derived series are written of classic "
            "images alone; write NIfTI"
        )
    slices = tuple(_source_slice(head) for head in heads)
    if len(slices) != source.details.get("slices", len(slices)):
        raise OutputError(
            f"{source.path}: {len(slices)} images, where {source.details['slices']} were read; the folder "
            "changed meanwhile"
        )
    return slices


def _source_slice(head: Head) -> SourceSlice:
    try:
        data = pydicom.dcmread(head.path, stop_before_pixels=True, force=True)
    except READ_ERRORS as error:
        raise OutputError(f"{head.path}: cannot be read a second time ({error})") from error
    missing = [name for name in NEEDED if not data.get(name)]
    if missing:
        raise OutputError(
            f"{head.path}: has no {', '.join(missing)}; a derived image cannot say what it was made from, "
            "write NIfTI"
        )
    return SourceSlice(
        data=data,
        path=head.path,
        position=np.asarray(head.position, dtype=np.float64),
        axes=np.asarray(head.orientation, dtype=np.float64),
        spacing=(head.spacing[1], head.spacing[0]),
        size=(head.size[1], head.size[0]),
        scale=head.scale,
    )
