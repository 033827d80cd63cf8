"""What the worker keeps of a case for its report: small volumes and pictures of their middle slices."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np

from medrestore.errors import InputError
from medrestore.io.atomic import atomic_write
from medrestore.options import MAPS
from medrestore.picture import PLANES, grey_window, percentiles, plane, png
from medrestore.report import pictures
from medrestore.report.sampling import Reduced, factors_for, reduced
from medrestore.types import FloatArray, RealArray
from medrestore.volume import Volume

FIRST = ("before", "after", "residual")
"""What every case has volumes and pictures of, as far as there can be."""

NAMES = (*FIRST, *MAPS)
"""What there may be volumes and pictures of."""

BUDGET = 3_600_000
"""Bytes of all volumes together: a page of 8 MB less the viewer (2.3 MB), the pictures (up to 0.8 MB)
and a third on top for base64."""

CROP = 256
"""Longest side of a picture at the scan's own resolution, in voxels."""

THUMBNAIL = 80
"""Longest side of a picture in the table of cases, in pixels."""

# Steps in the range that most voxels lie in: finer than a screen shows, coarse enough to compress.
_SAMPLED = 8  # every so many slices, to guess what all of them take
_STEPS = {"before": 1024, "after": 1024, "lower": 1024, "upper": 1024}
_FEW_STEPS = 256


@dataclass(frozen=True)
class Facts:
    """How volumes and pictures were made, and how to show them.

    Attributes:
        units: Units of the voxels.
        window: Values that are black and white before and after.
        residual: The residual is shown from minus to plus this value: in the volume, and in the pictures.
        factors: Voxels averaged into one along each axis, by volume.
        spacing_mm: Voxel size after that, by volume.
        pixels_mm: Height and width of a pixel, by name and plane (``"before axial"``).
        extent_mm: Height and width of the whole slice, likewise.
        thumbnail: The plane of the thumbnails.
        shares_grid: Before and after lie on one grid, so that the viewer can subtract them.
        maps: Values that a map is shown between, by its name; None where these are black and white of before.
    """

    units: str
    window: tuple[float, float]
    residual: tuple[float, float]
    factors: Mapping[str, list[int]]
    spacing_mm: Mapping[str, list[float]]
    pixels_mm: Mapping[str, list[float]]
    extent_mm: Mapping[str, list[float]]
    thumbnail: str
    shares_grid: bool
    maps: Mapping[str, list[float] | None] = field(default_factory=dict)

    def ends(self, name: str) -> tuple[float, float]:
        """Return the values that pictures of a name are shown between."""
        if name == "residual":
            return -self.residual[1], self.residual[1]
        low, high = self.maps.get(name) or self.window
        return low, high

    def is_signed(self, name: str) -> bool:
        """Whether a name is shown from blue over white to red."""
        return name in {"residual", "null"}


class Preview:
    """What `preview` wrote, read a part at a time: the table of cases needs no volumes.

    Attributes:
        facts: How it was made.

    Raises:
        InputError: The file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as archive:
                self._names = archive.files
            self._path = path
            self.facts = Facts(**json.loads(self._read("facts")))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: holds no pictures of a case ({error}); run the case again") from error

    def _read(self, name: str) -> bytes:
        with np.load(self._path, allow_pickle=False) as archive:
            return cast(bytes, archive[name].tobytes())

    def _get(self, name: str) -> bytes | None:
        return self._read(name) if name in self._names else None

    def has_pane(self, name: str) -> bool:
        """Whether the viewer has something to show: a volume, or two to subtract."""
        return f"volume {name}" in self._names or (name == "residual" and self.facts.shares_grid)

    def volume(self, name: str) -> bytes | None:
        """Return a gzipped NIfTI file of one of `NAMES`, if there is one."""
        return self._get(f"volume {name}")

    def plane(self, name: str, across: str) -> bytes | None:
        """Return a PNG file of a middle slice at the scan's own resolution."""
        return self._get(f"plane {name} {across}")

    def thumbnail(self, name: str) -> bytes | None:
        """Return a small PNG file."""
        return self._get(f"thumbnail {name}")


def preview(
    before: Volume,
    after: Volume,
    residual: Volume | None,
    path: Path,
    maps: Mapping[str, Volume] | None = None,
) -> None:
    """Write what the report shows of a case: at most 5 MB, however large the scan is.

    Args:
        before: The scan.
        after: The result; it may lie on a finer grid.
        residual: Before minus after, needed only where the two do not share a grid.
        path: The file to write, ending in ``.npz``; one that is there is replaced.
        maps: Volumes that go with the result, by name; see `Restoration.maps`.

    Raises:
        OutputError: The file cannot be written.
    """
    volumes = {"before": before, "after": after}
    shares_grid = before.geometry.allclose(after.geometry)
    if residual is not None and not shares_grid:
        volumes["residual"] = residual
    volumes |= {name: maps[name] for name in MAPS if name in maps} if maps else {}
    small, files = _small_volumes(volumes)
    planes, pixels = _planes(volumes, shares_grid)
    extents = {
        f"{name} {across}": [n * size for n, size in zip(item.shape, pixels[f"{name} {across}"], strict=True)]
        for (name, across), item in planes.items()
    }
    facts = Facts(
        units=before.units,
        window=grey_window(small["before"].array, before.modality),
        residual=(
            _limit(_residuals(small, shares_grid)),
            _limit(item for (name, _), item in planes.items() if name == "residual"),
        ),
        factors={name: list(item.factors) for name, item in small.items()},
        spacing_mm={name: list(item.geometry.spacing) for name, item in small.items()},
        pixels_mm=pixels,
        extent_mm=extents,
        thumbnail=_telling_plane(before, shares_grid),
        shares_grid=shares_grid,
        maps={name: _map_ends(name, item.array) for name, item in small.items() if name in MAPS},
    )
    files |= _pictures(planes, facts)
    files["facts"] = json.dumps(asdict(facts)).encode()
    with atomic_write(path, overwrite=True) as temporary, temporary.open("wb") as file:
        contents: dict[str, Any] = {name: np.frombuffer(data, np.uint8) for name, data in files.items()}
        np.savez(file, **contents)


