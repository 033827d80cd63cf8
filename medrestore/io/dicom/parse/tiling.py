"""Pictures that slices of a volume are tiled into: mosaics of Siemens, and frames of United Imaging (UIH).

Whether a picture is tiled is told by what the scanner states of its slices and by its size, not by one word.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from medrestore.errors import InputError
from medrestore.io.dicom.parse.elements import Elements, Get
from medrestore.io.dicom.parse.frames import frame_count
from medrestore.io.dicom.parse.volume_labels import image_type_of
from medrestore.types import Float64Array

_SIEMENS_CREATOR, _SIEMENS_COUNT = 0x00190010, 0x0019100A
_UIH_CREATOR, _UIH_FRAMES = 0x00650010, 0x00651051
TILING_TAGS = [
    *(0x00290000 + block for block in (0x10, 0x11, 0x12, 0x1010, 0x1110, 0x1210)),
    *(_SIEMENS_CREATOR, _SIEMENS_COUNT, _UIH_CREATOR, _UIH_FRAMES),
]
"""Where makers state how slices are tiled; first Siemens' own header, called CSA: creators and blocks."""

TILED_WORDS = frozenset({"MOSAIC", "VFRAME"})
"""Words of the image type for pictures of tiles, of Siemens and of United Imaging."""

# Cosine of the largest angle between the normal that Siemens states and the normal of rows and columns.
_ALONG = 0.9999
# No scanner of MR has a field of view as wide as this in both directions, mm.
_WIDEST_FIELD = 600.0


