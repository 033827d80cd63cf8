"""What a batch will take, said before anything runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from medrestore.batch.find.cases import Case
from medrestore.batch.settings import Settings
from medrestore.engine import RestoreOptions
from medrestore.engine.cost.budget import predict
from medrestore.engine.models.load import find_model
from medrestore.engine.tasks.slice_grid import network_shape
from medrestore.errors import MedrestoreError
from medrestore.io.nifti.header import read_header
from medrestore.types import Modality, Task

_BYTES = 4  # of a voxel of a result, before compression


@dataclass(frozen=True)
class CasePlan:
    """What is known of a case before it runs.

    Attributes:
        case: The case.
        model: Full name of its model, or empty.
        refused: Why it cannot be restored; empty where it can be tried.
        shape: Voxels of a volume of the scan; None where that is not known.
        seconds: Predicted time; None for super-resolution, whose grid follows from the slices.
        peak_bytes: Predicted memory.
        disk_bytes: Most that its images take on the disk.
    """

    case: Case
    model: str = ""
    refused: str = ""
    shape: tuple[int, ...] | None = None
    seconds: float | None = None
    peak_bytes: int | None = None
    disk_bytes: int | None = None


def options_of(case: Case, settings: Settings) -> tuple[RestoreOptions, Modality]:
    """Return what the case is restored with."""
    stated = dict(settings.restore)
    stated["task"] = Task(stated.get("task", Task.DENOISE))  # type: ignore[arg-type]
    if case.model is not None:
        stated["model"] = case.model
    modality = case.modality if settings.modality is None else settings.modality
    return RestoreOptions(**stated), modality  # type: ignore[arg-type]


def plan_case(case: Case, settings: Settings) -> CasePlan:
    """Look at the header of a case, and predict what it takes.

    The first prediction for a model on a machine measures it, which takes some seconds.
    """
    planned = CasePlan(case, refused=case.refused)
    try:
        options, modality = options_of(case, settings)
        ref, spec = find_model(options, modality)
        planned = replace(planned, model=ref.name)
        shape, volumes, header = case.shape, case.volumes, None
        if shape is None and not case.refused:
            header = read_header(case.files[0])
            shape, volumes = header.geometry.shape, header.volumes
        planned = replace(planned, shape=shape)
        if shape is None or case.refused or spec.task is Task.SUPERRES:
            return planned
        if header is not None:
            shape = network_shape(header.geometry, header.geometry, spec, options)
        budget = predict(shape, options, modality=modality, reference=case.reference is not None)
    except MedrestoreError as error:
        return replace(planned, refused=str(error).replace(str(case.root), case.id))
    disk = math.prod(shape) * volumes * _BYTES * (2 if settings.save_std else 1)
    return replace(planned, seconds=budget.seconds * volumes, peak_bytes=budget.peak_bytes, disk_bytes=disk)
