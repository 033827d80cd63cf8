"""Small pictures of slices: PNG files as bytes, written here so that nothing has to be installed for it."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from medrestore.report.markup import Markup, tag
from medrestore.types import FloatArray, RealArray

Window = tuple[float, float]
"""What is shown as the first and as the last colour, in units of the voxels."""

DIVERGING = ((33, 102, 172), (246, 246, 246), (178, 24, 43))
"""Blue below 0, near white at 0, red above: for residuals."""


def residual_palette() -> bytes:
    """Return 256 RGB triples along `DIVERGING`."""
    stops = np.linspace(0, 1, 256)
    channels = [np.interp(stops, (0, 0.5, 1), [colour[n] for colour in DIVERGING]) for n in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8).tobytes()


def png(picture: FloatArray, window: Window, levels: int = 256, palette: bytes = b"") -> bytes:
    """Return a PNG file.

    Args:
        picture: (rows, columns) values.
        window: Values of black and white, or of the first and the last colour.
        levels: Shades in all; fewer make a smaller file.
        palette: 256 RGB triples; empty means grey.
    """
    low, high = window
    scaled = np.clip((np.nan_to_num(picture) - low) / max(high - low, 1e-12), 0, 1)
    shades = np.rint(np.rint(scaled * (levels - 1)) * (255 / (levels - 1))).astype(np.uint8)
    rows, columns = shades.shape
    lines = np.hstack([np.zeros((rows, 1), np.uint8), shades])
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3 if palette else 0, 0, 0, 0)
    chunks = [_chunk(b"IHDR", header), _chunk(b"PLTE", palette) if palette else b""]
    chunks += [_chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def thinned(picture: FloatArray, size: int) -> FloatArray:
    """Return means over blocks, so that neither side is longer than `size`."""
    for axis in (0, 1):
        step = -(-picture.shape[axis] // size)
        starts = np.arange(0, picture.shape[axis], step)
        counts = np.diff([*starts, picture.shape[axis]])
        sums = np.add.reduceat(picture, starts, axis)
        picture = (sums / (counts[:, None] if axis == 0 else counts)).astype(np.float32)
    return picture


def centre(picture: RealArray, size: int) -> RealArray:
    """Return the middle of the picture, at most `size` long on either side."""
    rows, columns = (slice(max(0, (n - size) // 2), max(0, (n - size) // 2) + size) for n in picture.shape)
    return picture[rows, columns]


def image(data: bytes, width: int, height: int, text: str) -> Markup:
    """Return an HTML image that holds the PNG file itself, `text` for those who do not see it."""
    source = f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
    return tag("img", src=source, width=width, height=height, alt=text, title=text, loading="lazy")
