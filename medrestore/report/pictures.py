"""What the report does to pictures of slices: colours, sizes, and HTML that holds them."""

from __future__ import annotations

import base64

import numpy as np

from medrestore.report.markup import Markup, tag
from medrestore.types import FloatArray, RealArray

DIVERGING = ((33, 102, 172), (246, 246, 246), (178, 24, 43))
"""Blue below 0, near white at 0, red above: for residuals."""


def residual_palette() -> bytes:
    """Return 256 RGB triples along `DIVERGING`."""
    stops = np.linspace(0, 1, 256)
    channels = [np.interp(stops, (0, 0.5, 1), [colour[n] for colour in DIVERGING]) for n in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8).tobytes()


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
    """Return an HTML image that holds the PNG file itself, `text` for people who do not see it."""
    source = f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
    return tag("img", src=source, width=width, height=height, alt=text, title=text, loading="lazy")
