"""The files of a restoration: image, maps and sidecar, all together or none."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from medrestore.engine import Restoration
from medrestore.errors import OutputError
from medrestore.files import write
from medrestore.findings import VOXELS_CLIPPED, Finding
from medrestore.io import Sources, WriteReport, atomic_folder, atomic_write
from medrestore.job.series import write_series
from medrestore.job.spec import Job, Reading
from medrestore.paths import open_file
from medrestore.provenance import JSON, RunRecord, Step
from medrestore.volume import Volume


def write_results(
    job: Job, results: Sequence[Restoration], stack: ExitStack, reading: Reading
) -> tuple[RunRecord, ...]:
    """Write image, maps and sidecar under temporary names, which `stack` makes final when all is well.

    Args:
        job: The job, with the names of its outputs.
        results: The result of each volume.
        stack: Closed by the caller, after which everything has its name.
        reading: How the scan was read.

    Returns:
        The records as they are in the sidecar.
    """
    paths, start = job.paths, time.perf_counter()
    # The name entered last appears first: the image, once it appears, has its evidence beside it.
    held = {path: stack.enter_context(atomic_write(path, paths.overwrite)) for path in paths.files()[::-1]}
    for name, source in job.options.beside.items():
        copy = stack.enter_context(atomic_write(paths.sidecar.with_name(name), overwrite=True))
        with open_file(source) as stream:
            copy.write_bytes(stream.read())
    held |= {path: stack.enter_context(atomic_folder(path, paths.overwrite)) for path in paths.folders()}
    output, more = _write_images(job, results, held, reading.sources)
    if paths.trajectory is not None:
        output["trajectory"] = paths.trajectory.name
    seconds = {"read": reading.seconds, "write": time.perf_counter() - start}
    dtype = job.options.output.dtype
    records = tuple(
        replace(
            result.record,
            settings={**result.record.settings, "modality": result.volume.modality, "out_dtype": dtype},
            output={**output, **({"volume": index} if len(results) > 1 else {})},
            timings={**result.record.timings, **seconds},
            findings=(*result.record.findings, *reading.findings, *more),
        )
        for index, result in enumerate(results)
    )
    # A name that is no UTF-8 is escaped, and json reads it back as it is.
    text = sidecar(records, job.options.bids)
    held[paths.sidecar].write_text(text, encoding="utf-8", errors="backslashreplace")
    return records


def _write_images(
    job: Job, results: Sequence[Restoration], held: Mapping[Path, Path], sources: Sources | None
) -> tuple[dict[str, JSON], tuple[Finding, ...]]:
    """Write everything but the sidecar; return its entries of the record, and findings."""
    paths, output, findings = job.paths, dict[str, JSON](), tuple[Finding, ...]()
    maps = {name: [_map(result, name) for result in results] for name in job.options.maps}
    if paths.series is not None:
        output, findings = write_series(paths, held, results, maps, sources)
    if paths.image is not None:
        images = [result.volume for result in results]
        report = write(images, held[paths.image], dtype=job.options.output.dtype, overwrite=True)
        output |= {
            **_entry(paths.image, report),
            "dtype": report.dtype,
            "clipped_voxels": report.clipped_voxels,
        }
        if report.clipped_voxels:
            text = f"{report.clipped_voxels} voxels did not fit into {report.dtype} and were clipped"
            findings += (VOXELS_CLIPPED.found(text, voxels=report.clipped_voxels),)
    for name, path in paths.maps.items():
        output[name] = _entry(path, write(maps[name], held[path], overwrite=True))
    return output, findings


def remove(outdated: Sequence[Path]) -> None:
    """Remove files of an earlier run under names that this run does not have.

    Raises:
        OutputError: One cannot be removed.
    """
    for path in outdated:
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError as error:
            raise OutputError(
                f"{path}: an earlier result, cannot be removed ({error.strerror or error}); the new result "
                "is whole"
            ) from error


def sidecar(records: Sequence[RunRecord], bids: Mapping[str, JSON] | None = None) -> str:
    """Return the text of a sidecar: a record, or for a 4-D series a list of the volumes' records.

    Keys of BIDS, if any, stand before the keys of the record; BIDS takes no list, which then is ``volumes``.
    """
    entries = [json.loads(record.to_json()) for record in records]
    whole = entries[0] if len(entries) == 1 else entries
    if bids:
        whole = {**bids, **(whole if isinstance(whole, dict) else {"volumes": whole})}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _entry(path: Path, report: WriteReport) -> dict[str, JSON]:
    return {"path": path.name, "sha256": report.sha256}


def _map(result: Restoration, name: str) -> Volume:
    """Return a map; the deviation is 0 in a volume without noise, which was returned unchanged."""
    if name != "std" or name in result.maps:  # any other map that is asked for is there, and 0 would be wrong
        return result.maps[name]
    zeros = np.zeros(result.volume.shape, dtype=np.float32)
    return result.volume.with_array(zeros, Step(f"restore:{name}", {"sigma": 0.0}))
