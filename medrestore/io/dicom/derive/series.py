"""The slices of a derived series, and the attributes that its images share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medrestore.errors import OutputError
from medrestore.io.dicom.derive.grid import Placement, padded_pixels, place_slices
from medrestore.io.dicom.derive.header import Derivation, derivation, storage_class
from medrestore.io.dicom.derive.image import Lossy, Window, lossy_history, way_of_locations
from medrestore.io.dicom.derive.quantities import RESTORED
from medrestore.io.dicom.derive.source import Padding, Sources, SourceSlice, source_slices
from medrestore.io.dicom.derive.values import (
    Encoding,
    Wanted,
    arbitrary_encoding,
    encode,
    hounsfield_encoding,
)
from medrestore.io.formats import ScanHeader
from medrestore.provenance import JSON, RunRecord, series_record
from medrestore.types import RealArray
from medrestore.volume import Volume

# Ends of the window, in per cent of the pixels.
_WINDOW = (1.0, 99.5)


@dataclass(frozen=True, eq=False)
class DerivedSlice:
    """One slice of the result.

    Attributes:
        values: Voxels, (column, row), in the units of the scan.
        place: Where the slice lies.
        source: The source image that is nearest.
        sources: The source images that lie within the slice or beside it.
        index: Number in the series, from 0.
        number: Instance number, where the slice is an image of its own.
        volume: Number of its volume in the series.
        label: Label that tells its volume from the others.
        way: How its source counts slice locations; see `way_of_locations`.
    """

    values: RealArray
    place: Placement
    source: SourceSlice
    sources: tuple[SourceSlice, ...]
    index: int
    number: int
    volume: int
    label: dict[str, JSON]
    way: int | None


@dataclass(frozen=True, eq=False)
class DerivedSeries:
    """A series to be written.

    Attributes:
        slices: Slices of all volumes, one volume after the other.
        what: How the series was derived.
        encoding: How voxels are stored.
        padding: Padding of the source, which is stored unchanged.
        window: Range to show as grey; None to keep the window of the source.
        lossy: Compression with loss in the source.
        hounsfield: Whether values are Hounsfield units.
        alone: Whether each volume is a single slice.
        nameless: Whether nothing but their files told the volumes apart.
    """

    slices: tuple[DerivedSlice, ...]
    what: Derivation
    encoding: Encoding
    padding: Padding
    window: Window | None
    lossy: Lossy | None
    hounsfield: bool
    alone: bool
    nameless: bool

    def stored(self, item: DerivedSlice) -> tuple[bytes, int]:
        """Return the pixels of a slice, row by row, and how many of them had to be clipped."""
        padding = padded_pixels(item.place, item.source, self.padding.of(item.source))
        stored, clipped = encode(item.values, padding, self.encoding)
        return np.ascontiguousarray(stored.T).astype(stored.dtype.newbyteorder("<")).tobytes(), clipped


def check_derivable(volumes: Volume | Sequence[Volume], header: ScanHeader | None = None) -> Sources:
    """Check that a derived series can be made from the volumes read, before hours of work.

    Args:
        volumes: A volume, or the volumes of a 4-D series.
        header: Header by which the volumes were read; None to plan their folder again.

    Returns:
        The source images for `write_dicom`, so that none is parsed again.

    Raises:
        OutputError: The volumes do not come from MR or CT images in DICOM, or their headers do not suffice.
    """
    volumes = [volumes] if isinstance(volumes, Volume) else volumes
    sources = source_slices(volumes, None if header is None else header.own.series)
    _check_sources(volumes[0], [source for part in sources for source in part])
    return sources


def _check_sources(volume: Volume, sources: Sequence[SourceSlice]) -> None:
    for source in sources:
        storage_class(source)
    if len({source.is_frame for source in sources}) > 1:
        raise OutputError(
            f"{sources[0].path}: enhanced and classic images in one series, which is written as one or the "
            "other; write NIfTI"
        )
    if str(sources[0].data.Modality) == "CT" and volume.units != "HU":
        raise OutputError(
            f"{sources[0].path}: CT in units of {volume.units}, and derived CT is in HU; write NIfTI"
        )


def plan_series(
    volumes: Sequence[Volume], records: Sequence[RunRecord], quantity: str, parts: Sources
) -> DerivedSeries:
    """Plan the series: places, scale, window and UIDs.

    Args:
        volumes: One volume, or the volumes of a 4-D series, all on one grid.
        records: How the volumes were made, one record for each.
        quantity: What they show: a name in `QUANTITIES`.
        parts: Source images that the volumes were read from.

    Raises:
        OutputError: See `check_derivable`.
        GeometryError: The grid is sheared.
    """
    sources = [source for part in parts for source in part]
    _check_sources(volumes[0], sources)
    slices = _slices(volumes, parts)
    resampled = not all(item.place.preserved for item in slices)
    restored = quantity == RESTORED
    wanted = _wanted(volumes, records, sources, restored)
    hounsfield = restored and str(sources[0].data.Modality) == "CT"
    # The window of a header is in rescaled values.
    keep = restored and all(
        source.values == "rescaled" and not source.head.doubts and source.get("WindowCenter") is not None
        for source in sources
    )
    padded = [
        source for volume, part in zip(volumes, parts, strict=True) if _padded(volume) for source in part
    ]
    return DerivedSeries(
        slices=slices,
        what=derivation(series_record(records), quantity, sources, resampled),
        encoding=hounsfield_encoding(wanted) if hounsfield else arbitrary_encoding(wanted),
        padding=Padding(padded if restored else ()),
        window=None if keep else _window(volumes, wanted.high),
        lossy=lossy_history(sources),
        hounsfield=hounsfield,
        alone=volumes[0].shape[2] == 1,
        nameless=len({str(item.label) for item in slices}) < len(volumes),
    )


def _slices(volumes: Sequence[Volume], parts: Sequence[tuple[SourceSlice, ...]]) -> tuple[DerivedSlice, ...]:
    slices: list[DerivedSlice] = []
    for number, (volume, sources) in enumerate(zip(volumes, parts, strict=True)):
        way = way_of_locations(sources)
        label = volume.source.details.get("label") if volume.source is not None else None
        for k, place in enumerate(place_slices(volume.geometry, sources)):
            slices.append(
                DerivedSlice(
                    values=volume.array[:, :, k],
                    place=place,
                    source=sources[place.nearest],
                    sources=tuple(sources[n] for n in place.sources),
                    index=len(slices),
                    number=0,
                    volume=number,
                    label=dict(label) if isinstance(label, dict) else {},
                    way=way,
                )
            )
    numbers = _numbers(slices, parts[0])
    return tuple(replace(item, number=number) for item, number in zip(slices, numbers, strict=True))


def _numbers(slices: Sequence[DerivedSlice], sources: Sequence[SourceSlice]) -> list[int]:
    """Return the instance numbers: the source's where slices are, else in the direction of the source's."""
    stated = [_number(item.source) for item in slices]
    if all(item.place.preserved for item in slices) and len(set(stated)) == len(stated) and min(stated) > 0:
        return stated
    # The result may run along the source's normal or against it.
    downwards = _number(sources[0]) > _number(sources[-1])
    count = sum(item.volume == 0 for item in slices)
    if slices[0].place.nearest > slices[count - 1].place.nearest:
        downwards = not downwards
    places = [item.index % count for item in slices]
    return [
        item.volume * count + (count - k if downwards else k + 1)
        for item, k in zip(slices, places, strict=True)
    ]


def _number(source: SourceSlice) -> int:
    return int(source.data.get("InstanceNumber") or 0)


def _wanted(
    volumes: Sequence[Volume], records: Sequence[RunRecord], sources: Sequence[SourceSlice], restored: bool
) -> Wanted:
    low = min(float(volume.array.min()) for volume in volumes)
    high = max(float(volume.array.max()) for volume in volumes)
    if not restored:
        return Wanted(low, high, (1.0, 0.0), None, None, None)
    sigmas = [record.noise.get("sigma") for record in records]
    known = [sigma for sigma in sigmas if isinstance(sigma, int | float)]
    found = [end for volume in volumes for end in _padded(volume)]
    return Wanted(
        low=low,
        high=high,
        scale=sources[0].scale,
        padding=sources[0].padding,
        unmeasured=(min(found), max(found)) if found else None,
        noise=min(known) if len(known) == len(sigmas) else None,
    )


def _padded(volume: Volume) -> tuple[float, ...]:
    """Return the smallest and largest value that the reader took for padding; empty if there was none."""
    padding = {} if volume.source is None else volume.source.details.get("padding")
    ends = padding.get("values") if isinstance(padding, dict) else None
    return tuple(float(end) for end in ends) if isinstance(ends, tuple) else ()


def _window(volumes: Sequence[Volume], high: float) -> Window:
    """Return a window over most voxels, without the darkest and the brightest few."""
    ends = np.asarray([np.percentile(volume.array, _WINDOW) for volume in volumes])
    low, top = float(ends[:, 0].min()), float(ends[:, 1].max())
    top = top if top > low else max(high, low + 1)
    return Window((low + top) / 2, top - low)
