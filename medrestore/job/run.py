"""One scan from file to files: forecast, read, restore, write."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from medrestore.engine import (
    Known,
    Observers,
    Restoration,
    RestoreOptions,
    TrajectoryPoint,
    load_model,
    restore,
    restore_series,
)
from medrestore.engine.evidence.restoration import check_reference
from medrestore.engine.machine.device import thread_count
from medrestore.errors import InputError
from medrestore.files import read_header, read_volumes
from medrestore.io import check_derivable, reading_findings
from medrestore.job.forecast import Forecast, forecast
from medrestore.job.outputs import outdated
from medrestore.job.progress import Progress, Silence
from medrestore.job.spec import Job, LoadModel, OnWritten, Reading, plan_job
from medrestore.job.trajectory import TrajectoryFolder
from medrestore.job.write import remove, write_results
from medrestore.options import FileOptions, ReadRequest
from medrestore.plugin.host import plugins
from medrestore.provenance import RunRecord
from medrestore.volume import Volume, taken_as


def restore_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: FileOptions | RestoreOptions | None = None,
    *,
    progress: Progress | None = None,
) -> tuple[RunRecord, ...]:
    """Restore a scan from file to files: the image and, beside it, a JSON record of how it was made.

    A series of volumes is restored volume by volume, with one model, or as one: see `RestoreOptions.volumes`.

    Args:
        source: File, or folder with one DICOM series.
        target: File ending in .nii, .nii.gz or as another format that is written, or a folder.
        options: What is asked for; `RestoreOptions` where all else is to be as it is by default.
        progress: Hears how far it has come.

    Returns:
        A record for each volume, as they are in the sidecar.

    Raises:
        MedrestoreError: Anything on the way, in words for whoever asked; nothing is written then.
    """
    if not isinstance(options, FileOptions):
        options = FileOptions(restore=options or RestoreOptions())
    with failure_told(Path(source)):
        return run(plan_job(Path(source), Path(target), options), progress)


@contextmanager
def failure_told(source: Path) -> Iterator[None]:
    """Tell the plugins that observe if a scan is refused, or its restoration fails."""
    try:
        yield
    except Exception as error:
        stated = str(error) or type(error).__name__
        plugins().tell("medrestore_case_failed", source=str(source), error=stated)
        raise


def run(
    job: Job,
    progress: Progress | None = None,
    *,
    load: LoadModel | None = None,
    written: OnWritten | None = None,
    execute: Callable[[Callable[[], list[Restoration]]], list[Restoration]] | None = None,
) -> tuple[RunRecord, ...]:
    """Read, restore and write what was planned; return a record for each volume.

    Args:
        job: What to do.
        progress: Hears how far it has come.
        load: Gives the model, for scans that share one; None loads it.
        written: Called when everything is written.
        execute: Does what is given to it, the restoration itself, when and where it is to be done.

    Raises:
        MedrestoreError: Anything on the way; nothing is written then.
    """
    progress = progress or Silence()
    progress.stage("read")
    scan = _read(job)
    old = outdated(job.paths, [path for path in (job.scan, job.options.reference) if path is not None])
    with ExitStack() as stack:
        folder = job.paths.trajectory
        trajectory = None if folder is None else stack.enter_context(TrajectoryFolder(folder))

        def work() -> list[Restoration]:
            with thread_count(job.options.restore.threads):
                return _restore_all(job, scan, load or load_model, progress, trajectory)

        results = work() if execute is None else execute(work)
        progress.stage("write")
        records = write_results(job, results, stack, scan.reading)
    remove(old)
    if written is not None:
        written(scan.volumes[0], results[0])
    plugins().tell("medrestore_case_written", records=records, files=job.paths.everything())
    return records


@dataclass(frozen=True)
class _Scan:
    """What was read, and foreseen before it was."""

    volumes: Sequence[Volume]
    references: Sequence[Volume | None]
    foreseen: Forecast
    reading: Reading


def _read(job: Job) -> _Scan:
    """Read the scan and its reference, once the header has not told that it cannot be restored."""
    options, start = job.options, time.perf_counter()
    header = read_header(job.scan, options.reading)
    foreseen = forecast(header, options)
    volumes = read_volumes(header)
    found = reading_findings(volumes[0])
    found += foreseen.findings
    if foreseen.findings:
        volumes = tuple(volume.as_modality(foreseen.modality) for volume in volumes)
    if options.modality is not None:
        found += taken_as(volumes[0], options.modality, "--modality")[1]
        volumes = tuple(taken_as(volume, options.modality, "--modality")[0] for volume in volumes)
    sources = None if job.paths.series is None else check_derivable(volumes, header)
    references = _read_references(job, len(volumes), foreseen)
    if references[0] is not None:
        told = reading_findings(references[0])
        found += tuple(replace(one, text=f"of the reference: {one.text}") for one in told)
    return _Scan(volumes, references, foreseen, Reading(time.perf_counter() - start, found, sources))


def _read_references(job: Job, count: int, foreseen: Forecast) -> Sequence[Volume | None]:
    """Return the truth of each volume; one may serve a whole series."""
    path = job.options.reference
    if path is None:
        return (None,) * count
    header = read_header(path, ReadRequest(job.options.reading.policy))
    if header.volumes not in {1, count}:
        raise InputError(
            f"{path}: a series of {header.volumes} volumes, the scan has {count}; expected as many, or one"
        )
    check_reference(foreseen.grid, header.geometry)
    found = read_volumes(header)
    return found if len(found) == count else found * count


def _restore_all(
    job: Job, scan: _Scan, load: LoadModel, progress: Progress, trajectory: TrajectoryFolder | None
) -> list[Restoration]:
    """Restore every volume with one model, one by one or as one."""
    options, count = job.options.restore, len(scan.volumes)
    model = load(options, scan.foreseen.modality)
    if options.volumes == "joint":
        told = Observers(lambda done, total: progress.stage("restore", done, total))
        return restore_series(
            scan.volumes,
            options,
            references=scan.references,
            model=model,
            observers=told,
            budget=scan.foreseen.budget,
        )
    results: list[Restoration] = []

    def on_progress(done: int, total: int) -> None:
        progress.stage("restore", len(results) * total + done, count * total)

    def on_step(point: TrajectoryPoint) -> None:
        if trajectory is not None:
            trajectory.add(point, len(results) if count > 1 else None)

    observers = Observers(on_progress, on_step if trajectory is not None else None)
    for index, (volume, reference) in enumerate(zip(scan.volumes, scan.references, strict=True)):
        known = Known(
            scan.foreseen.budget,
            scan.volumes[max(index - 1, 0) : index + 2],
            scan.foreseen.seen if index == 0 else None,
        )
        results.append(
            restore(volume, options, reference=reference, model=model, observers=observers, known=known)
        )
    return results
