"""A model in a process of its own: what it asks the network for, what it returns, what memory it takes."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np

from medrestore.engine import LoadedModel, RestoreOptions, load_model
from medrestore.engine.cost.calibration import calibration
from medrestore.engine.machine.device import choose_device, choose_dtype
from medrestore.engine.machine.memory import reset_peak
from medrestore.plugin import LoadContext, ModelSpec
from medrestore.plugin.contract import load_denoiser
from medrestore.provenance import ModelRef
from medrestore.testing.scenes import computed
from medrestore.testing.shown import restored
from medrestore.volume import Volume

SMALL = 32
"""Voxels along each axis of the scan that is restored twice."""

LARGE, LARGE_SERIES = 112, 64
"""Voxels along each axis of the scan, or of the volumes of a series, whose memory is measured: more than the
forecast was measured on."""

STEPS = 2
"""Of the sample that is drawn."""

_ASKING = frozenset(
    {
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.gethostbyaddr",
        "socket.getnameinfo",
        "socket.sendto",
        "socket.sendmsg",
    }
)
"""Audit events of Python with which a program asks the network for something."""

_STARTING = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn"})
"""Those with which it starts another program, which may ask, and which no hook of this one sees."""

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """Where a model comes from, as another process can be told.

    Attributes:
        model: A name or a folder, or a declaration that can be pickled.
        device: Where it runs.
        dtype: Type of its heavy arithmetic.
    """

    model: str | ModelSpec
    device: str = "auto"
    dtype: str = "auto"

    def load(self) -> LoadedModel:
        """Find and load it, held to its contract.

        Raises:
            ModelError, PluginError, ConfigError: See `load_model`.
        """
        if isinstance(self.model, str):
            asked: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
            return load_model(RestoreOptions(model=self.model, **asked))
        spec, device = self.model, choose_device(self.device)
        dtype = choose_dtype(self.dtype, spec.dtypes, device)
        denoiser = load_denoiser(spec, LoadContext(device, dtype), f"model {spec.name!r}")
        return LoadedModel(
            ModelRef(spec.name, "declaration", spec.sha256, spec.network), spec, denoiser, device, dtype, 0.0
        )


@dataclass(frozen=True)
class Alone:
    """What was seen of a model in a process of its own.

    Attributes:
        asked: What it asked the network for, or started that may have, as of "asks the network for
            something (socket.connect)"; once for each kind of request, until its process had ended.
        digests: SHA-256 of the voxels of a result, by kind of output.
    """

    asked: tuple[str, ...]
    digests: Mapping[str, str]


@dataclass(frozen=True)
class Peak:
    """What a process of its own took to restore a large scan.

    Attributes:
        peak_bytes: Highest memory of the process; 0 where the system does not tell.
        predicted_bytes: What the forecast said of that.
    """

    peak_bytes: float
    predicted_bytes: float


class NoNetworkError(Exception):
    """A model failed in a process that was refused the network, after it had asked for it.

    Args:
        asked: As of `Alone`.
    """

    def __init__(self, asked: tuple[str, ...]) -> None:
        super().__init__("; ".join(asked))
        self.asked = asked


def alone(source: Source, seed: int) -> Alone:
    """Load and run a model in a new process that cannot reach the network.

    Args:
        source: The model.
        seed: Of scan and sample.

    Raises:
        NoNetworkError: The model raised after it had asked for the network; the cause is what it raised.
        Exception: What else the model raises there; or that the process died, or cannot be told the model.
    """
    digests, asked = _in_a_process(_observe, source, seed)
    return Alone(asked, digests)


def peak_alone(source: Source, seed: int) -> Peak:
    """Restore a large scan in a process of its own, as memory that does not suffice may end it.

    Args:
        source: The model.
        seed: Of the scan.

    Raises:
        Exception: As `alone`.
    """
    return _in_a_process(_observe_memory, source, seed)[0]


def _in_a_process(
    observe: Callable[[Source, int], T], source: Source, seed: int
) -> tuple[T, tuple[str, ...]]:
    """Return what was observed, and what was asked for until the process had ended, its exit included."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "asked"
        log.touch()
        try:
            with ProcessPoolExecutor(1, get_context("spawn"), _without_network, (log,)) as pool:
                found = pool.submit(observe, source, seed).result()
        except Exception as error:
            if asked := _read(log):
                raise NoNetworkError(asked) from error
            raise
        return found, _read(log)


def _read(log: Path) -> tuple[str, ...]:
    return tuple(dict.fromkeys(log.read_text(encoding="utf-8").splitlines()))


def _without_network(log: Path) -> None:
    """Refuse what would reach the network from this process, and write it down; there is no way back.

    Args:
        log: File that it is written to, a line for each; processes that are forked off write there too.
    """
    platform.processor()  # starts `uname`, for whoever asks first, and is remembered
    written = os.open(log, os.O_WRONLY | os.O_APPEND)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _ASKING and not _is_local(arguments):
            told = f"asks the network for something ({event})"
        elif event in _STARTING:
            told = f"starts a program that may ask the network ({event}: {arguments[0]!r:.80})"
        else:
            return
        os.write(written, f"{told}\n".encode())
        raise OSError(f"{event}: no network, and no other program, while a model is verified")

    sys.addaudithook(hook)


def _is_local(arguments: tuple[Any, ...]) -> bool:
    """Tell a socket of this machine's own processes, whose address is a path."""
    return any(isinstance(one, str | bytes) and os.fsdecode(one).startswith("/") for one in arguments[1:2])


def _observe(source: Source, seed: int) -> dict[str, str]:
    """Return the SHA-256 of the voxels of a result, by kind of output."""
    model = source.load()
    scene = computed(model.spec, SMALL, seed)
    plain = RestoreOptions(noise=float(scene.sigma or 0.0), seed=seed, force=True)
    wanted = {"mean": plain}
    if "sample" in model.spec.outputs:
        wanted["sample"] = replace(plain, output="sample", samples=1, steps=STEPS)
    digests = {}
    for output, options in wanted.items():
        voxels = restored(scene.scans(), options, model).volume.array
        digests[output] = hashlib.sha256(voxels.tobytes()).hexdigest()
    return digests


def _observe_memory(source: Source, seed: int) -> Peak:
    model = source.load()
    scene = computed(model.spec, (LARGE if model.spec.series is None else LARGE_SERIES) // 2, seed)
    scans = tuple(_eight_times(scan) for scan in scene.scans())
    volumes: Literal["each", "joint"] = "each" if model.spec.series is None else "joint"
    options = RestoreOptions(noise=float(scene.sigma or 0.0), force=True, volumes=volumes)
    del scene
    # The forecast is made anew: an earlier version of this model may have left another under its name.
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        calibration(options, model=model)
        reset_peak()
        record = restored(scans, options, model).record
    told = cast(Mapping[str, float], record.predicted)
    return Peak(1e6 * float(record.peak_memory_mb or 0.0), 1e6 * told["peak_memory_mb"])


def _eight_times(scan: Volume) -> Volume:
    array = np.tile(scan.array, (2, 2, 2))
    return replace(scan, array=array, geometry=replace(scan.geometry, shape=array.shape))
