"""The process that a batch gives its cases to; run by `medrestore.processes`.

Takes a case as a line of JSON on standard input, answers with lines of JSON on what was standard output when
it started; see `medrestore.batch.workers.client`. It ends with its input: no worker outlives its batch.
"""

from __future__ import annotations

import errno
import faulthandler
import json
import logging
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from medrestore.batch.find.names import remove, temporary_files, without_names
from medrestore.batch.workers.admission import MemoryGate, QueuedCase, SerialExecutor
from medrestore.batch.workers.case_json import header_of, job_of, options_of
from medrestore.batch.workers.failures import UNWRITABLE, Kind, describe_os_error, kind_of
from medrestore.engine import Restoration, RestoreOptions, load_model
from medrestore.engine.machine.memory import peak_bytes, reset_peak
from medrestore.engine.models.load import LoadedModel
from medrestore.errors import MedrestoreError, OutputError, PluginError, is_out_of_memory
from medrestore.job.forecast import assume_modality, forecast
from medrestore.job.progress import Stage
from medrestore.job.run import run
from medrestore.options import FileOptions
from medrestore.processes import ignore_requests
from medrestore.provenance import JSON, RunRecord, series_record
from medrestore.report import preview
from medrestore.types import Modality, Task
from medrestore.volume import Volume

_LOG_LINES = 12
_SMALLEST = 1 / 200  # of a stage, between events


class _CaseProgress:
    """Tells the batch how one case gets on; see `medrestore.job.progress.Progress`."""

    def __init__(self, reporter: CaseReporter, gate: MemoryGate) -> None:
        self._reporter, self._gate = reporter, gate
        self._told = -1.0

    def stage(self, name: Stage, done: int = 0, total: int = 0) -> None:
        """Report the stage, in steps that are large enough."""
        if name != "restore":
            self._reporter.stage(name)
            return
        if self._told < 0:
            self._gate.changed()  # by now the model is measured, if it is to be
        share = done / total if total else 1.0
        if share - self._told >= _SMALLEST:
            self._told = share
            self._reporter.stage(name, share)


class Channel:
    """The way back to the batch."""

    def __init__(self) -> None:
        # Output of a plugin must not come between the answers.
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
    """Reports on one case to the batch."""

    channel: Channel
    case: str

    def say(self, event: str, **more: JSON) -> None:
        """Send one line."""
        self.channel.say(event, case=self.case, **more)

    def stage(self, name: str, share: float = 0.0) -> None:
        """Report the stage; time in the stage ``"wait"`` does not count."""
        self.say("stage", stage=name, share=share)


