"""What a model costs on this machine: measured once, on a small synthetic scan, and kept in a cache."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from medrestore.diffusion import Condition
from medrestore.engine.evidence.residual import residual_evidence
from medrestore.engine.evidence.verdict import verdict
from medrestore.engine.machine.device import choose_device, choose_dtype, thread_count
from medrestore.engine.machine.memory import peak_bytes, reset_peak, resident_bytes
from medrestore.engine.models.find import find_model
from medrestore.engine.models.load import LoadedModel, load_model
from medrestore.engine.sampling.tiled_denoiser import StreamedDenoiser, TiledDenoiser, cut_mirrored, streams
from medrestore.engine.tasks.measurement import Measurement
from medrestore.engine.tasks.table import MEASURE
from medrestore.options import RestoreOptions
from medrestore.physics.kspace import colour_details
from medrestore.plugin import ModelSpec
from medrestore.provenance import Step, software_versions
from medrestore.types import Modality, Task
from medrestore.volume import Volume

CALIBRATION_SIDE = 96
"""Voxels along each axis of the synthetic scan."""

SMALL = 32
"""Voxels along each axis of a scan that shows the memory of a network at any size: its weights, mostly."""

SERIES_SIDE, SERIES_TRIED = 20, (16, 48)
"""Voxels along each axis of the series that models of series are measured on, and how many volumes."""

LENGTH = 144
"""Rows of the column that is gone through: enough for every row that waits on the way."""

UNKNOWN = 400
"""Bytes a voxel for a network where the system does not tell: about twice those of a shipped network."""

T = TypeVar("T")


@dataclass(frozen=True)
class Calibration:
    """The constants of one model on one machine.

    Attributes:
        base_bytes: Memory of a process with the model loaded and next to no scan.
        tile_bytes: Bytes that the network takes for each voxel of a tile, on the device.
        column_bytes: Bytes for each voxel of a plane to go through a column of any length; None where the
            model cannot.
        network_seconds: Time of one evaluation, a voxel.
        other_seconds: Time of all that comes before and after, a voxel.
        growth: Power of the number of volumes that the time of a model of series grows with, a voxel and
            volume; its other figures are for each volume, of the fewest that it is measured with.
    """

    base_bytes: float
    tile_bytes: float
    column_bytes: float | None
    network_seconds: float
    other_seconds: float
    growth: float = 0.0


_known: dict[Path, Calibration] = {}


def calibration(
    options: RestoreOptions, modality: Modality = Modality.UNKNOWN, model: LoadedModel | None = None
) -> Calibration:
    """Return what a model costs here, as it is known, or by measuring it, which takes some seconds.

    Args:
        options: Model, device and type of the arithmetic.
        modality: Modality of the scan, where no model is named.
        model: The model, if it is loaded already.

    Raises:
        ModelError, ConfigError: See `load_model`.
    """
    path = _path(options, modality, model)
    found = known(path)
    if found is None:
        with thread_count(options.threads):
            found = _known[path] = measure(model or load_model(options, modality))
        _keep(path, found)
    return found


def known(path: Path) -> Calibration | None:
    """Return the calibration remembered or stored under a name; None if there is none that is sensible."""
    try:
        return _known.get(path) or Calibration(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def too_small_to_measure(voxels: int, options: RestoreOptions, volumes: int = 1) -> bool:
    """Whether a scan fits anywhere: smaller than what is measured, and no limit of memory to keep to.

    Args:
        voxels: Of a volume of the result; a volume costs no less than one of `SMALL` voxels along each axis.
        options: What is asked for.
        volumes: How many there are.
    """
    return volumes * max(voxels, SMALL**3) < CALIBRATION_SIDE**3 and options.max_memory is None


def is_known(options: RestoreOptions, modality: Modality, model: LoadedModel | None = None) -> bool:
    """Whether `calibration` has nothing to measure; arguments as there."""
    return known(_path(options, modality, model)) is not None


def _keep(path: Path, found: Calibration) -> None:
    """Store constants for the next process; without a place to store them, each measures its own."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(asdict(found)), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        return


def _path(options: RestoreOptions, modality: Modality, model: LoadedModel | None) -> Path:
    """Name a calibration after all that it depends on."""
    if model is None:
        ref, spec = find_model(options, modality)
        device = choose_device(options.device)
        dtype = choose_dtype(options.dtype, spec.dtypes, device)
    else:
        ref, spec, device, dtype = model.ref, model.spec, model.device, model.dtype
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else processor()
    versions = software_versions()
    facts = [
        ref.name,
        ref.sha256,
        spec.denoise_with,
        device,
        dtype,
        name,
        os.cpu_count(),
        options.threads or torch.get_num_threads(),
    ]
    facts += [versions.get("torch"), versions.get("medrestore"), CALIBRATION_SIDE, LENGTH]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "medrestore" / "calibration" / f"{digest[:20]}.json"


