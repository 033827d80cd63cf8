"""What a restoration will take, told before it begins: memory, time, and the tile that keeps to the memory.

    peak = base + max(E volumes + network, O volumes, what reading the noise takes at least)
    seconds = max(voxels, LEAST) x (other + evaluations x waste x network)

A volume is four bytes for each voxel of the result; E volumes are held while the network runs, O at most
before or after. The network takes memory for each voxel of a tile, or of a plane where it goes through the
volume slab by slab. `waste` is the work that tiles do twice, for their halos. The constants come from a
`Calibration`; E and O are properties of the code, measured with a network that takes no memory. Of a series
that is restored as one, `SERIES` volumes are held for each volume.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from medrestore.engine.cost.calibration import SERIES_TRIED, Calibration, calibration
from medrestore.engine.evidence import detectability, explained
from medrestore.engine.intervals.features import slab_bytes
from medrestore.engine.machine.device import choose_device
from medrestore.engine.machine.memory import REFUSED, SHARE, usable_bytes
from medrestore.engine.models.find import find_model
from medrestore.engine.models.load import LoadedModel
from medrestore.engine.sampling.ensemble import ensemble_size
from medrestore.engine.sampling.posterior import evaluations, plugin_sampler, sample_count
from medrestore.engine.sampling.tiled_denoiser import plan_tiles, whole_shape
from medrestore.errors import ConfigError
from medrestore.options import RestoreOptions, parse_memory
from medrestore.plugin import ModelSpec
from medrestore.provenance import JSON
from medrestore.types import Modality, Task

WHOLE_VOXELS = 24_000_000
"""A volume of up to this many voxels is one tile, where the memory allows."""

_STEP = 16
"""Voxels by which a tile is made smaller until it fits."""

_SAMPLING = {"heun": 27.0, "euler": 20.0, "stochastic": 20.0}
"""Volumes that a sampler and the statistics of its samples hold."""

SERIES = 5.0
"""Volumes that are held for each volume of a series that is restored as one: the volume, that in model units,
a map of its noise, the result, and what is in between."""

_METRICS = 22.5
"""Volumes that metrics take, most of them the mask of the head."""


MEASURING_BYTES = 220e6
"""Memory that reading the noise of a scan of MR takes, however small the scan: patches of a fixed number."""

_INTERVALS = 6.0
"""Volumes that intervals add once the network has run: widths, ends, and what those are made with."""

LEAST = 16**3
"""Voxels of a volume below which none takes less time: the rest does not depend on their number."""

RECORD_BYTES = 100_000
"""Memory of all that is held of a volume beside its voxels: its grid, origin, history and record."""


@dataclass(frozen=True)
class Budget:
    """The prediction for one scan.

    Attributes:
        peak_bytes: Highest memory of the process.
        seconds: Time of the restoration, without reading, writing and metrics.
        tile: Largest side of a tile in voxels; the whole volume where none is larger.
        streamed: Whether tiles are columns through the whole volume along X, gone through slab by slab.
    """

    peak_bytes: int
    seconds: float
    tile: int
    streamed: bool

    def as_json(self) -> dict[str, JSON]:
        """Return the prediction as a record keeps it."""
        return {
            "peak_memory_mb": self.peak_bytes / 1e6,
            "seconds": self.seconds,
            "tile": self.tile,
            "streamed": self.streamed,
        }


@dataclass(frozen=True)
class Beside:
    """What is in memory beside the scan being restored.

    Attributes:
        reference: Whether the result is compared with a reference.
        held: Memory of this process without the scan; counts where it exceeds what a new process has.
        others: Bytes that the other volumes of a series take; see `other_volumes_bytes`.
        at_once: How many volumes of a series are restored as one; then `others` speaks of records alone.
        scan_voxels: Voxels of the scan itself, whose slices may be cleaned before they are resolved.
    """

    reference: bool = False
    held: int = 0
    others: int = 0
    at_once: int = 1
    scan_voxels: int = 0


@dataclass(frozen=True)
class _Job:
    """The inputs of a prediction."""

    shape: tuple[int, ...]
    options: RestoreOptions
    spec: ModelSpec
    device: str
    costs: Calibration
    beside: Beside

    @property
    def given(self) -> int:
        """How many volumes the model itself is given at once."""
        return 1 if self.spec.series is None else self.beside.at_once

    @property
    def runs(self) -> float:
        """How often the network goes over a volume, relative to how often it does for one volume."""
        if self.spec.series is not None:
            tried = max(SERIES_TRIED[0], self.spec.series)
            return self.beside.at_once * math.pow(self.beside.at_once / tried, self.costs.growth)
        return 1 if self.beside.at_once == 1 else self.beside.at_once + 1


def predict(
    shape: tuple[int, int, int],
    options: RestoreOptions,
    *,
    modality: Modality = Modality.UNKNOWN,
    model: LoadedModel | None = None,
    beside: Beside | None = None,
) -> Budget:
    """Choose a tile and predict memory and time.

    The default depends on the shape alone; only where that takes more than `max_memory` is the tile smaller.

    Args:
        shape: (X, Y, Z) voxels of the result.
        options: What is asked for.
        modality: Modality of the scan, where no model is named.
        model: The model, if it is loaded already; otherwise it is loaded only if it was never measured here.
        beside: What else is in memory; None if there is nothing else.

    Raises:
        ConfigError: Not even the smallest tile fits into the memory.
        ModelError: There is no such model.
    """
    spec = model.spec if model is not None else find_model(options, modality)[1]
    device = model.device if model is not None else choose_device(options.device)
    costs = calibration(options, modality, model)
    beside = beside or Beside()
    costs = replace(costs, base_bytes=max(costs.base_bytes, beside.held) + beside.others)
    job = _Job(whole_shape(shape, spec.multiple), options, spec, device, costs, beside)
    limit = usable_bytes() if options.max_memory is None else parse_memory(options.max_memory)
    on_device = _device_bytes(device)
    smallest: Budget | None = None
    for tile, streamed in _candidates(job):
        budget, work = _budget(job, tile, streamed)
        if budget.peak_bytes <= limit and work <= on_device:
            return budget
        if smallest is None or budget.peak_bytes < smallest.peak_bytes:
            smallest = budget
    assert smallest is not None
    raise ConfigError(_refusal(job, smallest, limit))


def other_volumes_bytes(volumes: int, voxels: int, options: RestoreOptions) -> int:
    """Return the memory of a series of `volumes` but for the one being restored, of `voxels` each.

    Every volume, result and map is held to the end, in float32, and its record with it.
    """
    held = 2 + (options.samples > 1) + (0 if options.interval is None else 2)
    if options.volumes == "joint":
        held = 0  # all are held by the restoration itself
    return (volumes - 1) * (voxels * 4 * held + RECORD_BYTES)


def _candidates(job: _Job) -> Iterator[tuple[int, bool]]:
    """Yield tiles to try, the best first, each with whether it is a column."""
    spec, largest = job.spec, max(job.shape)
    least = least_tile(spec)
    if job.options.tile is not None:
        yield max(job.options.tile, least), False
        return
    if math.prod(job.shape) <= WHOLE_VOXELS:
        yield largest, False
    columns = job.costs.column_bytes is not None and job.given == 1
    step = max(_STEP // spec.multiple, 1) * spec.multiple
    for tile in (*range(max(job.shape[1:]) if columns else min(largest, 512), least, -step), least):
        yield tile, columns


def least_tile(spec: ModelSpec) -> int:
    """Return the smallest side of a tile that leaves voxels between its halos."""
    return 2 * math.ceil(spec.halo / spec.multiple) * spec.multiple + spec.multiple


def _budget(job: _Job, tile: int, streamed: bool) -> tuple[Budget, int]:
    """Return the prediction for a tile, and the bytes that the network takes on a device with own memory."""
    costs, volume = job.costs, 4 * math.prod(job.shape)
    shape = (1, *job.shape[1:]) if streamed else job.shape
    tiles = plan_tiles(shape, tile, job.spec.halo, job.spec.multiple)
    sizes = [math.prod(span.stop - span.start for span in part.outer) for part in tiles]
    work = max(sizes) * ((costs.column_bytes or 0.0) if streamed else costs.tile_bytes)
    work *= job.given
    waste = sum(sizes) / math.prod(shape)
    beside, most = _volumes(job)
    if job.beside.at_once > 1:
        beside, most = max(beside, SERIES * job.beside.at_once), most + SERIES * job.beside.at_once
    own = work if job.device == "cpu" else 0.0
    besides = 0.0 if job.spec.is_ct else MEASURING_BYTES
    if job.options.interval is not None:
        besides = max(besides, (beside + _INTERVALS) * volume + slab_bytes(job.shape))
    peak = costs.base_bytes + max(beside * volume + own, most * volume, besides)
    network = evaluations(job.options, job.spec) * waste * costs.network_seconds
    each = costs.other_seconds * job.beside.at_once + network * job.runs
    seconds = max(math.prod(job.shape), LEAST) * each
    if job.options.detectability:
        seconds += (
            detectability.evaluated(job.shape) * ensemble_size(job.options, job.spec) * costs.network_seconds
        )
    if job.spec.denoise_with is not None:  # by a network that costs what this one does, or so
        seconds += job.beside.scan_voxels * (costs.network_seconds * waste + costs.other_seconds)
    if explained.is_told(job.spec):
        seconds += explained.evaluated(job.shape) * costs.network_seconds
    return Budget(int(peak), seconds, tile, streamed), 0 if job.device == "cpu" else int(work)


def _volumes(job: _Job) -> tuple[float, float]:
    """Return how many volumes are held while the network runs, and the most at any other time."""
    if job.spec.task is Task.SUPERRES:
        beside, most = 5.0, 8.5
    elif job.spec.is_ct:
        beside, most = 3.0, 5.5  # the scan, the scan in model units, the result
    else:
        beside, most = 4.0, 9.0  # and a map of the noise
    if sample_count(job.options):
        beside += sampling_volumes(job.options.sampler)
    if job.beside.reference or job.options.quality:
        beside, most = beside + 1, max(most, _METRICS)
    return beside, max(most, beside)


def sampling_volumes(sampler: str) -> float:
    """Return the volumes that a sampler, and the statistics of its samples, hold."""
    declared = plugin_sampler(sampler)
    return _SAMPLING[sampler] if declared is None else _SAMPLING["euler"] + declared.volumes


def _device_bytes(device: str) -> float:
    """Return the bytes that a tile may take on a device with memory of its own."""
    if not device.startswith("cuda"):
        return math.inf
    return SHARE * torch.cuda.mem_get_info(device)[0]


def _refusal(job: _Job, smallest: Budget, limit: int) -> str:
    size = " x ".join(map(str, job.shape)) + (f" x {job.beside.at_once}" if job.beside.at_once > 1 else "")
    given = "--max-memory" if job.options.max_memory is not None else "80 % of what is free or allowed here"
    remedy = "leave the tile out" if job.options.tile is not None else "restore it where there is more memory"
    if sample_count(job.options):
        remedy += ", or ask for the mean without samples"
    return (
        f"{size} voxels take {smallest.peak_bytes / 1e9:.2f} GB with the smallest possible tile, "
        f"{smallest.tile} voxels wide, and {limit / 1e9:.2f} {REFUSED} ({given}); {remedy}"
    )
