"""Memory and time of one scan, and whether it is refused: decided once, from its header, for every caller.

A dry run prints it, `restore_file` and the workers of a batch keep to it, a node refuses by it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from medrestore.engine import LoadedModel, RestoreOptions
from medrestore.engine.cost.budget import Beside, Budget, other_volumes_bytes, predict
from medrestore.engine.cost.calibration import is_known, too_small_to_measure
from medrestore.engine.models.checks import check_outputs, check_scan, check_series
from medrestore.engine.models.domain import settled
from medrestore.engine.models.find import find_model
from medrestore.engine.models.recognise import Recognition
from medrestore.engine.tasks.slice_grid import network_shape, target_grid
from medrestore.files import read_first, read_header
from medrestore.findings import Finding
from medrestore.geometry import Geometry
from medrestore.io import ScanHeader
from medrestore.options import FileOptions
from medrestore.types import Modality, Task

_BYTES = 4  # bytes of a voxel of a result, before compression
_RECORD = 8_000  # bytes of the record of a volume


@dataclass(frozen=True)
class Forecast:
    """What is known of a restoration before a voxel is read.

    Attributes:
        model: Full name of the model.
        modality: Modality that the scan is taken for.
        grid: Grid of each volume of the result.
        volumes: Number of volumes.
        budget: Memory, time and tile of a volume; None for a scan so small that nothing was measured for it.
        disk_bytes: Most bytes that images and sidecar take on the disk.
        findings: What was assumed of the scan.
        seen: What the content of the first volume says, where that had to be looked at.
        at_once: How many volumes the budget is for: all, where a series is restored as one.
    """

    model: str
    modality: Modality
    grid: Geometry
    volumes: int
    budget: Budget | None
    disk_bytes: int
    findings: tuple[Finding, ...] = ()
    seen: Recognition | None = None
    at_once: int = 1

    @property
    def seconds(self) -> float | None:
        """Predicted time of all volumes."""
        return None if self.budget is None else self.budget.seconds * (self.volumes // self.at_once)

    @property
    def peak_bytes(self) -> int | None:
        """Predicted memory of the process."""
        return None if self.budget is None else self.budget.peak_bytes


def forecast(header: ScanHeader, options: FileOptions, model: LoadedModel | None = None) -> Forecast:
    """Predict the memory and time that a scan will take.

    The first prediction for a model on a machine measures it, which takes some seconds; a scan smaller
    than the one that would be measured is not worth that.

    Args:
        header: Header of the scan.
        options: Options of the restoration.
        model: The model, if it is loaded already.

    Raises:
        ModelError: No model fits.
        DomainError: The model was not made for such a scan, or nothing says what it is, nor its content.
        ConfigError: An option does not fit the scan, or the scan does not fit into the memory.
        GeometryError: There are no slices to resolve.
    """
    taken = assume_modality(header, options)
    modality, assumed = taken.modality, taken.findings
    ref, spec = (model.ref, model.spec) if model is not None else find_model(options.restore, modality)
    grid = target_grid(header.geometry, spec.task, options.restore)
    stated = options.modality or header.stated or (str(modality) if assumed else None)
    check_scan(header.geometry, stated, spec, grid, options.restore.force)
    check_outputs(ref, spec, options.restore)
    check_series(ref, spec, options.restore, header.volumes)
    shape = network_shape(header.geometry, grid, spec, options.restore)
    return Forecast(
        ref.name,
        modality,
        grid,
        header.volumes,
        _budget(header, options, shape, modality, model),
        header.volumes * (math.prod(grid.shape) * _BYTES * (1 + len(options.maps)) + _RECORD),
        assumed,
        seen=taken.seen,
        at_once=_at_once(header, options),
    )


def _at_once(header: ScanHeader, options: FileOptions) -> int:
    return header.volumes if options.restore.volumes == "joint" else 1


def needs_measuring(header: ScanHeader, options: FileOptions, model: LoadedModel | None = None) -> bool:
    """Whether a forecast, whose errors it raises, would first measure the model, which takes some seconds."""
    modality = assume_modality(header, options).modality
    spec = model.spec if model is not None else find_model(options.restore, modality)[1]
    grid = target_grid(header.geometry, spec.task, options.restore)
    known = is_known(options.restore, modality, model)
    return not known and not too_small_to_measure(math.prod(grid.shape), options.restore, header.volumes)


@dataclass(frozen=True)
class AssumedModality:
    """The modality that a scan is taken for, why where it does not say so, and what its content says."""

    modality: Modality
    findings: tuple[Finding, ...] = ()
    seen: Recognition | None = None


def assume_modality(header: ScanHeader, options: FileOptions) -> AssumedModality:
    """Return the modality that a scan is taken for, and what should be known of that.

    It is what the caller says, or the scan. Where neither does and no model is named, its content decides,
    for which its first volume is read.

    Raises:
        DomainError: The content does not tell.
        InputError: The first volume cannot be read.
    """
    modality = options.modality or header.modality
    if modality is not Modality.UNKNOWN or header.stated is not None or options.restore.model is not None:
        return AssumedModality(modality)
    status = header.path.stat()
    full = header if header.format else read_header(header.path, options.reading)
    full = replace(full, nan_fill=options.reading.policy.nan_fill)
    return _recognised(_Look(header.path, status.st_mtime_ns, status.st_size, options.restore.task, full))


@dataclass(frozen=True)
class _Look:
    """A file as it was when its content was looked at: several forecasts of a scan look once."""

    path: Path
    changed: int
    size: int
    task: Task
    header: ScanHeader = field(compare=False)


@lru_cache(maxsize=64)
def _recognised(look: _Look) -> AssumedModality:
    taken = settled([read_first(look.header)], RestoreOptions(task=look.task))
    return AssumedModality(taken.volumes[0].modality, taken.findings, taken.seen)


def _budget(
    header: ScanHeader,
    options: FileOptions,
    shape: tuple[int, int, int],
    modality: Modality,
    model: LoadedModel | None,
) -> Budget | None:
    """Predict memory and time for volumes that a network is given in a shape."""
    asked, voxels = options.restore, math.prod(shape)
    if too_small_to_measure(voxels, asked, header.volumes) and not is_known(asked, modality, model):
        return None
    beside = Beside(
        reference=options.reference is not None,
        others=other_volumes_bytes(header.volumes, voxels, asked),
        at_once=_at_once(header, options),
        scan_voxels=math.prod(header.geometry.shape),
    )
    return predict(shape, asked, modality=modality, model=model, beside=beside)