def processor() -> str:
    """Return the name of the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line for line in lines if line.startswith("model name"))
    return next(named, platform.machine()).rpartition(":")[2].strip()


def measure(model: LoadedModel) -> Calibration:
    """Measure what a model costs, on a synthetic scan of `CALIBRATION_SIDE` voxels along each axis."""
    spec = model.spec
    scan = synthetic(spec)
    measurement, before = _timed(lambda: MEASURE[spec.task](scan, spec, RestoreOptions(), ()))
    if model.cleaner is not None:
        _run_once(model.cleaner)
    reset_peak()
    base = resident_bytes()  # with the libraries that are loaded where a scan is first measured
    condition = measurement.condition
    arguments = (model.denoiser, 2**31, spec.halo, spec.multiple, model.device)
    if spec.series is not None:
        return _of_series(model, TiledDenoiser(*arguments), condition, base, before / condition.image.numel())
    small, fixed = _reshaped(condition, (SMALL,) * 3), 0.0
    for _ in range(2):  # the first run includes work that is done only once
        fixed = _evaluate(TiledDenoiser(*arguments), small)[2]
    estimate, network, tile = _evaluate(TiledDenoiser(*arguments), condition)
    voxels, plane = estimate.numel(), estimate[0, 0, 0].numel()
    column = None
    if streams(model.denoiser):
        longer = _reshaped(condition, (LENGTH, *estimate.shape[3:]))
        column = max(_evaluate(StreamedDenoiser(*arguments), longer)[2] - fixed, 0) / plane
    result = measurement.to_volume(estimate, Step("calibration"))
    _, after = _timed(lambda: _judged(measurement, result, spec))
    tile = max(tile - fixed, 0) / (voxels - SMALL**3)
    own = fixed if model.device == "cpu" else 0
    return Calibration(base + own, tile, column, network / voxels, (before + after) / voxels)


def _run_once(model: LoadedModel) -> None:
    """Run the model that cleans slices: what it holds from then on counts to what any scan takes."""
    spec, image = model.spec, torch.zeros(1, 1, SMALL, SMALL, SMALL)
    condition = Condition(image, 0.05, details=colour_details(None) if spec.colour else ())
    _evaluate(TiledDenoiser(model.denoiser, 2**31, spec.halo, spec.multiple, model.device), condition)


def _of_series(
    model: LoadedModel, denoiser: TiledDenoiser, condition: Condition, base: float, before: float
) -> Calibration:
    """Measure what a model of series costs; `before` is what is done before, in seconds for a voxel."""
    counts = [max(count, model.spec.series or 0) for count in SERIES_TRIED]
    small = _reshaped(condition, (SERIES_SIDE,) * 3)
    found = []
    _evaluate(denoiser, _repeated(small, counts[0]))  # the first run includes work that is done only once
    for count in counts:
        series = _repeated(small, count)
        _, seconds, taken = _evaluate(denoiser, series)
        found.append((seconds / series.image.numel(), taken / series.image.numel()))
    (first, least), (second, most) = found
    growth = math.log(second / first) / math.log(counts[1] / counts[0]) if counts[1] > counts[0] else 1.0
    return Calibration(base, max(least, most), None, first, 2 * before, max(growth, 0.0))


def _repeated(condition: Condition, count: int) -> Condition:
    """Return a series of one volume again and again, each in noise of its own."""
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal((count, *condition.image.shape[1:])))
    return replace(condition, image=condition.image + condition.sigma * noise.float(), gain=None)


def _judged(measurement: Measurement, result: Volume, spec: ModelSpec) -> None:
    """Do what is done with a result once it is there."""
    scan, seen = measurement.scan, measurement.remeasure(result)
    residual_evidence(scan.array, seen, measurement.local_sigma(), measurement.units.zero)
    verdict(measurement, seen, spec.task, scan.modality)


def _timed(action: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    return action(), time.perf_counter() - start


def _evaluate(denoiser: TiledDenoiser, condition: Condition) -> tuple[Tensor, float, float]:
    """Run the network once; return its estimate, the seconds, and the bytes beside the estimate."""
    cuda = denoiser.device.startswith("cuda")
    if cuda:
        torch.cuda.reset_peak_memory_stats(denoiser.device)
    told, before = reset_peak(), resident_bytes()
    estimate, seconds = _timed(lambda: denoiser(condition.image, math.inf, condition))
    if cuda:
        return estimate, seconds, torch.cuda.max_memory_allocated(denoiser.device)
    if not (told and before):
        return estimate, seconds, UNKNOWN * condition.image.numel()
    return estimate, seconds, max(peak_bytes() - before - estimate.nbytes, 0)


def _reshaped(condition: Condition, shape: tuple[int, ...]) -> Condition:
    """Return a part of the condition, or the condition extended by reflection."""
    x, y, z = (slice(0, extent) for extent in shape)
    gain = None if condition.gain is None else cut_mirrored(condition.gain, (x, y, z))
    return replace(condition, image=cut_mirrored(condition.image, (x, y, z)), gain=gain)


def synthetic(spec: ModelSpec) -> Volume:
    """Return an ellipsoid of tissue with noise, such as a model may be given."""
    thick = 3 if spec.task is Task.SUPERRES else 1
    axes = (
        np.linspace(-1, 1, size, dtype=np.float32)
        for size in (CALIBRATION_SIDE, CALIBRATION_SIDE, CALIBRATION_SIDE // thick)
    )
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    tissue = (x / 0.8) ** 2 + (y / 0.9) ** 2 + z**2 < 1
    noise = np.random.default_rng(0).standard_normal(tissue.shape, dtype=np.float32)
    ct = spec.is_ct
    high, low, sigma = (40.0, -1000.0, 30.0) if ct else (800.0, 0.0, 40.0)
    array = np.where(tissue, np.float32(high), np.float32(low)) + np.float32(sigma) * noise
    modality = Modality.CT if ct else Modality.MR
    return Volume.from_array(array if ct else np.abs(array), np.diag([1, 1, thick, 1]), modality)
