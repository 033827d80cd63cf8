"""The hooks: API 2. A hook returns declarations and does no work; the work is behind what they declare."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from medrestore.plugin.declarations import (
        FormatSpec,
        MetricSpec,
        NetworkSpec,
        NoiseEstimatorSpec,
        OperatorSpec,
        SamplerSpec,
        VerbSpec,
    )
    from medrestore.plugin.generation import GeneratorSpec
    from medrestore.plugin.spec import ModelSpec
    from medrestore.provenance import RunRecord

PROJECT = "medrestore"
"""Name of the entry point group, and of the hooks' marker."""

REMOVED = {
    "medrestore_readers": "medrestore_readers and its ReaderSpec were of API 1: implement "
    "medrestore_formats, which returns a medrestore.plugin.FormatSpec for each format",
    "medrestore_case_finished": "medrestore_case_finished was of API 1: implement "
    "medrestore_volume_restored, called when a volume is restored, or "
    "medrestore_case_written, called when its files are there",
}
"""What was a hook once, and what is to be done instead."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as the implementation of the hook of its name."""


@hookspec
def medrestore_models() -> Iterable[ModelSpec]:
    """Declare models. Called whenever models are listed: import nothing heavy before `ModelSpec.load`."""
    return ()


@hookspec
def medrestore_operators() -> Iterable[OperatorSpec]:
    """Declare linear degradations with their adjoints."""
    return ()


@hookspec
def medrestore_metrics() -> Iterable[MetricSpec]:
    """Declare scores of an image against a reference."""
    return ()


@hookspec
def medrestore_formats() -> Iterable[FormatSpec]:
    """Declare file formats. Called whenever plugins load: import nothing heavy before `FormatSpec.load`."""
    return ()


@hookspec
def medrestore_networks() -> Iterable[NetworkSpec]:
    """Declare networks that model folders and training configurations can name."""
    return ()


@hookspec
def medrestore_samplers() -> Iterable[SamplerSpec]:
    """Declare ways to draw posterior samples."""
    return ()


@hookspec
def medrestore_noise_estimators() -> Iterable[NoiseEstimatorSpec]:
    """Declare ways to find the noise level of a scan."""
    return ()


@hookspec
def medrestore_generators() -> Iterable[GeneratorSpec]:
    """Declare generators: models that make whole volumes of noise alone."""
    return ()


@hookspec
def medrestore_verbs() -> Iterable[VerbSpec]:
    """Declare commands. Called for `medrestore --help`: import nothing heavy before `VerbSpec.load`."""
    return ()


@hookspec
def medrestore_volume_restored(record: RunRecord) -> None:
    """Observe that a volume was restored, before anything is written: `output` of its record is empty."""


@hookspec
def medrestore_case_written(records: tuple[RunRecord, ...], files: tuple[Path, ...]) -> None:
    """Observe that all files and folders of a case have their names; a record for each of its volumes."""


@hookspec
def medrestore_case_failed(source: str, error: str) -> None:
    """Observe that a case was refused or failed, with the message that the user is given."""
