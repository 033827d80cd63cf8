"""What needs torch, in a process of its own: what kills it, kills one series and not the node.

Run by `medrestore.processes`, with a job as JSON on standard input. What went wrong, empty if
nothing did, comes back as JSON on standard output: what libraries and plugins print may quote headers.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from medrestore.engine.models.checks import check_outputs
from medrestore.engine.models.find import find_model
from medrestore.errors import ConfigError, MedrestoreError, ModelError, PluginError, unforeseen
from medrestore.io import DICOM
from medrestore.node.config import Route, load_routes
from medrestore.options import (
    FileOptions,
    OutputRequest,
    ReadPolicy,
    ReadRequest,
    RestoreOptions,
)
from medrestore.processes import ignore_requests, loading
from medrestore.types import Modality


def main() -> None:
    """Do what standard input says: restore a series, or look for what routes name."""
    ignore_requests()
    _die_with(os.getppid())
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)
        try:
            job = json.load(sys.stdin)
            _check(Path(job["routes"])) if "routes" in job else _restore(job)
        except Exception as error:  # noqa: BLE001  whatever it is, it is the end of this series alone
            json.dump(_described(error), answer)
        else:
            json.dump({"reason": ""}, answer)


def _restore(job: dict[str, Any]) -> None:
    """Restore every volume of a series, and write them as one; the record goes beside it."""
    with loading():
        from medrestore.job.run import restore_file  # noqa: PLC0415  it brings torch, which names do without

    options = FileOptions(
        restore=RestoreOptions(**job["options"]),
        reading=ReadRequest(ReadPolicy(**job.get("reading", {}))),
        output=OutputRequest(form=DICOM.name, overwrite=True),
    )
    restore_file(job["source"], job["target"], options)


def _check(routes: Path) -> None:
    """Look for the models, samplers and estimators that routes name."""
    for route in load_routes(routes).routes:
        try:
            _check_route(route)
        except (ConfigError, ModelError, PluginError) as error:
            raise ConfigError(f"route to {route.destination} for {route.modality}: {error}") from error


def _check_route(route: Route) -> None:
    options = route.restore_options()
    ref, spec = find_model(options, Modality(route.modality))
    check_outputs(ref, spec, options)


def _described(error: Exception) -> dict[str, str]:
    """Say what went wrong without words of others, who may quote values of a header."""
    reason = str(error) if isinstance(error, MedrestoreError) else unforeseen(error)
    return {"reason": reason, "trace": "".join(traceback.format_tb(error.__traceback__))}


def _die_with(parent: int) -> None:
    """End when the node is killed: the next one restores the series again, and one of them is enough."""
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the node is gone")
