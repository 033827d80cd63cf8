"""Volumes to a derived DICOM series that a PACS takes, made from the files that the scan was read from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from medrestore.errors import OutputError
from medrestore.io.atomic import atomic_folder
from medrestore.io.dicom_writer_grid import Placement, padded_pixels, place_slices
from medrestore.io.dicom_writer_header import (
    Derivation,
    Quantity,
    derivation,
    derived_header,
    make_uid,
    source_item,
    storage_class,
)
from medrestore.io.dicom_writer_image import Lossy, Window, lossy_history, set_lossy, set_place, set_values
from medrestore.io.dicom_writer_source import SourceSlice, source_slices
from medrestore.io.dicom_writer_values import (
    Encoding,
    Wanted,
    arbitrary_encoding,
    encode,
    hounsfield_encoding,
    value_range,
)
from medrestore.provenance import RunRecord, sha256_file
from medrestore.types import RealArray
from medrestore.volume import Volume

_IMPLEMENTATION = make_uid("implementation")
_IMPLEMENTATION_NAME = "MEDRESTORE"
# Ends of the window, in per cent of the pixels.
_WINDOW = (1.0, 99.5)

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SeriesReport:
    """What was written.

    Attributes:
        path: The folder.
        series_uid: UID of the series.
        files: How many images.
        clipped_voxels: How many values 16 bits could not hold.
        sha256: Of the sorted hashes of the files, joined as hexadecimal text.
        slope: Rescale slope.
        inter: Rescale intercept.
        dtype: Type of the stored values.
        notes: What a reader of the series should know.
    """

    path: Path
    series_uid: str
    files: int
    clipped_voxels: int
    sha256: str
    slope: float
    inter: float
    dtype: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Series:
    """Everything that its images share."""

    volume: Volume
    sources: tuple[SourceSlice, ...]
    places: tuple[Placement, ...]
    what: Derivation
    encoding: Encoding
    window: Window | None
    lossy: Lossy | None
    numbers: tuple[int, ...]


def write_dicom(
    volume: Volume,
    path: Path,
    record: RunRecord,
    *,
    quantity: Quantity = "restored",
    overwrite: bool = False,
) -> SeriesReport:
    """Write a volume as a derived series of classic MR or CT images, one file for each slice.

    Patient, study and frame of reference are the source's; UIDs of series and instances are new, and depend
    on the source's UIDs, the weights and the settings alone, as do the bytes.

    Args:
        volume: What to write; read from DICOM, on any rectangular grid in the source's frame of reference.
        path: The folder to make; its parent must exist. It appears with all files or not at all.
        record: How the voxels were made.
        quantity: The restored scan, or the standard deviation of its samples.
        overwrite: Replace a series that is there already.

    Raises:
        OutputError: The volume does not come from MR or CT images in DICOM, or the folder exists or cannot
            be written.
        GeometryError: The grid is sheared.
    """
    series = _plan(volume, record, quantity)
    clipped, digests = 0, []
    with atomic_folder(path, overwrite) as folder:
        for k, place in enumerate(series.places):
            data, count = _image(series, k, place)
            clipped += count
            file = folder / f"IM{series.numbers[k]:05}.dcm"
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
        notes=_notes(series),
    )


def check_derivable(volume: Volume) -> None:
    """Check that a derived series can be made from what a volume was read from, before hours of work.

    Raises:
        OutputError: The volume does not come from MR or CT images in DICOM, or their headers do not suffice.
    """
    for source in source_slices(volume):
        storage_class(source)


def _plan(volume: Volume, record: RunRecord, quantity: Quantity) -> _Series:
    sources = source_slices(volume)
    places = place_slices(volume.geometry, sources)
    what = derivation(record, quantity, sources, not all(place.preserved for place in places))
    sample = derived_header(sources[0], what)
    hounsfield = quantity == "restored" and sample.SOPClassUID == CTImageStorage
    low, high = value_range(_slices(volume, places, sources))
    sigma = record.noise.get("sigma")
    wanted = Wanted(
        low=low,
        high=high,
        scale=sources[0].scale if quantity == "restored" else (1.0, 0.0),
        padding=_padding(sources) if quantity == "restored" else None,
        noise=sigma if isinstance(sigma, (int, float)) and quantity == "restored" else None,
    )
    encoding = hounsfield_encoding(wanted) if hounsfield else arbitrary_encoding(wanted)
    keep = quantity == "restored" and all("WindowCenter" in item.data for item in sources)
    return _Series(
        volume=volume,
        sources=sources,
        places=places,
        what=what,
        encoding=encoding,
        window=None if keep else _window(volume.array, high),
        lossy=lossy_history(sources),
        numbers=_numbers(places, sources),
    )


def _slices(
    volume: Volume, places: Sequence[Placement], sources: Sequence[SourceSlice]
) -> Iterator[tuple[RealArray, Mask | None]]:
    for k, place in enumerate(places):
        yield volume.array[:, :, k], _padded(place, sources)


def _padded(place: Placement, sources: Sequence[SourceSlice]) -> Mask | None:
    source = sources[place.nearest]
    return padded_pixels(place, source, source.padded())


def _padding(sources: Sequence[SourceSlice]) -> float | None:
    """Return what a padded voxel is, in the units of the scan."""
    source = sources[0]
    if source.padding is None:
        return None
    return source.padding[0] * source.scale[0] + source.scale[1]


def _window(array: RealArray, high: float) -> Window:
    """Return a window over what most voxels are; the darkest and the brightest few do not count."""
    low, top = (float(value) for value in np.percentile(array, _WINDOW))
    top = top if top > low else max(high, low + 1)
    return Window((low + top) / 2, top - low)


def _numbers(places: Sequence[Placement], sources: Sequence[SourceSlice]) -> tuple[int, ...]:
    """Return the instance numbers: the source's where slices are, else in the direction of the source's."""
    stated = [int(item.data.get("InstanceNumber") or 0) for item in sources]
    if all(place.preserved for place in places) and len(set(stated)) == len(stated) and min(stated) > 0:
        return tuple(stated[place.nearest] for place in places)
    # The result may run along the source's normal or against it.
    downwards = stated[0] > stated[-1]
    if places[0].nearest > places[-1].nearest:
        downwards = not downwards
    count = len(places)
    return tuple(count - k if downwards else k + 1 for k in range(count))


def _image(series: _Series, k: int, place: Placement) -> tuple[Dataset, int]:
    """Return one image, and how many of its values were clipped."""
    source = series.sources[place.nearest]
    data = derived_header(source, series.what)
    data.SOPInstanceUID = series.what.instance_uid(k)
    data.InstanceNumber = series.numbers[k]
    data.SourceImageSequence = [source_item(series.sources[n], place.preserved) for n in place.sources]
    set_place(data, place, source, alone=len(series.places) == 1)
    hounsfield = series.what.quantity == "restored" and data.SOPClassUID == CTImageStorage
    set_values(data, series.encoding, series.window, hounsfield)
    set_lossy(data, series.lossy)
    padded = _padded(place, series.sources) if series.encoding.padding is not None else None
    stored, clipped = encode(series.volume.array[:, :, k], padded, series.encoding)
    data.add_new(
        "PixelData",
        "OW",
        np.ascontiguousarray(stored.T).astype("<i2" if series.encoding.signed else "<u2").tobytes(),
    )
    return data, clipped


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
        raise OutputError(f"{file.name}: the source's header cannot be written again ({error})") from error


def _notes(series: _Series) -> tuple[str, ...]:
    notes = []
    lossy = series.lossy
    if lossy is not None and not (lossy.ratios and lossy.methods):
        notes.append("the source says that it was compressed with loss, but not by what ratio and method")
    return tuple(notes)
