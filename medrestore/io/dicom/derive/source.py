"""The images that a derived series is made from: their places, headers and padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset

from medrestore.errors import InputError, OutputError, reason_of
from medrestore.io.dicom.parse.elements import Get, mend
from medrestore.io.dicom.parse.files import READ_ERRORS, opened, quietly
from medrestore.io.dicom.parse.frames import frames
from medrestore.io.dicom.parse.header import SliceHeader
from medrestore.io.dicom.parse.padding import Belief
from medrestore.io.dicom.parse.pixels import Pixels
from medrestore.io.dicom.parse.rescale import Values, apply_scaling
from medrestore.io.dicom.plan.plan import PlannedSeries, planned_slices
from medrestore.types import Float64Array, FloatArray
from medrestore.volume import Volume

NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


@dataclass(frozen=True, eq=False)
class SourceSlice:
    """One image of the source, or one frame of an enhanced image, LPS+ mm.

    Attributes:
        head: The slice as it was planned.
        data: Header of its file, without pixels.
        get: Looks an attribute of the image up, in its functional groups too.
        values: Which of its scales was applied on reading.
        belief: Which values can be padding; None where the reader met none that was called so.
    """

    head: SliceHeader
    data: Dataset
    get: Get
    values: Values
    belief: Belief | None = None

    @property
    def path(self) -> Path:
        """Its file."""
        return self.head.path

    @property
    def is_frame(self) -> bool:
        """Whether it is a frame of an enhanced image."""
        return "PerFrameFunctionalGroupsSequence" in self.data

    @property
    def position(self) -> Float64Array:
        """Centre of the first pixel, (3,)."""
        return np.asarray(self.head.position, dtype=np.float64)

    @property
    def axes(self) -> Float64Array:
        """Unit vectors along a row and along a column, (2, 3)."""
        return np.asarray(self.head.orientation, dtype=np.float64)

    @property
    def normal(self) -> Float64Array:
        """Unit vector across the slice."""
        return np.asarray(np.cross(*self.axes))

    @property
    def spacing(self) -> tuple[float, float]:
        """Distance between columns and between rows, mm: along the first and the second array axis."""
        return self.head.spacing[1], self.head.spacing[0]

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        return self.head.size[1], self.head.size[0]

    @property
    def scale(self) -> tuple[float, float]:
        """Slope and intercept of the values that were read; 1 and 0 where a lookup table made the values."""
        linear = self.head.scaling.chosen(self.values)
        return (1.0, 0.0) if linear is None or self._has_table else (linear.slope, linear.inter)

    @property
    def padding(self) -> tuple[float, float] | None:
        """Range of the values that the header declares padding, and can be; None where there are none."""
        limits, top = self.head.scaling.padding, self.head.scaling.top
        if limits is None or self._has_table:
            return None
        if top is not None and self.values != "stored":
            limits = top - limits[1], top - limits[0]
        low, high = sorted(limit * self.scale[0] + self.scale[1] for limit in limits)
        return (low, high) if self.belief is None or self.belief.holds(low, high) else None

    @property
    def _has_table(self) -> bool:
        return self.values == "rescaled" and self.head.scaling.table is not None


Sources: TypeAlias = tuple[tuple[SourceSlice, ...], ...]
"""The images of each volume of a series, in the order along their normal."""


def source_slices(volumes: Sequence[Volume], series: PlannedSeries | None = None) -> Sources:
    """Return the images that each volume of a series was read from, in the order along their normal.

    Args:
        volumes: Volumes of one series.
        series: The plan by which they were read; None to plan the folder again.

    Raises:
        OutputError: A volume does not come from DICOM, or its files are gone, changed, or without UIDs.
    """
    source = volumes[0].source
    if source is None or source.format != "dicom":
        origin = "an array" if source is None or not source.path else source.path
        raise OutputError(
            f"{origin}: is no DICOM, and a derived series takes patient, study and place from one; "
            "write NIfTI"
        )
    try:
        planned = planned_slices(volumes, series)
    except InputError as error:
        raise OutputError(f"{source.path}: cannot be planned a second time ({error})") from error
    wanted = source.details.get("slices", len(planned[0]))
    for heads in planned:
        if len(heads) != wanted:
            raise OutputError(
                f"{source.path}: {len(heads)} images, where {wanted} were read; the folder changed meanwhile"
            )
    values, beliefs = values_of(volumes[0]), [_belief_of(volume) for volume in volumes]
    files = {path: _header(path) for path in {head.path for heads in planned for head in heads}}

    def slice_of(head: SliceHeader, belief: Belief | None) -> SourceSlice:
        data, images = files[head.path]
        return SourceSlice(head, data, images[0 if head.tiles > 1 else head.frame], values, belief)

    return tuple(
        tuple(slice_of(head, belief) for head in heads)
        for heads, belief in zip(planned, beliefs, strict=True)
    )


def _belief_of(volume: Volume) -> Belief | None:
    beyond = None if volume.source is None else volume.source.details.get("padding_beyond")
    return Belief(*map(float, beyond)) if isinstance(beyond, tuple) else None


def values_of(volume: Volume) -> Values:
    """Return which scale was applied when a volume was read."""
    policy = {} if volume.source is None else volume.source.details.get("policy")
    chosen = policy.get("values") if isinstance(policy, dict) else None
    return chosen or "rescaled"


def _header(path: Path) -> tuple[Dataset, list[Get]]:
    """Return the header of a file, and the lookup of attributes of each of its images."""
    try:
        with quietly(), opened(path) as stream:
            data = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
            mend(data)
        images = list(frames(data, str(path)))
    except READ_ERRORS as error:
        raise OutputError(f"{path}: cannot be read a second time ({reason_of(error)})") from error
    missing = [name for name in NEEDED if not data.get(name)]
    if missing:
        raise OutputError(
            f"{path}: has no {', '.join(missing)}; a derived image cannot say what it was made from, "
            "write NIfTI"
        )
    return data, images


class Padding:
    """Places and original values of the pixels that the reader took for padding."""

    def __init__(self, sources: Sequence[SourceSlice] = ()) -> None:
        """Read the pixels of `sources` a second time; raises OutputError where that fails."""
        self._found: dict[tuple[Path, int], tuple[npt.NDArray[np.intp], FloatArray]] = {}
        files: dict[Path, list[SourceSlice]] = {}
        for source in sources:
            files.setdefault(source.path, []).append(source)
        with Pixels() as pixels:
            for path, wanted in files.items():
                try:
                    images = pixels.read([source.head for source in wanted])
                except InputError as error:
                    raise OutputError(f"{path}: cannot be decoded a second time ({error})") from error
                for stored, source in zip(images, wanted, strict=True):
                    values, padded = apply_scaling(stored, source.head.scaling, source.values)
                    if padded is not None and source.belief is not None:
                        padded = source.belief.of(values, padded)
                    if padded is not None and padded.any():
                        index = np.flatnonzero(padded)
                        self._found[path, source.head.frame] = index, values.ravel()[index].astype(np.float32)

    def of(self, source: SourceSlice) -> FloatArray | None:
        """Return the values of padding, (column, row), NaN where pixels were measured; None if all were."""
        found = self._found.get((source.path, source.head.frame))
        if found is None:
            return None
        image: FloatArray = np.full(source.head.size, np.nan, dtype=np.float32)
        image.flat[found[0]] = found[1]
        return image.T
