"""Pictures of slices: PNG files as bytes, made here, so that nothing has to be installed for it."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from medrestore.geometry import Geometry
from medrestore.types import FloatArray, Modality, RealArray

Window = tuple[float, float]
"""What is shown as the first and as the last colour, in units of the voxels."""

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""The axis across each plane, once the array runs right, anterior, superior."""

# Noise in CT is judged in the window of soft tissue.
_CT_WINDOW = (-160.0, 240.0)
_LOOKED_AT = 200_000  # voxels, for percentiles
_SIDE = 256  # pixels along the longest side of three slices, and between them
_GAP = 4


def png(picture: FloatArray, window: Window, levels: int = 256, palette: bytes = b"") -> bytes:
    """Return a PNG file.

    Args:
        picture: (rows, columns) values.
        window: Values of black and white, or of the first and the last colour.
        levels: Shades in all; fewer make a smaller file.
        palette: 256 RGB triples; empty means grey.
    """
    low, high = window
    scaled = np.clip((np.nan_to_num(picture) - low) / ((high - low) or 1.0), 0, 1)
    shades = np.rint(np.rint(scaled * (levels - 1)) * (255 / (levels - 1))).astype(np.uint8)
    rows, columns = shades.shape
    lines = np.hstack([np.zeros((rows, 1), np.uint8), shades])
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3 if palette else 0, 0, 0, 0)
    chunks = [_chunk(b"IHDR", header), _chunk(b"PLTE", palette) if palette else b""]
    chunks += [_chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def percentiles(values: RealArray, *shares: float) -> list[float]:
    """Return percentiles of about 200,000 values, which is as good for a window."""
    every = max(values.size // _LOOKED_AT, 1)
    some = values.ravel("K")[::every]
    some = some.astype(np.result_type(some, np.float32), copy=False)
    return [float(value) for value in np.percentile(some, shares)]


def grey_window(array: RealArray, modality: Modality) -> Window:
    """Return the values of black and white: soft tissue in CT, else nearly all values and, if near, zero."""
    if modality is Modality.CT:
        return _CT_WINDOW
    low, high = percentiles(array, 0.5, 99.8)
    return min(low, 0.0) if low < 0.1 * high else low, high


def plane(
    array: RealArray, geometry: Geometry, name: str, point: RealArray
) -> tuple[FloatArray, tuple[float, float]]:
    """Return the slice through `point`, as radiologists hang it but with the patient's left on the left.

    Args:
        array: (X, Y, Z) voxels of any orientation; the array axis nearest to each axis of the patient is
            taken for it.
        geometry: Their grid.
        name: One of `PLANES`.
        point: RAS+ mm; outside of the volume, the nearest slice is taken.

    Returns:
        Rows and columns, superior or anterior at the top, left or anterior at the left (neurological
        convention, as in the viewer); and the voxel size down and across, in mm.
    """
    from nibabel.orientations import apply_orientation, io_orientation

    axis = PLANES[name]
    affine = geometry.affine
    orientation = io_orientation(affine)
    index = np.rint(np.linalg.solve(affine[:3, :3], np.asarray(point) - affine[:3, 3])).astype(int)
    across = int(np.flatnonzero(orientation[:, 0] == axis)[0])
    here = int(np.clip(index[across], 0, geometry.shape[across] - 1))
    keep = tuple(slice(here, here + 1) if n == across else slice(None) for n in range(3))
    slab = apply_orientation(np.asarray(array[keep], np.float32), orientation)
    sizes = [geometry.spacing[int(np.flatnonzero(orientation[:, 0] == n)[0])] for n in range(3)]
    left = [n for n in range(3) if n != axis]
    return np.flipud(np.squeeze(slab, axis).T), (sizes[left[1]], sizes[left[0]])


def middle_slices(array: RealArray, geometry: Geometry, modality: Modality) -> bytes:
    """Return a PNG file of the three slices through the middle of a scan, side by side and to scale.

    Args:
        array: (X, Y, Z) voxels.
        geometry: Their grid.
        modality: Decides on the window.
    """
    middle = geometry.world((np.asarray(geometry.shape) - 1) / 2)
    planes = [plane(array, geometry, name, middle) for name in PLANES]
    extents = [np.multiply(item.shape, sizes) for item, sizes in planes]
    scale = _SIDE / max(extent.max() for extent in extents)
    window = grey_window(array, modality)
    shown = [_resized(item, extent * scale) for (item, _), extent in zip(planes, extents, strict=True)]
    height = max(item.shape[0] for item in shown)
    framed = [
        np.pad(item, (_around(height - item.shape[0]), (0, _GAP)), constant_values=window[0])
        for item in shown
    ]
    return png(np.hstack(framed)[:, :-_GAP], window)


def _resized(picture: FloatArray, pixels: RealArray) -> FloatArray:
    """Return the picture in about so many pixels down and across, each the voxel that it lies in."""
    for axis, size in enumerate(picture.shape):
        count = max(round(float(pixels[axis])), 1)
        picture = picture.take(((np.arange(count) + 0.5) * (size / count)).astype(int), axis)
    return picture


def _around(missing: int) -> tuple[int, int]:
    return missing // 2, missing - missing // 2
