"""The process that a batch gives its cases to: ``python -m medrestore.batch.workers.main``.

Takes a case as a line of JSON on standard input, answers with lines of JSON on what was standard output when
it started; see `medrestore.batch.workers.client`. It ends with its input: no worker outlives its batch.
"""

from __future__ import annotations

import errno
import faulthandler
import json
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from medrestore.batch.find.names import remove, temporary_files, without_names
from medrestore.batch.workers.admission import MemoryGate, QueuedCase, SerialExecutor
from medrestore.batch.workers.failures import UNWRITABLE, Kind, describe_os_error
from medrestore.cli.progress import Meter
from medrestore.engine import Restoration, RestoreOptions, load_model
from medrestore.engine.machine.memory import peak_bytes, reset_peak
from medrestore.engine.models.load import LoadedModel
from medrestore.errors import MedrestoreError, OutputError, PluginError, is_out_of_memory
from medrestore.io import ReadPolicy
from medrestore.job.outputs import OutputFormat, OutputRequest, choose_form, plan_targets
from medrestore.job.run import Job, check_memory, run
from medrestore.provenance import JSON, RunRecord
from medrestore.report import preview
from medrestore.types import Modality, Task
from medrestore.volume import Volume

_LOG_LINES = 12
_SMALLEST = 1 / 200  # of a stage, between events


class _Events(Meter):
    """A meter that tells the batch, and nobody else."""

    def __init__(self, voice: CaseReporter, floor: MemoryGate) -> None:
        super().__init__("", quiet=True, console=Console(file=sys.stderr, force_terminal=False))
        self._voice, self._floor = voice, floor
        self._told = -1.0

    def update(self, done: float, total: float, text: str) -> None:
        """Tell how much is done."""
        if self._told < 0:
            self._floor.changed()  # by now the model is measured, if it is to be
        share = done / total if total else 1.0
        if done >= total:
            self._voice.stage("write")
        elif share - self._told >= _SMALLEST:
            self._told = share
            self._voice.stage("restore", share)


class Channel:
    """The way back to the batch."""

    def __init__(self) -> None:
        # Whatever a plugin prints must not come between the answers.
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def say(self, event: str, **more: JSON) -> None:
        """Send one line."""
        with self._lock:
            self._stream.write(json.dumps({"event": event, **more}) + "\n")
            self._stream.flush()


@dataclass(frozen=True)
class CaseReporter:
    """What is said of one case."""

    channel: Channel
    case: str

    def say(self, event: str, **more: JSON) -> None:
        """Send one line."""
        self.channel.say(event, case=self.case, **more)

    def stage(self, name: str, share: float = 0.0) -> None:
        """Say what is being done; the time of what is called ``"wait"`` does not count."""
        self.say("stage", stage=name, share=share)