def main() -> None:
    """Restore cases as they come, two at a time where both fit into memory."""
    ignore_requests()  # it ends with its input
    channel = Channel()
    faulthandler.enable()  # after a crash, the trace is the last output that the batch gets
    # Both libraries quote values from headers, and output of this process ends in the ledger.
    warnings.simplefilter("ignore")
    for name in ("pydicom", "nibabel"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    server = WorkerServer(channel)
    threading.Thread(target=_listen, args=(server,), daemon=True).start()
    server.executor.serve()


def _listen(server: WorkerServer) -> None:
    """Begin cases from standard input, and end the process as soon as the input ends, even in a case."""
    for line in sys.stdin.buffer:
        threading.Thread(target=server.work, args=(json.loads(line),), daemon=True).start()
    os._exit(0)


class WorkerServer:
    """Where cases arrive: each is read and written on a thread of its own, and restored when it is its turn.

    Args:
        channel: Channel on which the outcome of cases is reported.
    """

    def __init__(self, channel: Channel) -> None:
        self.executor = SerialExecutor()
        self._channel = channel
        self._gate = MemoryGate()
        self._loaded: tuple[object, LoadedModel] | None = None

    def work(self, job: dict[str, Any]) -> None:
        """Bring one case to its end."""
        reporter = CaseReporter(self._channel, job["case"])
        try:
            options = options_of(job)
            case = QueuedCase(job, options, partial(self._model_for, job, options))
            with self._gate.enter(case, refused=lambda: reporter.stage("wait")):
                reporter.stage("read")
                facts, endings = self._restore(case, reporter)
        except BaseException as error:  # noqa: BLE001  a plugin may raise anything; the next case goes on
            reporter.say("failed", **_failure(error, job))
        else:
            reporter.say("done", facts=facts, endings=list(endings))

    def _model_for(self, job: dict[str, Any], options: FileOptions) -> LoadedModel | None:
        """Return the model of a case if it is the loaded model; without one, nothing is looked at."""
        if self._loaded is None:
            return None
        return self._model_of(options.restore, assume_modality(header_of(job), options).modality)

    def _model_of(self, options: RestoreOptions, modality: Modality) -> LoadedModel | None:
        """Return a model if it is the loaded model."""
        loaded = self._loaded
        return loaded[1] if loaded is not None and loaded[0] == _model_key(options, modality) else None

    def _load(self, options: RestoreOptions, modality: Modality) -> LoadedModel:
        """Load a model, or return the model of the last case if it is the same."""
        model = self._model_of(options, modality)
        if model is None:
            self._loaded = None  # never two models in memory
            model = load_model(options, modality)
            self._loaded = (_model_key(options, modality), model)
            self._gate.changed()
        return model

    def _restore(self, case: QueuedCase, reporter: CaseReporter) -> tuple[dict[str, JSON], tuple[str, ...]]:
        """Restore one case; return its facts, and the endings of its files."""
        sent, job = case.job, job_of(case.job, case.options)
        seen: dict[str, JSON] = {}
        for left in [] if sent["pictures"] is None else temporary_files(Path(sent["pictures"])):
            remove(left)

        def written(scan: Volume, result: Restoration) -> None:
            seen.update(shape=list(scan.shape), spacing_mm=[float(size) for size in scan.spacing])
            if sent["pictures"] is not None:
                preview(scan, result.volume, None, Path(sent["pictures"]), result.maps)

        def now(work: Callable[[], list[Restoration]]) -> list[Restoration]:
            reset_peak()
            reporter.stage("restore")
            results = work()
            seen["peak_bytes"] = peak_bytes()
            return results

        def execute(work: Callable[[], list[Restoration]]) -> list[Restoration]:
            reporter.stage("wait")
            return self.executor.take(partial(now, work))

        need = case.ask()
        if need is None:  # a measurement is made where nothing else is computed
            seconds = self.executor.take(lambda: forecast(header_of(sent), case.options)).seconds
        else:
            seconds = need.seconds
        reporter.say("predicted", seconds=seconds)
        progress = _CaseProgress(reporter, self._gate)
        records = run(job, progress, load=self._load, written=written, execute=execute)
        name, paths = Path(sent["out"]).name, job.paths
        endings = [path.name[len(name) :] for path in (*paths.files(), *paths.folders())]
        return {**_facts(records), **seen}, tuple(sorted(endings))


def _model_key(options: RestoreOptions, modality: Modality) -> tuple[object, ...]:
    """Return a key of a loaded model: the model, and how it is loaded."""
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


def _facts(records: tuple[RunRecord, ...]) -> dict[str, JSON]:
    """Return the facts that a table of cases shows; of a series, the facts of the first volume.

    Findings are those of all volumes, and the verdict is the worst.
    """
    first = series_record(records)
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
        "findings": sorted({finding.code for finding in first.findings}),
        "verdict": first.judgement and str(first.judgement),
        "bound": first.intervals.get("bound"),
    }


def _failure(error: BaseException, job: dict[str, Any]) -> dict[str, JSON]:
    """Describe an error, without the names of files and folders, which may name a person."""
    stated, kind = str(error) or type(error).__name__, Kind.ERROR
    if isinstance(error, MedrestoreError):
        kind = kind_of(error)
        cause = error.__cause__
        if isinstance(error, OutputError) and isinstance(cause, OSError) and cause.errno in UNWRITABLE:
            kind, stated = Kind.STOP, f"a result cannot be written ({describe_os_error(cause)})"
    elif is_out_of_memory(error):
        kind, stated = Kind.MEMORY, "memory did not suffice"
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        kind, stated = Kind.STOP, "the disk is full"
    else:
        stated = f"{type(error).__name__}: {stated}"
    # If a plugin raised, its author is told where.
    raised = error.__cause__ if isinstance(error, PluginError) else error if kind is Kind.ERROR else None
    frames = [] if raised is None else traceback.format_tb(raised.__traceback__)[-_LOG_LINES:]
    return {
        "kind": str(kind),
        "cause": without_names(stated, job),
        "log": without_names("".join(frames), job),
        "peak_bytes": peak_bytes(),
    }