class TiledError(InputError):
    """A picture of tiles that its header does not say for certain how to unfold."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """How slices are tiled, row by row.

    Attributes:
        across: Tiles along a row of the picture.
        down: Tiles along a column of it.
        positions: Centre of the first pixel of every slice, (slice, 3), LPS mm.
    """

    across: int
    down: int
    positions: Float64Array


def says_tiled(get: Get) -> bool:
    """Whether the image type has a word that makers give to pictures of tiles."""
    return not TILED_WORDS.isdisjoint(image_type_of(get))


def read_tiles(data: Dataset, get: Elements, where: str) -> Tiles | None:
    """Return how slices are tiled into a picture; None where it is one slice, or a file of several frames.

    Args:
        data: The header.
        get: Looks its attributes up.
        where: What messages call the file.

    Raises:
        TiledError: Slices are tiled, and the header is not certain about how.
    """
    if get("PerFrameFunctionalGroupsSequence") or frame_count(get) > 1:
        return None
    if items := _of_uih(get):
        return _tiles_of_uih(items, get, where)
    csa = _csa_header(data)
    count = _count(csa, get)
    if count < 2:
        _check_plain(get, where)
        return None
    if _is_one_tile(get, math.ceil(math.sqrt(count))):
        return None
    tiles = _tiles_of_siemens(csa, get, count)
    if tiles is None:
        raise TiledError(f"{where}: {_UNCERTAIN}")
    return tiles


_UNCERTAIN = (
    "a mosaic, many slices tiled into one picture, and its header does not say for certain how; convert it "
    "with dcm2niix first"
)
_UNCERTAIN_OF_UIH = (
    "slices tiled into one picture as United Imaging does (VFRAME), and its header does not say for certain "
    "how; export it again as a file for each slice"
)


def _check_plain(get: Get, where: str) -> None:
    """Refuse pictures that must be tiled, though nothing states the number of tiles."""
    rows, columns = int(get("Rows")), int(get("Columns"))
    if says_tiled(get):
        acquired = max(_numbers(get("AcquisitionMatrix")), default=0.0)
        # Two tiles along each side are the fewest, and each of them has the acquired matrix at least.
        if acquired <= max(rows, columns) / 2:
            uih = "VFRAME" in image_type_of(get)
            raise TiledError(f"{where}: {_UNCERTAIN_OF_UIH if uih else _UNCERTAIN}")
    spacing = _numbers(get("PixelSpacing"))
    if get("Modality") != "MR" or len(spacing) != 2:
        return
    field = rows * spacing[0], columns * spacing[1]
    if min(field) > _WIDEST_FIELD:
        raise TiledError(
            f"{where}: a picture of {field[0]:.0f} x {field[1]:.0f} mm, wider than any scanner's field of "
            f"view: {_UNCERTAIN}"
        )


def _is_one_tile(get: Get, side: int) -> bool:
    """Whether a picture is a tile that was cut out already: as large as the matrix that was acquired."""
    acquired = max(_numbers(get("AcquisitionMatrix")), default=0.0)
    return not says_tiled(get) and max(int(get("Rows")), int(get("Columns"))) / side < acquired / 2


def _csa_header(data: Dataset) -> dict[str, Any] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel warns that csareader is experimental; it is tested here
        from nibabel.nicom import csareader  # noqa: PLC0415  # nibabel costs more than a plan
    if not any(0x00290000 + block in data for block in (0x10, 0x11, 0x12)):
        return None
    try:
        header: dict[str, Any] | None = csareader.get_csa_header(data)
    except Exception:  # noqa: BLE001  # a damaged private header is none
        return None
    return header


def _count(csa: dict[str, Any] | None, get: Get) -> int:
    """Return how many slices Siemens says that a picture has; 0 where nothing says it."""
    stated = _numbers(_of_csa(csa, "NumberOfImagesInMosaic"))
    if not stated and str(get(_SIEMENS_CREATOR) or "").upper().startswith("SIEMENS"):
        stated = _numbers(get(_SIEMENS_COUNT))
    return int(stated[0]) if len(stated) == 1 and 0 < stated[0] < 1 << 16 else 0


def _of_csa(csa: dict[str, Any] | None, name: str) -> Any:
    element = (csa or {}).get("tags", {}).get(name)
    return None if element is None else element.get("items")


def _tiles_of_siemens(csa: dict[str, Any] | None, get: Get, count: int) -> Tiles | None:
    """Return the tiles of a mosaic: they follow each other along the normal that Siemens states.

    That normal may run against the one of rows and columns: in sagittal slices, and where the protocol
    numbers slices in reverse. Position and orientation are those of a picture that has the middle of the
    first slice in its middle.
    """
    normal = np.asarray(_numbers(_of_csa(csa, "SliceNormalVector")))
    distance = sum(_numbers(get("SpacingBetweenSlices"))[:1])
    position, axes, spacing = (
        np.asarray(_numbers(get(name)))
        for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    )
    side = math.ceil(math.sqrt(count))
    sizes = normal.size, position.size, axes.size, spacing.size
    rows, columns = int(get("Rows")), int(get("Columns"))
    if sizes != (3, 3, 6, 2) or distance <= 0 or rows % side or columns % side:
        return None
    row, column = axes.reshape(2, 3)
    along = float(np.cross(row, column) @ normal)
    if abs(along) < _ALONG:
        return None
    beyond = (rows - rows // side) / 2 * spacing[0], (columns - columns // side) / 2 * spacing[1]
    first = position + column * beyond[0] + row * beyond[1]
    step = np.cross(row, column) * math.copysign(distance, along)
    return Tiles(side, side, np.asarray(first + np.arange(count)[:, np.newaxis] * step))


def _of_uih(get: Get) -> Any:
    """Return the items in which United Imaging states the place of each tile; None where there are none."""
    if str(get(_UIH_CREATOR) or "").strip() != "Image Private Header":
        return None
    items = get(_UIH_FRAMES)
    return None if isinstance(items, (bytes, str)) or not items else items


def place_of_tiles(data: Dataset, get: Elements, where: str) -> Elements:
    """Return a lookup that knows the place of the first tile, which some pictures state for tiles alone."""
    items = _of_uih(get)
    if not items:
        return get
    place = Dataset()
    place.ImagePositionPatient = items[0].get("ImagePositionPatient")
    return Elements(where, [place, data], get.odd)


def _tiles_of_uih(items: Sequence[Dataset], get: Get, where: str) -> Tiles:
    positions = [_numbers(item.get("ImagePositionPatient")) for item in items]
    across = math.ceil(math.sqrt(len(items)))
    down = math.ceil(len(items) / across)
    fits = int(get("Rows")) % down == 0 and int(get("Columns")) % across == 0
    if not fits or any(len(position) != 3 for position in positions):
        raise TiledError(f"{where}: {_UNCERTAIN_OF_UIH}")
    return Tiles(across, down, np.asarray(positions))


def _numbers(value: Any) -> list[float]:
    """Return the numbers of an element; none where it holds anything else."""
    if value is None or isinstance(value, (str, bytes)):
        return []
    try:
        numbers = [float(item) for item in np.atleast_1d(np.asarray(value, dtype=object))]
    except (TypeError, ValueError):
        return []
    return numbers if np.isfinite(numbers).all() else []
