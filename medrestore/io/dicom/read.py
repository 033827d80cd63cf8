"""A folder with a DICOM series to volumes, by the plan of the folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from medrestore.errors import InputError
from medrestore.findings import PADDING_NOT_BELIEVED, RESAMPLED_WHEN_READ, Finding
from medrestore.io.dicom.parse.header import SliceHeader, is_dicom
from medrestore.io.dicom.parse.padding import Belief, believed
from medrestore.io.dicom.parse.pixels import Pixels
from medrestore.io.dicom.parse.rescale import apply_scaling
from medrestore.io.dicom.parse.volume_labels import ACQUIRED_AT, seconds_of_day
from medrestore.io.dicom.plan.copies import check_repeats
from medrestore.io.dicom.plan.grid import resample, step_of
from medrestore.io.dicom.plan.plan import PlannedSeries, PlannedVolume, plan_dicom
from medrestore.io.formats import ScanHeader
from medrestore.io.sampling import Sampling
from medrestore.options import ReadPolicy, ReadRequest
from medrestore.provenance import JSON, History, Source, sha256_file
from medrestore.types import AIR_HU, BoolArray, FloatArray, Modality, RealArray
from medrestore.volume import Volume

__all__ = ["dicom_header", "holds_dicom", "is_dicom", "planned_header", "read_dicom", "reading_findings"]

_MODALITIES = {"MR": Modality.MR, "CT": Modality.CT}


@dataclass(frozen=True)
class _Planned:
    """The series of a header, and the policy that it is read by."""

    series: PlannedSeries
    request: ReadRequest


@dataclass
class _Slices:
    """The voxels of one volume while they are read, (place, row, column), and what the header calls padding.

    Attributes:
        stack: The voxels.
        called: For each place with such voxels, which of its pixels are called padding, a bit for each.
        padded: How many voxels are believed to be padding.
        padding: Smallest and largest value of those, slice by slice.
        kept: How many voxels are not believed to be padding.
    """

    stack: FloatArray
    called: dict[int, npt.NDArray[np.uint8]] = field(default_factory=dict)
    padded: int = 0
    padding: list[float] = field(default_factory=list)
    kept: int = 0

    def call_padding(self, place: int, padded: BoolArray) -> None:
        """Note which pixels of a place are called padding."""
        bits = np.packbits(padded)
        self.called[place] = self.called[place] | bits if place in self.called else bits

    def mask(self, place: int) -> BoolArray:
        """Return which pixels of a place are called padding, (row, column)."""
        image = self.stack[place]
        if place not in self.called:
            return np.zeros(image.shape, dtype=bool)
        return np.unpackbits(self.called[place], count=image.size).astype(bool).reshape(image.shape)


def holds_dicom(path: Path) -> bool:
    """Whether a path is a folder, which is looked through for DICOM files, or a DICOM file."""
    return path.is_dir() or is_dicom(path)


def dicom_header(path: Path, request: ReadRequest) -> ScanHeader:
    """Plan the one series below a folder, or in one file.

    Raises:
        InputError: No series or several, or a damaged file.
        GeometryError: The slices make no regular grid, and the policy does not say what to do.
    """
    return planned_header(path, request, plan_dicom(path, request.policy).choose(request.series))


def planned_header(path: Path, request: ReadRequest, chosen: PlannedSeries) -> ScanHeader:
    """Return the header of a planned series, which is a regular grid or is resampled to one."""
    assert chosen.geometry is not None
    stated = chosen.head.modality or None
    own = _Planned(chosen, request)
    return ScanHeader(path, chosen.geometry, len(chosen.volumes), _modality(chosen), stated, own)


def read_dicom(header: ScanHeader) -> tuple[Volume, ...]:
    """Read the volumes of a series that was planned.

    Voxels are float32, axes (column, row, slice along the normal), rescaled: HU for CT. Padding becomes air
    (-1000 HU, else the smallest value measured).

    Raises:
        InputError: A file is damaged, or cannot be decoded.
    """
    planned: _Planned = header.own
    path, chosen, policy, series = header.path, planned.series, planned.request.policy, planned.request.series
    slices = [_allocate(volume, path) for volume in chosen.volumes]
    digests = _fill(chosen, slices, policy)
    digest = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest() if path.is_dir() else digests[0]
    facts: dict[str, JSON] = {"series": series, "policy": policy.to_json(), "volumes": len(chosen.volumes)}
    volumes = []
    least, most = _ends(slices)
    belief = believed(_modality(chosen), least, most)
    for index, (volume, read) in enumerate(zip(chosen.volumes, slices, strict=True)):
        air = _remove_padding(read, _modality(chosen), belief, least)
        details = {**_details(chosen, volume, policy), **facts, "volume": index}
        details |= _of_padding(read, air, belief)
        if read.kept:
            text = f"{read.kept} voxels of the value that is called padding keep it: it lies among tissue's"
            found = PADDING_NOT_BELIEVED.found(text, voxels=read.kept).as_json()
            details["findings"] = [*cast("list[JSON]", details.get("findings", [])), found]
        source = Source(str(path), "dicom", digest, details)
        volumes.append(_on_grid(chosen, volume, read, source, air))
    return tuple(volumes)


def reading_findings(volume: Volume) -> tuple[Finding, ...]:
    """Return findings about how the scan of a result was read; empty if nothing was unusual."""
    details = {} if volume.source is None else volume.source.details
    entries = details.get("findings", ())
    assert isinstance(entries, tuple)
    found = [Finding.from_json(entry) for entry in entries if isinstance(entry, Mapping)]
    done = details.get("resampled")
    if isinstance(done, Mapping):
        mended = done["mended"]
        named = ", ".join(map(str, mended)) if isinstance(mended, tuple) else ""
        text = f"the scan was resampled when it was read, as it was no regular grid: {named}"
        found.append(RESAMPLED_WHEN_READ.found(text, mended=mended))
    return tuple(found)


def _allocate(volume: PlannedVolume, path: Path) -> _Slices:
    rows, columns = volume.stack.places[0][0].size
    shape = len(volume.stack.places), rows, columns
    try:
        return _Slices(np.zeros(shape, dtype=np.float32))
    except MemoryError as error:
        raise InputError(
            f"{path}: {4 * int(np.prod(shape))} bytes of voxels do not fit into memory"
        ) from error


def _fill(chosen: PlannedSeries, slices: Sequence[_Slices], policy: ReadPolicy) -> list[str]:
    """Decode every file once, put its slices where they belong, and return the hash of each file."""
    files: dict[Path, list[tuple[SliceHeader, int, int]]] = {}
    for index, volume in enumerate(chosen.volumes):
        for place, heads in enumerate(volume.stack.places):
            for head in heads:
                files.setdefault(head.path, []).append((head, index, place))
    digests = []
    shared: dict[tuple[int, int], tuple[SliceHeader, RealArray]] = {}
    with Pixels() as pixels:
        for path, wanted in files.items():
            digests.append(sha256_file(path))
            images = pixels.read([head for head, _, _ in wanted])
            for stored, (head, index, place) in zip(images, wanted, strict=True):
                values, padded = apply_scaling(stored, head.scaling, policy.values)
                # Images that share a place are averaged.
                count = len(chosen.volumes[index].stack.places[place])
                if count > 1:
                    check_repeats(*shared.setdefault((index, place), (head, values)), head, values)
                slices[index].stack[place] += values if count == 1 else values / np.float64(count)
                if padded is not None and padded.any():
                    slices[index].call_padding(place, padded)
    return digests


def _modality(chosen: PlannedSeries) -> Modality:
    return _MODALITIES.get(chosen.head.modality, Modality.UNKNOWN)


def _on_grid(
    chosen: PlannedSeries, volume: PlannedVolume, read: _Slices, source: Source, air: float
) -> Volume:
    """Return the volume on the grid that was planned."""
    layout = chosen.layout
    assert layout is not None
    array: FloatArray = read.stack
    history: History = ()
    if layout.mended:
        array = resample(array, volume.stack, layout, air)
        history = (step_of(volume.stack, layout),)
    units = str(source.details.get("units", chosen.units))
    return Volume(array.transpose(2, 1, 0), layout.geometry, _modality(chosen), units, source, history)


def _ends(slices: Sequence[_Slices]) -> tuple[float, float]:
    """Return the smallest and largest value that is not called padding."""
    least, most = np.inf, -np.inf
    for read in slices:
        for place, image in enumerate(read.stack):
            measured = image[~read.mask(place)] if place in read.called else image
            if measured.size:
                least, most = min(least, float(measured.min())), max(most, float(measured.max()))
    return least, most


def _remove_padding(read: _Slices, modality: Modality, belief: Belief, least: float) -> float:
    """Give padding the value of air, in place; return that value.

    Args:
        read: Voxels as they were read.
        modality: Of the scan.
        belief: Which values can be padding.
        least: Smallest value that was measured.
    """
    masks: dict[int, BoolArray] = {}
    for place in read.called:
        image, called = read.stack[place], read.mask(place)
        masks[place] = belief.of(image, called)
        inside = image[masks[place]]
        read.padded, read.kept = read.padded + inside.size, read.kept + int(called.sum()) - inside.size
        if inside.size:
            read.padding += float(inside.min()), float(inside.max())
    least = least if np.isfinite(least) else 0.0
    air = AIR_HU if modality is Modality.CT else least
    if modality is not Modality.CT and read.padding and 0 <= min(read.padding) <= least:
        # Dark voxels that the header calls padding keep their values.
        air = min(read.padding)
    for place, mask in masks.items():
        read.stack[place][mask] = air
    return air


def _of_padding(read: _Slices, air: float, belief: Belief) -> dict[str, JSON]:
    """Return the details that tell what was taken for padding, and what can be."""
    facts: dict[str, JSON] = {}
    if read.called:
        facts["padding_beyond"] = [belief.low, belief.high]
    if read.padded:
        ends = [min(read.padding), max(read.padding)]
        facts["padding"] = {"voxels": read.padded, "values": ends, "became": air}
    return facts


def _details(chosen: PlannedSeries, volume: PlannedVolume, policy: ReadPolicy) -> dict[str, JSON]:
    """Return the details that writers need; DICOM positions are in scanner coordinates."""
    heads = volume.stack.heads
    facts: dict[str, JSON] = {"slices": len(heads), "sform_code": 1, "qform_code": 1}
    linear = {head.scaling.chosen(policy.values) for head in heads}
    types = {head.dtype.name for head in heads}
    tables = policy.values == "rescaled" and any(head.scaling.table for head in heads)
    (first, *others) = linear
    if others or len(types) > 1 or tables or first is None:
        # Slices with scales of their own (PET, some MR) have no common integer type.
        facts |= {"dtype": "float32", "slope": 1.0, "inter": 0.0}
    else:
        facts |= {"dtype": next(iter(types)), "slope": first.slope, "inter": first.inter}
    if policy.values == "real-world" and first is not None and first.units:
        facts["units"] = first.units
    widths = {head.thickness for head in heads}
    if len(widths) == 1 and None not in widths:
        facts["SliceThickness"] = widths.pop()  # which the engine looks for by this name
    sampled = {head.sampling for head in heads}
    if len(sampled) == 1 and sampled != {Sampling()}:
        rows, columns = heads[0].size
        facts["sampling"] = replace(sampled.pop(), voxels=(columns, rows, None)).as_json()
    if volume.label:
        facts["label"] = _label(chosen, volume)
    if chosen.layout is not None and chosen.layout.mended:
        facts["resampled"] = step_of(volume.stack, chosen.layout).params
    if chosen.notes:
        facts["findings"] = [finding.as_json() for finding in chosen.notes]
    if _modality(chosen) is Modality.UNKNOWN:
        facts["Modality"] = chosen.head.modality
    return facts


def _label(chosen: PlannedSeries, volume: PlannedVolume) -> dict[str, JSON]:
    """Return the label that tells a volume from the others; times of day as differences."""
    label: dict[str, JSON] = {name: value for name, value in volume.label if name != "file"}
    clock = label.pop(ACQUIRED_AT, None)
    if isinstance(clock, float):
        first = dict(chosen.volumes[0].label)[ACQUIRED_AT]
        start = seconds_of_day(first) if isinstance(first, float) else 0.0
        label["seconds after the first"] = round((seconds_of_day(clock) - start) % 86400, 4)
    return label
