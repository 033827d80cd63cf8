"""Decodes the pixels of DICOM files; run as a process of its own for files that need a codec.

As ``python -m medrestore.io.dicom.parse.decoder`` it answers requests, a line of JSON each, on standard
input: ``{"path": ..., "frames": [0, 3], "memory": bytes}``. An answer is a line of JSON,
``{"frames": [[type, rows, columns], ...]}`` and then the pixels of these frames, or ``{"error": ...}``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import FileDataset
from pydicom.encaps import get_frame
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
)

from medrestore.errors import reason_of
from medrestore.io.dicom.parse.files import READ_ERRORS, opened

_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)
# Address space of Python, numpy and the codecs themselves.
_OWN_MEMORY = 3 << 30


def decode(path: Path, frames: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
    """Yield the stored values of frames of a file, (row, column), as its codec gives them.

    Raises:
        READ_ERRORS: The file is damaged, or compressed in a way that no installed codec can undo.
    """
    with opened(path) as stream:
        data = pydicom.dcmread(stream, force=True)
    if "TransferSyntaxUID" not in data.file_meta:
        implicit = data.original_encoding[0]
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    if data.file_meta.TransferSyntaxUID in _JPEG:
        yield from _jpeg(data, frames)
    elif int(data.get("NumberOfFrames") or 1) == 1:
        yield np.asarray(data.pixel_array)
    else:
        yield from iter_pixels(data, indices=list(frames), raw=True)


def _jpeg(data: FileDataset, frames: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
    """Decode JPEG of every process with libjpeg-turbo: pydicom's own plugin for lossless JPEG is GPL."""
    from imagecodecs import jpeg8_decode  # noqa: PLC0415  # a compiled library, needed by few files

    count = int(data.get("NumberOfFrames") or 1)
    signed = bool(data.PixelRepresentation)
    for number in frames:
        pixels = np.asarray(jpeg8_decode(get_frame(data.PixelData, number, number_of_frames=count)))
        if pixels.dtype.itemsize * 8 < int(data.BitsAllocated):
            pixels = pixels.astype(f"u{int(data.BitsAllocated) // 8}")
        yield pixels.view(f"i{pixels.dtype.itemsize}") if signed else pixels


def _limit_memory(size: int) -> None:
    try:
        import resource  # noqa: PLC0415  # POSIX alone has it
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = _OWN_MEMORY + size
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))


def _answer(request: dict[str, Any], out: BinaryIO) -> None:
    try:
        _limit_memory(int(request["memory"]))
        frames = list(decode(Path(request["path"]), request["frames"]))
    except READ_ERRORS as error:
        out.write(json.dumps({"error": reason_of(error)}).encode() + b"\n")
    else:
        kinds = [[frame.dtype.newbyteorder("<").str, *frame.shape] for frame in frames]
        out.write(json.dumps({"frames": kinds}).encode() + b"\n")
        for frame in frames:
            out.write(np.ascontiguousarray(frame.astype(frame.dtype.newbyteorder("<"), copy=False)).data)
    out.flush()


def main() -> None:
    """Answer requests until standard input ends."""
    out = sys.stdout.buffer
    # A library that prints must not be taken for an answer.
    sys.stdout = sys.stderr
    for line in sys.stdin:
        _answer(json.loads(line), out)


if __name__ == "__main__":
    main()
