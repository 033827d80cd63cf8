"""One scan with its options and every name that its restoration will write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from medrestore.engine.models.find import find_model
from medrestore.findings import Finding
from medrestore.io import Sources
from medrestore.job.output_format import check_reading
from medrestore.job.outputs import OutputPaths, name_outputs, result_suffix
from medrestore.options import FileOptions, RestoreOptions
from medrestore.types import Modality, Task
from medrestore.volume import Volume

if TYPE_CHECKING:
    from medrestore.engine import LoadedModel, Restoration

T = TypeVar("T")
LoadModel: TypeAlias = "Callable[[RestoreOptions, Modality], LoadedModel]"
"""Gives the model of a scan, for scans that share a model."""
OnWritten: TypeAlias = "Callable[[Volume, Restoration], None]"
"""Called with the first volume of a scan and its result, when the results are written."""


@dataclass(frozen=True)
class Job:
    """One scan to restore.

    Attributes:
        scan: Path of the scan to read.
        paths: Outputs to write.
        options: How the scan is restored.
    """

    scan: Path
    paths: OutputPaths
    options: FileOptions


@dataclass(frozen=True)
class Reading:
    """How a scan was read, for the writers of its result.

    Attributes:
        seconds: Time that reading took.
        findings: Findings about the reading.
        sources: Images of the DICOM series that a derived series is made from; None if none is made.
    """

    seconds: float
    findings: tuple[Finding, ...]
    sources: Sources | None = None


def plan_job(scan: Path, out: Path, options: FileOptions, *, exact: bool = False) -> Job:
    """Name the outputs of the restoration of a scan, and check that they can be written.

    Args:
        scan: The scan.
        out: File, or folder.
        options: What is asked for.
        exact: Whether `out` is the very name of the result, and no folder to put it into.

    Raises:
        OutputError: A name is taken, has another suffix, or its folder is missing.
        ConfigError: The options contradict each other.
    """
    check_reading(scan, options.reading)
    options.output.check_samples(options.samples)
    protected = [] if options.reference is None else [options.reference]
    suffix = None if exact else result_suffix(_task(options))
    return Job(scan, name_outputs(scan, out, options.output, suffix, protected, options.maps), options)


def _task(options: FileOptions) -> Task:
    """Return the task: the task of a model that is named, else the task that is asked for."""
    asked = options.restore
    return asked.task if asked.model is None else find_model(asked, Modality.UNKNOWN)[1].task
