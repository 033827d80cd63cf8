"""The process that a batch gives its cases to: ``python -m medrestore.cli.worker``.

Takes a case as a line of JSON on standard input, answers with lines of JSON on what was standard output when
it started; see `medrestore.batch.worker`. It ends with its input: no worker outlives its batch.
"""

from __future__ import annotations

import errno
import faulthandler
import json
import logging
import os
import queue
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich.console import Console

from medrestore.batch.failures import UNWRITABLE, Kind, describe_os_error
from medrestore.batch.names import without_names
from medrestore.cli.progress import Meter
from medrestore.cli.restoring import Job, run
from medrestore.cli.targets import Form, Wish, choose_form, plan_targets
from medrestore.engine import Restoration, RestoreOptions, load_model
from medrestore.engine.memory import peak_bytes, reset_peak
from medrestore.engine.model import LoadedModel
from medrestore.errors import MedrestoreError, OutputError
from medrestore.io import ReadPolicy
from medrestore.provenance import JSON, RunRecord
from medrestore.report import preview
from medrestore.types import Modality, Task
from medrestore.volume import Volume

_LOG_LINES = 12
_SMALLEST = 1 / 200  # of a stage, between events
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate")


class _Events(Meter):
    """A meter that tells the batch, and nobody else."""

    def __init__(self, channel: Channel) -> None:
        super().__init__("", quiet=True, console=Console(file=sys.stderr, force_terminal=False))
        self._channel = channel
        self._told = -1.0

    def update(self, done: float, total: float, text: str) -> None:
        """Tell how much is done."""
        share = done / total if total else 1.0
        if done >= total:
            self._channel.stage("write")
        elif share - self._told >= _SMALLEST:
            self._told = share
            self._channel.stage("restore", share)


class Channel:
    """The way back to the batch."""

    def __init__(self) -> None:
        # Whatever a plugin prints must not come between the answers.
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def say(self, event: str, **more: JSON) -> None:
        """Send one line."""
        self._stream.write(json.dumps({"event": event, **more}) + "\n")
        self._stream.flush()

    def stage(self, name: str, share: float = 0.0) -> None:
        """Say what is being done."""
        self.say("stage", stage=name, share=share)


def main() -> None:
    """Do what comes, one case after another."""
    # What ends a job often asks all its processes; the batch alone decides, and this one ends with its input.
    for request in (signal.SIGTERM, signal.SIGINT):
        signal.signal(request, signal.SIG_IGN)
    channel = Channel()
    faulthandler.enable()  # where it was when it crashed is the last thing that the batch hears
    # Both quote values from headers, and what is said here ends in the ledger.
    warnings.simplefilter("ignore")
    for name in ("pydicom", "nibabel"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for job in _jobs():
        reset_peak()
        channel.stage("read")
        try:
            facts, endings = _restore(job, channel)
        except BaseException as error:  # noqa: BLE001  a plugin may raise anything; the next case goes on
            channel.say("failed", **_failure(error, job))
        else:
            channel.say("done", facts=facts, endings=list(endings))


def _jobs() -> Iterator[dict[str, Any]]:
    """Yield what comes on standard input, and end the process as soon as that ends, whatever it is doing."""
    lines: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield json.loads(lines.get())


@lru_cache(maxsize=1)
def _load(options: RestoreOptions, modality: Modality) -> LoadedModel:
    return load_model(options, modality)


def _keep(options: RestoreOptions, modality: Modality) -> LoadedModel:
    """Load a model, or return that of the last case if it is the same."""
    return _load(
        RestoreOptions(
            model=options.model,
            task=options.task,
            output=options.output,
            samples=options.samples,
            device=options.device,
            dtype=options.dtype,
        ),
        modality,
    )


def _restore(job: dict[str, Any], channel: Channel) -> tuple[dict[str, JSON], tuple[str, ...]]:
    """Restore one case; return what is known of it, and how the names of its files end."""
    # Paths relative to the folder that was given: what is above it may be the name of a project or a person.
    os.chdir(job["root"])
    scan, out = Path(job["source"]), Path(job["out"])
    options = RestoreOptions(**{**job["restore"], "task": Task(job["restore"].get("task", Task.DENOISE))})
    form = None if job["form"] is None else Form(job["form"])
    form = choose_form(scan, out.with_name("series"), form)
    reference = None if job["reference"] is None else Path(job["reference"])
    wish = Wish(
        out=out if form is not Form.NIFTI else out.with_name(f"{out.name}.nii.gz"),
        save_std=job["save_std"],
        trajectory=None,
        overwrite=True,
        dtype=job["dtype"] if form is not Form.DICOM else "float32",
        samples=max(options.samples, int(options.output == "sample")),
        form=form,
    )
    targets = plan_targets(scan, wish, [] if reference is None else [reference])
    modality = Modality(job["modality"])
    seen: dict[str, JSON] = {}

    def show(scan: Volume, result: Restoration) -> None:
        seen.update(shape=list(scan.shape), spacing_mm=[float(size) for size in scan.spacing])
        if job["pictures"] is not None:
            preview(scan, result.volume, None, Path(job["pictures"]))

    records = run(
        Job(
            scan=scan,
            reference=reference,
            modality=None if modality is Modality.UNKNOWN else modality,
            options=options,
            targets=targets,
            dtype=wish.dtype,
            policy=ReadPolicy(**job["policy"]),
            series=job["series"],
            bids=job["sidecar"],
        ),
        quiet=True,
        meter=_Events(channel),
        load=_keep,
        show=show,
    )
    endings = [path.name[len(out.name) :] for path in (*targets.files(), *targets.folders())]
    return {**_facts(records), **seen}, tuple(sorted(endings))


def _facts(records: tuple[RunRecord, ...]) -> dict[str, JSON]:
    """Return what a table of cases shows; of a series of volumes, what the first one is."""
    first = records[0]
    scores = first.metrics.get("result") if isinstance(first.metrics, dict) else None
    return {
        "model": first.model.name,
        "modality": str(first.settings["modality"]),
        "volumes": len(records),
        "noise": first.noise.get("fraction"),
        "scores": scores,
        "timings": dict(first.timings),
        "peak_bytes": peak_bytes(),
        "predicted": dict(first.predicted),
        "warnings": len({warning for record in records for warning in record.warnings}),
    }


def _failure(error: BaseException, job: dict[str, Any]) -> dict[str, JSON]:
    """Describe an error, without the names of files and folders, which may be those of people."""
    said, kind = str(error) or type(error).__name__, Kind.ERROR
    if isinstance(error, MedrestoreError):
        kind = Kind.REFUSED
        cause = error.__cause__
        if isinstance(error, OutputError) and isinstance(cause, OSError) and cause.errno in UNWRITABLE:
            kind, said = Kind.STOP, f"a result cannot be written ({describe_os_error(cause)})"
    elif isinstance(error, MemoryError) or any(words in said.lower() for words in _OUT_OF_MEMORY):
        kind, said = Kind.MEMORY, "memory did not suffice"
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        kind, said = Kind.STOP, "the disk is full"
    else:
        said = f"{type(error).__name__}: {said}"
    frames = traceback.format_tb(error.__traceback__)[-_LOG_LINES:] if kind is Kind.ERROR else []
    return {
        "kind": str(kind),
        "cause": without_names(said, job),
        "log": without_names("".join(frames), job),
        "peak_bytes": peak_bytes(),
    }


if __name__ == "__main__":
    main()
