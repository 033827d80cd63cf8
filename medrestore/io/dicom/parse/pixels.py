"""Stored pixels of slices: plain pixels are read here, compressed ones in a process of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from medrestore.errors import InputError, reason_of
from medrestore.io.dicom.parse.decoder import decode
from medrestore.io.dicom.parse.files import READ_ERRORS, quietly
from medrestore.io.dicom.parse.header import SliceHeader

TIMEOUT_SECONDS = 120.0
"""How long one file may take to decode."""

# A codec holds a frame a few times over.
_MEMORY_SHARE = 8


class Pixels:
    """Reads the stored values of slices; a context, as it may start a process.

    Codecs are large programs in C that have crashed on damaged files: one process decodes all files of a
    series, and if that process dies or hangs, the file is in error and the run goes on.
    """

    def __init__(self, timeout: float = TIMEOUT_SECONDS) -> None:
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Pixels:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._stop()

    def read(self, heads: Sequence[SliceHeader]) -> list[npt.NDArray[Any]]:
        """Return the stored values, (row, column), of slices that are in one file.

        Raises:
            InputError: The values cannot be decoded, or are not what the header declares.
        """
        path = heads[0].path
        tiled = heads[0].tiles * heads[0].tiles_down > 1
        frames = [0] if tiled else [head.frame for head in heads]
        if heads[0].compressed:
            images = self._ask(heads[0], frames)
        else:
            try:
                with quietly():
                    images = list(decode(path, frames))
            except READ_ERRORS as error:
                raise _undecodable(heads[0], error) from error
        if tiled:
            images = [_tile(images[0], head) for head in heads]
        return [_checked(image, head) for image, head in zip(images, heads, strict=True)]

    def _ask(self, head: SliceHeader, frames: Sequence[int]) -> list[npt.NDArray[Any]]:
        """Have frames decoded by the other process."""
        if self._process is None:
            self._process = _start()
        process = self._process
        pixels = head.size[0] * head.size[1] * head.dtype.itemsize * head.tiles * head.tiles_down
        memory = pixels * (_MEMORY_SHARE + len(frames)) + 3 * head.path.stat().st_size
        request = {"path": str(head.path.resolve()), "frames": frames, "memory": memory}
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            process.kill()

        timer = threading.Timer(self._timeout, expire)
        timer.start()
        try:
            stdin, stdout = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
            answer = json.loads(stdout.readline())
            images = [_received(stdout, *kind) for kind in answer.get("frames", ())]
        except (OSError, ValueError) as error:
            # The pipe broke, or ended within an answer: the process is dead.
            self._stop()
            what = (
                f"took longer than {self._timeout:g} s and was ended"
                if expired.is_set()
                else f"died ({_fate(process.returncode)})"
            )
            raise InputError(
                f"{head.path}: the decoder of {head.syntax.name} {what}; the file is damaged, get it again"
            ) from error
        finally:
            timer.cancel()
        if "error" in answer:
            raise _undecodable(head, answer["error"])
        return images

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()
        self._process = None


def _start() -> subprocess.Popen[bytes]:
    # One thread each: a pool of them takes more address space than the memory that is allowed.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    # The folder of this very package, should it run from a source tree.
    root = str(Path(__file__).resolve().parents[4])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [sys.executable, "-m", "medrestore.io.dicom.parse.decoder"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )


def _received(stream: BinaryIO, kind: str, *shape: int) -> npt.NDArray[Any]:
    dtype = np.dtype(kind)
    size = int(np.prod(shape)) * dtype.itemsize
    content = stream.read(size)
    if len(content) < size:
        raise ValueError(f"{len(content)} of {size} bytes")
    return np.frombuffer(bytearray(content), dtype).reshape(shape)


def _fate(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _tile(picture: npt.NDArray[Any], head: SliceHeader) -> npt.NDArray[Any]:
    """Return a tile of a picture; tiles are counted along the rows."""
    whole = head.size[0] * head.tiles_down, head.size[1] * head.tiles
    if picture.shape != whole:
        raise InputError(f"{head.path}: {picture.shape} pixels decoded, the header declares {whole}")
    (rows, columns), (down, across) = head.size, divmod(head.frame, head.tiles)
    return picture[down * rows :, across * columns :][:rows, :columns]


def _undecodable(head: SliceHeader, error: BaseException | str) -> InputError:
    syntax = head.syntax.name if head.syntax.is_transfer_syntax else "no known transfer syntax"
    return InputError(
        f"{head.path}: pixels cannot be decoded ({syntax}): {reason_of(error)}; the file is "
        "damaged, or compressed in a way that is not known here"
    )


def _checked(stored: npt.NDArray[Any], head: SliceHeader) -> npt.NDArray[Any]:
    """Return the values of the bits in use; scanners have kept overlays and garbage in the bits above."""
    if stored.shape != head.size:
        raise InputError(f"{head.path}: {stored.shape} pixels decoded, the header declares {head.size}")
    if head.shift:
        return np.asarray(stored >> head.shift)
    unused = head.unused_bits
    if not unused or stored.dtype.itemsize != head.dtype.itemsize:
        return stored
    # Shifting up and down again drops the bits above, and carries the sign.
    return np.asarray((stored << unused) >> unused)
