"""What `medrestore restore` does once its options are understood."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np

from medrestore.cli.progress import Meter, Pace
from medrestore.cli.series import write_series
from medrestore.cli.summary import print_summary
from medrestore.cli.targets import Targets, outdated
from medrestore.cli.trajectory import TrajectoryFolder
from medrestore.engine import Observers, Restoration, RestoreOptions, TrajectoryPoint, load_model, restore
from medrestore.engine.budget import other_volumes_bytes, predict
from medrestore.engine.calibration import SIDE
from medrestore.engine.evidence import check_reference
from medrestore.engine.memory import resident_bytes
from medrestore.engine.model import LoadedModel, find_model
from medrestore.engine.slice_plan import network_shape, target_grid
from medrestore.errors import InputError
from medrestore.io import (
    ReadPolicy,
    WriteReport,
    atomic_folder,
    atomic_write,
    check_derivable,
    read_series,
    reading_notes,
    write,
)
from medrestore.io.dicom import is_dicom
from medrestore.io.nifti import modality_of_name
from medrestore.io.nifti_header import read_header
from medrestore.provenance import JSON, RunRecord, Step
from medrestore.types import Modality, Task
from medrestore.volume import Volume, stated_modality


@dataclass(frozen=True)
class Job:
    """One scan to restore.

    Attributes:
        scan: What to read.
        reference: The truth, if there is one.
        modality: What the scan is; None for what it says itself.
        options: How to restore it.
        targets: What to write.
        dtype: Type of the voxels in the file.
        policy: How DICOM series are read.
        series: Which of several DICOM series; None where there is one.
        bids: Keys of BIDS for the sidecar.
    """

    scan: Path
    reference: Path | None
    modality: Modality | None
    options: RestoreOptions
    targets: Targets
    dtype: str
    policy: ReadPolicy = field(default_factory=ReadPolicy)
    series: str | None = None
    bids: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def has_std(self) -> bool:
        """Whether the standard deviation is written."""
        return self.targets.std is not None or self.targets.series_std is not None


Load = Callable[[RestoreOptions, Modality], LoadedModel]
Show = Callable[[Volume, Restoration], None]
Turn = Callable[[Callable[[], list[Restoration]]], list[Restoration]]


def run(
    job: Job,
    *,
    quiet: bool = False,
    meter: Meter | None = None,
    load: Load | None = None,
    show: Show | None = None,
    turn: Turn | None = None,
) -> tuple[RunRecord, ...]:
    """Read, restore, write, and print what was done; return a record for each volume.

    Args:
        job: What to do.
        quiet: Print nothing.
        meter: Shows progress; None for one on stderr.
        load: Gives the model, for scans that share one; None loads it.
        show: Called with the first volume and its result when they are written.
        turn: Does what is given to it, the restoration itself, when and where it is to be done.

    Raises:
        MedrestoreError: Anything on the way; nothing is written then.
    """
    start = time.perf_counter()
    check_memory(job)
    volumes, notes = _read(job)
    if job.targets.series is not None:
        check_derivable(volumes)
    references = _references(job, volumes)
    read_seconds = time.perf_counter() - start
    old = outdated(job.targets, [path for path in (job.scan, job.reference) if path is not None])
    with ExitStack() as stack:
        folder = job.targets.trajectory
        trajectory = None if folder is None else stack.enter_context(TrajectoryFolder(folder))
        with meter or Meter(f"Restoring {job.scan.name}", quiet=quiet) as shown:
            work = partial(_restore_all, job, load or load_model, (volumes, references), (shown, trajectory))
            results = work() if turn is None else turn(work)
        records = _write(job, results, stack, (read_seconds, notes))
    for path in old:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if show is not None:
        show(volumes[0], results[0])
    if not quiet:
        print_summary(records, job.targets)
    return records


def check_memory(job: Job) -> None:
    """Refuse what cannot fit before it is read, where the header of a file tells the size of the result.

    A scan too small to be measured for fits anywhere.
    """
    if not job.scan.is_file() or is_dicom(job.scan):
        return
    header = read_header(job.scan)
    modality = job.modality or modality_of_name(job.scan)
    voxels = math.prod(header.geometry.shape)
    small = header.volumes * voxels < SIDE**3 and job.options.max_memory is None
    spec = find_model(job.options, modality)[1]
    if small or spec.task is Task.SUPERRES:
        return
    others = other_volumes_bytes(header.volumes, voxels, job.options)
    held = resident_bytes() + others if others else 0
    asked = job.reference is not None
    shape = network_shape(header.geometry, header.geometry, spec, job.options)
    predict(shape, job.options, modality=modality, reference=asked, held=held)


def _read(job: Job) -> tuple[tuple[Volume, ...], tuple[str, ...]]:
    """Return the volumes of the scan, and what is odd about them."""
    volumes = read_series(job.scan, policy=job.policy, series=job.series)
    said, notes = stated_modality(volumes[0]), reading_notes(volumes[0])
    if job.modality is None or job.modality == said:
        return volumes, notes
    if said is not None:
        notes += (f"the scan says {said}, --modality says {job.modality}",)
    return tuple(volume.as_modality(job.modality) for volume in volumes), notes


def _references(job: Job, volumes: Sequence[Volume]) -> tuple[Volume | None, ...]:
    """Return the truth of each volume; one may serve a whole series."""
    if job.reference is None:
        return (None,) * len(volumes)
    found = read_series(job.reference, policy=job.policy)
    if len(found) not in {1, len(volumes)}:
        raise InputError(
            f"{job.reference}: a series of {len(found)} volumes, the scan has {len(volumes)}; expected as "
            "many, or one"
        )
    references = found if len(found) == len(volumes) else found * len(volumes)
    task = find_model(job.options, volumes[0].modality)[1].task
    for volume, reference in zip(volumes, references, strict=True):
        check_reference(target_grid(volume, task, job.options), reference)
    return references


def _restore_all(
    job: Job,
    load: Load,
    scans: tuple[Sequence[Volume], Sequence[Volume | None]],
    watchers: tuple[Meter, TrajectoryFolder | None],
) -> list[Restoration]:
    """Restore every volume with one model."""
    (volumes, references), (meter, trajectory) = scans, watchers
    model = load(job.options, volumes[0].modality)
    pace, count = Pace(), len(volumes)
    results: list[Restoration] = []

    def progress(done: int, total: int) -> None:
        finished = len(results) * total + done
        meter.update(finished, count * total, pace.text(finished, count * total, "voxels"))

    def step(point: TrajectoryPoint) -> None:
        if trajectory is not None:
            trajectory.add(point, len(results) if count > 1 else None)

    observers = Observers(progress, step if trajectory is not None else None)
    for index, (volume, reference) in enumerate(zip(volumes, references, strict=True)):
        near = volumes[max(index - 1, 0) : index + 2]
        results.append(
            restore(volume, job.options, reference=reference, model=model, observers=observers, series=near)
        )
    return results


def _write(
    job: Job, results: Sequence[Restoration], stack: ExitStack, facts: tuple[float, tuple[str, ...]]
) -> tuple[RunRecord, ...]:
    """Write image, deviation and sidecar under names that `stack` makes the real ones when all is well."""
    targets, start = job.targets, time.perf_counter()
    # What is entered last appears first: the image, once it is there, has its evidence beside it.
    held = {
        path: stack.enter_context(atomic_write(path, targets.overwrite)) for path in targets.files()[::-1]
    }
    series = [stack.enter_context(atomic_folder(path, targets.overwrite)) for path in targets.folders()]
    output: dict[str, JSON] = {}
    deviations = [_no_deviation(r) if r.std is None else r.std for r in results] if job.has_std else []
    read_seconds, notes = facts
    if series:
        entries, said = write_series(targets, series, results, deviations)
        output, notes = {**output, **entries}, notes + said
    if targets.image is not None:
        report = write([r.volume for r in results], held[targets.image], dtype=job.dtype, overwrite=True)
        output |= _image_entry(targets.image, report)
        if report.clipped_voxels:
            notes += (f"{report.clipped_voxels} voxels did not fit into {output['dtype']} and were clipped",)
    if targets.std is not None:
        output["std"] = _entry(targets.std, write(deviations, held[targets.std], overwrite=True))
    if targets.trajectory is not None:
        output["trajectory"] = targets.trajectory.name
    seconds = {"read": read_seconds, "write": time.perf_counter() - start}
    records = tuple(
        replace(
            result.record,
            settings={**result.record.settings, "modality": result.volume.modality, "out_dtype": job.dtype},
            output={**output, **({"volume": index} if len(results) > 1 else {})},
            timings={**result.record.timings, **seconds},
            warnings=(*result.record.warnings, *notes),
        )
        for index, result in enumerate(results)
    )
    # A name that is no UTF-8 is escaped, and json reads it back as it is.
    held[targets.sidecar].write_text(sidecar(records, job.bids), encoding="utf-8", errors="backslashreplace")
    return records


def sidecar(records: Sequence[RunRecord], bids: Mapping[str, JSON] | None = None) -> str:
    """Return the text of a sidecar: a record, or for a 4-D series a list of one for each volume.

    Keys of BIDS, if any, stand before those of the record; BIDS takes no list, which then is ``volumes``.
    """
    said = [json.loads(record.to_json()) for record in records]
    whole = said[0] if len(said) == 1 else said
    if bids:
        whole = {**bids, **(whole if isinstance(whole, dict) else {"volumes": whole})}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _image_entry(path: Path, report: WriteReport) -> dict[str, JSON]:
    return {
        **_entry(path, report),
        "dtype": _voxel_type(report.path),
        "clipped_voxels": report.clipped_voxels,
    }


def _entry(path: Path, report: WriteReport) -> dict[str, JSON]:
    return {"path": path.name, "sha256": report.sha256}


def _no_deviation(result: Restoration) -> Volume:
    """Return zeros for a volume without noise, which came back as it went: nothing is uncertain."""
    zeros = np.zeros(result.volume.shape, dtype=np.float32)
    return result.volume.with_array(zeros, Step("restore:std", {"sigma": 0.0}))


def _voxel_type(path: Path) -> str:
    image = cast("nib.Nifti1Image", nib.load(path))
    return str(image.get_data_dtype().name)