def _small_volumes(volumes: Mapping[str, Volume]) -> tuple[dict[str, Reduced], dict[str, bytes]]:
    """Average until the compressed files together keep to `BUDGET`, which only trying tells."""
    voxels = 6 * BUDGET // 10
    while True:
        small = {name: reduced(item, factors_for(item.geometry, voxels)) for name, item in volumes.items()}
        stored = {name: _stored(item, _STEPS.get(name, _FEW_STEPS)) for name, item in small.items()}
        size = sum(_compressed_size(array) for array, _, _ in stored.values())
        if size <= BUDGET:
            files = {f"volume {name}": _nifti(item, *stored[name]) for name, item in small.items()}
            size = sum(map(len, files.values()))
            if size <= BUDGET:
                return small, files
        voxels = int(0.95 * voxels * BUDGET / size)


def _residuals(small: Mapping[str, Reduced], shares_grid: bool) -> list[FloatArray]:
    """Return what the viewer subtracts itself: the mean of differences is the difference of the means."""
    if shares_grid:
        return [small["before"].array - small["after"].array]
    return [item.array for name, item in small.items() if name == "residual"]


def _stored(item: Reduced, steps: int) -> tuple[RealArray, float, float]:
    """Return int16 voxels, and what makes values of them: the step and the middle."""
    low, high = percentiles(item.array, 0.1, 99.9)
    step = (high - low) / steps or float(np.abs(item.array).max()) / steps or 1.0
    middle = (high + low) / 2
    scaled = (item.array - np.float32(middle)) / np.float32(step)
    return np.clip(np.rint(scaled, out=scaled), -32767, 32767, out=scaled).astype(np.int16), step, middle


def _compressed_size(stored: RealArray) -> int:
    """Guess from a few slices: trying everything only to find it too much takes longest of all."""
    slow = int(np.argmax(np.abs(stored.strides)))
    slices = np.moveaxis(stored, slow, 0)
    few = slices[min(_SAMPLED, len(slices)) // 2 :: _SAMPLED]
    return len(_packed(few.tobytes())) * len(slices) // len(few)


def _packed(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def _nifti(item: Reduced, stored: RealArray, step: float, middle: float) -> bytes:
    """Return a gzipped NIfTI file, without a word on where it comes from."""
    image = nib.Nifti1Image(stored, item.geometry.affine)
    image.header.set_slope_inter(step, middle)
    image.header.set_xyzt_units("mm")
    return _packed(image.to_bytes())


def _planes(
    volumes: Mapping[str, Volume], shares_grid: bool
) -> tuple[dict[tuple[str, str], FloatArray], dict[str, list[float]]]:
    """Return slices through the middle of the result, and the size of their pixels, at full resolution."""
    grid = volumes["after"].geometry
    middle = grid.world((np.asarray(grid.shape) - 1) / 2)
    planes: dict[tuple[str, str], FloatArray] = {}
    pixels: dict[str, list[float]] = {}
    for across in PLANES:
        for name, volume in volumes.items():
            planes[name, across], size = plane(volume.array, volume.geometry, across, middle)
            pixels[f"{name} {across}"] = list(size)
        if ("residual", across) not in planes and shares_grid:
            planes["residual", across] = planes["before", across] - planes["after", across]
            pixels[f"residual {across}"] = pixels[f"before {across}"]
    return planes, pixels


def _pictures(planes: Mapping[tuple[str, str], FloatArray], facts: Facts) -> dict[str, bytes]:
    files = {}
    for (name, across), values in planes.items():
        window, palette = facts.ends(name), pictures.residual_palette() if facts.is_signed(name) else b""
        files[f"plane {name} {across}"] = png(pictures.centre(values, CROP), window, 256, palette)
        if across == facts.thumbnail and name in FIRST:
            files[f"thumbnail {name}"] = png(pictures.thinned(values, THUMBNAIL), window, 64, palette)
    return files


def _map_ends(name: str, array: FloatArray) -> list[float] | None:
    """Return the values that a map is shown between; None where it shows what the scan shows."""
    if name in {"lower", "upper"}:
        return None
    limit = _limit([array])
    return [-limit if name == "null" else 0.0, limit]


def _limit(values: Iterable[RealArray]) -> float:
    """Return what nearly no voxel of a residual exceeds; 1 where there is nothing to see."""
    return max((percentiles(np.abs(item), 99.5)[0] for item in values), default=1.0) or 1.0


def _telling_plane(volume: Volume, shares_grid: bool) -> str:
    """Return the plane across the longest side of a voxel, axial where they are cubes.

    Where the result has other voxels it is a plane along that side, in which the finer voxels show.
    """
    sizes = np.abs(volume.geometry.direction * volume.geometry.spacing).max(axis=1)
    long = {name: round(float(sizes[axis]), 3) for name, axis in PLANES.items()}
    if shares_grid:
        return max(PLANES, key=lambda name: (long[name], name == "axial"))
    return min(PLANES, key=lambda name: (long[name], name != "coronal"))
