"""How a scan becomes a problem for a denoiser, by task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from medrestore.engine.tasks.denoising import noisy_voxels
from medrestore.engine.tasks.measurement import Measurement
from medrestore.engine.tasks.superres import thick_slices
from medrestore.options import RestoreOptions
from medrestore.plugin import ModelSpec
from medrestore.types import Task
from medrestore.volume import Volume

MEASURE: Mapping[Task, Callable[[Volume, ModelSpec, RestoreOptions, Sequence[Volume]], Measurement]] = {
    Task.DENOISE: noisy_voxels,
    Task.SUPERRES: thick_slices,
}