def main() -> None:
    """Do what comes, two cases at a time where they fit side by side."""
    # What ends a job often asks all its processes; the batch alone decides, and this one ends with its input.
    for request in (signal.SIGTERM, signal.SIGINT):
        signal.signal(request, signal.SIG_IGN)
    channel = Channel()
    faulthandler.enable()  # where it was when it crashed is the last thing that the batch hears
    # Both quote values from headers, and what is said here ends in the ledger.
    warnings.simplefilter("ignore")
    for name in ("pydicom", "nibabel"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    desk = WorkerServer(channel)
    threading.Thread(target=_listen, args=(desk,), daemon=True).start()
    desk.turns.serve()


def _listen(desk: WorkerServer) -> None:
    """Begin what comes on standard input, and end the process as soon as that ends, whatever it is doing."""
    for line in sys.stdin.buffer:
        threading.Thread(target=desk.work, args=(json.loads(line),), daemon=True).start()
    os._exit(0)


class WorkerServer:
    """Where cases arrive: each is read and written on a thread of its own, and restored when it is its turn.

    Args:
        channel: Where it is told what becomes of them.
    """

    def __init__(self, channel: Channel) -> None:
        self.turns = SerialExecutor()
        self._channel = channel
        self._floor = MemoryGate()
        self._loaded: tuple[object, LoadedModel] | None = None

    def work(self, job: dict[str, Any]) -> None:
        """Bring one case to its end."""
        voice = CaseReporter(self._channel, job["case"])
        try:
            stated = job["restore"]
            options = RestoreOptions(**{**stated, "task": Task(stated.get("task", Task.DENOISE))})
            guest = QueuedCase(job, options, partial(self._model_of, options, Modality(job["modality"])))
            with self._floor.enter(guest, refused=lambda: voice.stage("wait")):
                voice.stage("read")
                facts, endings = self._restore(guest, voice)
        except BaseException as error:  # noqa: BLE001  a plugin may raise anything; the next case goes on
            voice.say("failed", **_failure(error, job))
        else:
            voice.say("done", facts=facts, endings=list(endings))

    def _model_of(self, options: RestoreOptions, modality: Modality) -> LoadedModel | None:
        """Return a model if it is the one that is loaded."""
        loaded = self._loaded
        return loaded[1] if loaded is not None and loaded[0] == _model_key(options, modality) else None

    def _load(self, options: RestoreOptions, modality: Modality) -> LoadedModel:
        """Load a model, or return that of the last case if it is the same."""
        model = self._model_of(options, modality)
        if model is None:
            self._loaded = None  # not two models in memory
            model = load_model(options, modality)
            self._loaded = (_model_key(options, modality), model)
            self._floor.changed()
        return model

    def _restore(self, guest: QueuedCase, voice: CaseReporter) -> tuple[dict[str, JSON], tuple[str, ...]]:
        """Restore one case; return what is known of it, and how the names of its files end."""
        job, wanted = guest.job, _describe(guest.job, guest.options)
        seen: dict[str, JSON] = {}
        for left in [] if job["pictures"] is None else temporary_files(Path(job["pictures"])):
            remove(left)

        def show(scan: Volume, result: Restoration) -> None:
            seen.update(shape=list(scan.shape), spacing_mm=[float(size) for size in scan.spacing])
            if job["pictures"] is not None:
                preview(scan, result.volume, None, Path(job["pictures"]))

        def now(work: Callable[[], list[Restoration]]) -> list[Restoration]:
            reset_peak()
            voice.stage("restore")
            results = work()
            seen["peak_bytes"] = peak_bytes()
            return results

        def turn(work: Callable[[], list[Restoration]]) -> list[Restoration]:
            voice.stage("wait")
            return self.turns.take(partial(now, work))

        if guest.ask() is None:  # what has to be measured is measured where nothing else is computed
            self.turns.take(partial(check_memory, wanted))
        meter = _Events(voice, self._floor)
        records = run(wanted, quiet=True, meter=meter, load=self._load, show=show, turn=turn)
        name, targets = Path(job["out"]).name, wanted.targets
        endings = [path.name[len(name) :] for path in (*targets.files(), *targets.folders())]
        return {**_facts(records), **seen}, tuple(sorted(endings))


def _model_key(options: RestoreOptions, modality: Modality) -> tuple[object, ...]:
    """Return all that says which model is loaded, and how."""
    requested = options
    return (
        requested.model,
        requested.task,
        requested.output,
        bool(requested.samples),
        requested.device,
        requested.dtype,
        modality,
    )


def _describe(job: dict[str, Any], options: RestoreOptions) -> Job:
    """Return what is to be done, with the names of what it writes; its root is the current folder."""
    scan, out = Path(job["source"]), Path(job["out"])
    form = choose_form(
        scan, out.with_name("series"), None if job["form"] is None else OutputFormat(job["form"])
    )
    reference = None if job["reference"] is None else Path(job["reference"])
    requested = OutputRequest(
        out=out if form is not OutputFormat.NIFTI else out.with_name(f"{out.name}.nii.gz"),
        save_std=job["save_std"],
        trajectory=None,
        overwrite=True,
        dtype=job["dtype"] if form is not OutputFormat.DICOM else "float32",
        samples=max(options.samples, int(options.output == "sample")),
        form=form,
    )
    modality = Modality(job["modality"])
    return Job(
        scan=scan,
        reference=reference,
        modality=None if modality is Modality.UNKNOWN else modality,
        options=options,
        targets=plan_targets(scan, requested, [] if reference is None else [reference]),
        dtype=requested.dtype,
        policy=ReadPolicy(**job["policy"]),
        series=job["series"],
        bids=job["sidecar"],
    )


def _facts(records: tuple[RunRecord, ...]) -> dict[str, JSON]:
    """Return what a table of cases shows; of a series of volumes, what the first one is."""
    first = records[0]
    scores = first.metrics.get("result") if isinstance(first.metrics, dict) else None
    return {
        "model": first.model.name,
        "task": str(Task.SUPERRES if first.slices else Task.DENOISE),
        "modality": str(first.settings["modality"]),
        "volumes": len(records),
        "noise": first.noise.get("fraction"),
        "sigma": first.noise.get("sigma"),
        "scores": scores,
        "timings": dict(first.timings),
        "predicted": dict(first.predicted),
        "warnings": len({warning for record in records for warning in record.warnings}),
    }


def _failure(error: BaseException, job: dict[str, Any]) -> dict[str, JSON]:
    """Describe an error, without the names of files and folders, which may be those of people."""
    stated, kind = str(error) or type(error).__name__, Kind.ERROR
    if isinstance(error, MedrestoreError):
        kind = Kind.REFUSED
        cause = error.__cause__
        if isinstance(error, OutputError) and isinstance(cause, OSError) and cause.errno in UNWRITABLE:
            kind, stated = Kind.STOP, f"a result cannot be written ({describe_os_error(cause)})"
    elif is_out_of_memory(error):
        kind, stated = Kind.MEMORY, "memory did not suffice"
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        kind, stated = Kind.STOP, "the disk is full"
    else:
        stated = f"{type(error).__name__}: {stated}"
    # Of a plugin that raised, its author is told where.
    raised = error.__cause__ if isinstance(error, PluginError) else error if kind is Kind.ERROR else None
    frames = [] if raised is None else traceback.format_tb(raised.__traceback__)[-_LOG_LINES:]
    return {
        "kind": str(kind),
        "cause": without_names(stated, job),
        "log": without_names("".join(frames), job),
        "peak_bytes": peak_bytes(),
    }


if __name__ == "__main__":
    main()
