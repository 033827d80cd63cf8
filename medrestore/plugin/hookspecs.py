"""The hooks: API 2. A hook returns declarations and does no work; the work is behind what they declare."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from medrestore.plugin.declarations import FormatSpec, MetricSpec, OperatorSpec
    from medrestore.plugin.spec import ModelSpec
    from medrestore.provenance import RunRecord

PROJECT = "medrestore"
"""Name of the entry point group, and of the hooks' marker."""

REMOVED = {
    "medrestore_readers": "medrestore_readers and its ReaderSpec were of API 1: implement "
    "medrestore_formats, which returns a medrestore.plugin.FormatSpec for each format",
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
def medrestore_case_finished(record: RunRecord) -> None:
    """Observe that a scan was restored (not yet written). What is raised is logged and stops nothing."""
