"""Memory and time of one scan, and whether it is refused: decided once, from its header, for every caller.

A dry run prints it, `restore_file` and the workers of a batch keep to it, a node refuses by it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from medrestore.engine import LoadedModel
from medrestore.engine.cost.budget import Beside, Budget, other_volumes_bytes, predict
from medrestore.engine.cost.calibration import is_known, too_small_to_measure
from medrestore.engine.models.checks import check_outputs, check_scan
from medrestore.engine.models.load import find_model
from medrestore.engine.tasks.slice_grid import network_shape, target_grid
from medrestore.geometry import Geometry
from medrestore.io import ScanHeader
from medrestore.options import FileOptions
from medrestore.types import Modality

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
    """

    model: str
    modality: Modality
    grid: Geometry
    volumes: int
    budget: Budget | None
    disk_bytes: int

    @property
    def seconds(self) -> float | None:
        """Predicted time of all volumes."""
        return None if self.budget is None else self.budget.seconds * self.volumes

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
        ModelError: No model fits, or the model was not made for such a scan.
        ConfigError: An option does not fit the scan, or the scan does not fit into the memory.
        GeometryError: There are no slices to resolve.
    """
    modality = options.modality or header.modality
    ref, spec = (model.ref, model.spec) if model is not None else find_model(options.restore, modality)
    grid = target_grid(header.geometry, spec.task, options.restore)
    check_scan(header.geometry, options.modality or header.stated, spec, grid, options.restore.force)
    check_outputs(ref, spec, options.restore)
    return Forecast(
        ref.name,
        modality,
        grid,
        header.volumes,
        _budget(header, options, network_shape(header.geometry, grid, spec, options.restore), model),
        header.volumes * (math.prod(grid.shape) * _BYTES * (1 + len(options.maps)) + _RECORD),
    )


def needs_measuring(header: ScanHeader, options: FileOptions, model: LoadedModel | None = None) -> bool:
    """Whether a forecast, whose errors it raises, would first measure the model, which takes some seconds."""
    modality = options.modality or header.modality
    spec = model.spec if model is not None else find_model(options.restore, modality)[1]
    grid = target_grid(header.geometry, spec.task, options.restore)
    known = is_known(options.restore, modality, model)
    return not known and not too_small_to_measure(math.prod(grid.shape), options.restore, header.volumes)


def _budget(
    header: ScanHeader, options: FileOptions, shape: tuple[int, int, int], model: LoadedModel | None
) -> Budget | None:
    """Predict memory and time for volumes that a network is given in a shape."""
    asked, modality = options.restore, options.modality or header.modality
    voxels = math.prod(shape)
    if too_small_to_measure(voxels, asked, header.volumes) and not is_known(asked, modality, model):
        return None
    beside = Beside(
        reference=options.reference is not None, others=other_volumes_bytes(header.volumes, voxels, asked)
    )
    return predict(shape, asked, modality=modality, model=model, beside=beside)
