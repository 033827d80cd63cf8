"""One scan with all that is asked of it and every name that it will write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from medrestore.engine import LoadedModel, Restoration, RestoreOptions
from medrestore.engine.models.load import find_model
from medrestore.findings import Finding
from medrestore.io import Sources
from medrestore.job.form import check_reading
from medrestore.job.outputs import OutputPaths, name_outputs, result_suffix
from medrestore.options import FileOptions
from medrestore.types import Modality, Task
from medrestore.volume import Volume

T = TypeVar("T")
LoadModel = Callable[[RestoreOptions, Modality], LoadedModel]
"""Gives the model of a scan, for scans that share one."""
OnWritten = Callable[[Volume, Restoration], None]
"""Called with the first volume of a scan and its result, when they are written."""


@dataclass(frozen=True)
class Job:
    """One scan to restore.

    Attributes:
        scan: What to read.
        paths: What to write.
        options: How.
    """

    scan: Path
    paths: OutputPaths
    options: FileOptions


@dataclass(frozen=True)
class Reading:
    """What is known of how a scan was read, for those who write its result.

    Attributes:
        seconds: How long it took.
        findings: What should be known of it.
        sources: The images of the DICOM series that a derived one is made from; None where none is.
    """

    seconds: float
    findings: tuple[Finding, ...]
    sources: Sources | None = None


def plan_job(scan: Path, out: Path, options: FileOptions) -> Job:
    """Name what the restoration of a scan will write, and check that it can be.

    Raises:
        OutputError: A name is taken, has another suffix, or its folder is missing.
        ConfigError: What is asked for does not go together.
    """
    check_reading(scan, options.reading)
    options.output.check_samples(options.samples)
    protected = [] if options.reference is None else [options.reference]
    suffix = result_suffix(_task(options))
    return Job(scan, name_outputs(scan, out, options.output, suffix, protected), options)


def _task(options: FileOptions) -> Task:
    """Return what will be done: what a model that is named does, else what is asked for."""
    asked = options.restore
    return asked.task if asked.model is None else find_model(asked, Modality.UNKNOWN)[1].task
