"""A case as a line of JSON, which a batch writes and a worker reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medrestore.batch.find.case import Case
from medrestore.batch.settings import Settings
from medrestore.files import read_header
from medrestore.geometry import Geometry
from medrestore.io import DICOM, ReadPolicy, ReadRequest, ScanHeader
from medrestore.job.output_format import choose_output_format
from medrestore.job.spec import Job, plan_job
from medrestore.options import BOTH, FileOptions, OutputRequest, RestoreOptions
from medrestore.provenance import JSON
from medrestore.types import Modality, Task


def case_json(case: Case, settings: Settings) -> dict[str, JSON]:
    """Return all of a case that a worker needs, but for the path of its result."""
    return {
        "case": case.id,
        "root": str(case.root),
        "source": str(case.source),
        "series": case.series,
        "header": None if case.header is None else _header_json(case.header),
        "reference": None if case.reference is None else str(case.reference),
        "modality": case.modality if settings.modality is None else settings.modality,
        "restore": {**settings.restore, **({} if case.model is None else {"model": case.model})},
        # A batch may hold other scans as well, and options of reading are for DICOM.
        "policy": dict(settings.policy) if case.series is not None else _for_files(settings),
        "form": settings.form,
        "dtype": settings.dtype,
        "save_std": settings.save_std,
        "sr": settings.sr,
        "sidecar": dict(case.sidecar),
        "beside": {name: str(path) for name, path in case.beside.items()},
    }


def options_of(case: dict[str, Any]) -> FileOptions:
    """Return how a case is restored.

    Raises:
        ConfigError: An option is out of range.
    """
    restore, modality = case["restore"], Modality(case["modality"])
    return FileOptions(
        restore=RestoreOptions(**{**restore, "task": Task(restore.get("task", Task.DENOISE))}),
        reading=ReadRequest(ReadPolicy(**case["policy"]), case["series"]),
        output=OutputRequest(
            form=case["form"],
            dtype=case["dtype"],
            save_std=case["save_std"],
            sr=case["sr"],
            overwrite=True,
        ),
        modality=None if modality is Modality.UNKNOWN else modality,
        reference=None if case["reference"] is None else Path(case["reference"]),
        bids=case["sidecar"],
        beside={name: Path(path) for name, path in case["beside"].items()},
    )


def header_of(case: dict[str, Any]) -> ScanHeader:
    """Return the header of a case: as the batch sent it, else from its file.

    Raises:
        InputError, GeometryError: See `medrestore.io.read_header`.
    """
    path, sent = Path(case["root"], case["source"]), case["header"]
    if sent is None:
        return read_header(path)
    geometry = Geometry(tuple(sent["shape"]), np.asarray(sent["affine"]))
    return ScanHeader(path, geometry, sent["volumes"], Modality(sent["modality"]), sent["stated"])


def job_of(case: dict[str, Any], options: FileOptions) -> Job:
    """Return the job of a case, with the names of its outputs; its root is the current folder.

    Raises:
        ConfigError, OutputError: See `plan_job`.
    """
    scan, out = Path(case["source"]), Path(case["out"])
    form = choose_output_format(scan, out.with_name("series"), options.output.form)
    if not form.series:
        return plan_job(scan, out.with_name(f"{out.name}{form.suffix}"), options, exact=True)
    if form.image is None:
        output = replace(options.output, form=DICOM.name, dtype="float32")
    else:
        output = replace(options.output, form=BOTH)
    return plan_job(scan, out, replace(options, output=output), exact=True)


def _for_files(settings: Settings) -> dict[str, JSON]:
    return ReadPolicy.from_json(settings.policy).for_files().to_json()


def _header_json(header: ScanHeader) -> dict[str, JSON]:
    """Return the header of a scan, without the data that its reader goes on from."""
    return {
        "shape": list(header.geometry.shape),
        "affine": header.geometry.affine.tolist(),
        "volumes": header.volumes,
        "modality": header.modality,
        "stated": header.stated,
    }
