"""The work of `medrestore batch` once its options are understood: workers, the plan, the report."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medrestore.batch import BatchOptions, Case, Found, Settings, State, run_batch
from medrestore.batch.lock import hold
from medrestore.batch.reporting import write_report
from medrestore.batch.roles import Restorer
from medrestore.batch.workers.case_json import case_json, options_of
from medrestore.batch.workers.client import LEAST_LIMIT, TIMES_PREDICTED, Worker
from medrestore.cli.batch_progress import BatchProgress, names_of, with_names
from medrestore.cli.output import if_anybody_hears
from medrestore.cli.progress import duration
from medrestore.cli.table import print_table
from medrestore.engine.intervals.calibration import find_calibration
from medrestore.engine.machine.memory import usable_bytes
from medrestore.engine.models.find import find_model
from medrestore.errors import InputError, MedrestoreError, OutputError, unforeseen
from medrestore.options import BatchRun, RestoreOptions, parse_memory
from medrestore.processes import module_arguments
from medrestore.provenance import JSON
from medrestore.types import Modality

if TYPE_CHECKING:
    from medrestore.batch.plan import CasePlan

MODULE = module_arguments("medrestore.batch.workers.main")
SOME_FAILED = 3
_BESIDE = 250_000_000  # bytes of a Dask worker, which computes nothing itself
_TURN = 120.0  # seconds to wait for another shard that writes the report


@dataclass(frozen=True)
class Workers:
    """Which processes restore.

    Attributes:
        count: How many on this machine.
        devices: A device for each; None for that of the settings.
        scheduler: Address of a Dask scheduler, whose workers are taken instead; ``slurm`` to start one.
        time_limit: Seconds for each case; None for the limit of `default_limit`, infinity for none.
        max_memory: What they may take together; None for what is free or allowed.
    """

    count: int = 1
    devices: Sequence[str] | None = None
    scheduler: str | None = None
    time_limit: float | None = None
    max_memory: int | str | None = None

    @classmethod
    def of(cls, run: BatchRun, max_memory: int | str | None) -> Workers:
        """Return what is asked for."""
        devices = None if run.devices is None else run.devices.split(",")
        return cls(run.workers, devices, run.scheduler, run.time_limit, max_memory)

    def start(self) -> list[Restorer]:
        """Return the restorers; processes start with their first case.

        Raises:
            ConfigError: There are to be several, or a cluster, and Dask is not installed.
        """
        if self.scheduler is not None:
            from medrestore.batch.workers.dask import cluster_workers

            return list(cluster_workers(self.scheduler, MODULE, self.time_limit, self.count))
        devices = self.devices or ()
        count = len(devices) or self.count
        if count > 1:
            from medrestore.batch.workers.dask import local_workers

            if self.max_memory is None:
                memory = max(usable_bytes() - count * _BESIDE, 0)
            else:
                memory = parse_memory(self.max_memory)
            return list(local_workers(MODULE, count, self.time_limit, devices=devices, memory=memory))
        changes: dict[str, JSON] = {"device": devices[0]} if devices else {}
        alone = Worker((sys.executable, *MODULE), time_limit=self.time_limit, changes=changes)
        return list(alone.slots())


def execute(
    found: Found, out: Path, settings: Settings, options: BatchOptions, workers: Workers, *, quiet: bool
) -> int:
    """Run a batch and write its report; return the exit status.

    Raises:
        MedrestoreError: Nothing can start, or the batch cannot go on.
    """
    mine = [case for case in found.cases if options.shard.has(case.id)]
    _say_left_out(found, options, quiet=quiet)
    options = replace(options, model_hash=_model_hash(settings))
    # A scheduler sends a signal before it ends a job; then the batch ends its workers and frees the folder.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    names = names_of(found, options)
    with BatchProgress(len(mine), quiet=quiet, hide_names=options.hide_names, names=names) as progress:
        entries = run_batch(found.cases, out, settings, workers.start(), options, progress)
    try:
        with hold(out, "report", wait=_TURN):  # shards that end at the same time take turns
            single = options.single_file
            write_report(out, found.cases, str(settings.task), single_files=single)
    except OutputError as error:
        # Results stay without a report; the shard that ends last reports on all cases.
        typer.echo(f"Warning: the report is not up to date: {error}", err=True)
    except Exception as error:  # noqa: BLE001  the cases are done, and in the ledger
        typer.echo(f"Warning: the report is not up to date: this is a bug, {unforeseen(error)}", err=True)
    failed = sum(entry.state is State.FAILED for entry in entries.values())
    if not quiet:
        done = len(entries) - failed
        _say(f"{done} done ({progress.before} before), {failed} failed, of {len(mine)}; results in {out}")
    return SOME_FAILED if failed or found.unlisted else 0


def refuse_none(found: Found, *, hide_names: bool) -> None:
    """Refuse to go on without any case.

    Raises:
        InputError: There is none.
    """
    if not found.cases:
        reasons = [*found.described(hide_names=hide_names), found.unread(hide_names=hide_names)]
        why = "; ".join(filter(None, reasons))
        raise InputError(f"no scan to restore{': ' if why else ''}{why}")


def _say_left_out(found: Found, options: BatchOptions, *, quiet: bool = False) -> None:
    for line in [] if quiet else found.described(hide_names=options.hide_names):
        _say(f"left out: {line}")
    if unread := found.unread(hide_names=options.hide_names):  # nobody chose that, so it is said in any case
        advice = "let it be read, or leave it out with --exclude"
        typer.echo(f"Warning: left out: {unread}; {advice}", err=True)


def _say(text: str) -> None:
    with if_anybody_hears():
        typer.echo(text)


def print_plan(
    found: Found, out: Path, settings: Settings, options: BatchOptions, time_limit: float | None
) -> None:
    """Print the cases, the memory and time of each, and which files are left out and why."""
    from medrestore.batch.plan import plan_case  # it brings torch, which a batch leaves to its workers

    plans = [plan_case(case, settings) for case in found.cases if options.shard.has(case.id)]
    names = names_of(found, options)
    print_table(
        ("case", "scan", "kind", "modality", "voxels", "model", "time", "memory", f"result in {out.name}"),
        [_cells(plan, names) for plan in plans],
    )
    tried = [plan for plan in plans if not plan.refused]
    known = [one for plan in tried if (one := plan.forecast) is not None and one.budget is not None]
    seconds = sum(one.seconds or 0.0 for one in known)
    memory = max((one.peak_bytes or 0 for one in known), default=0)
    disk = sum(one.disk_bytes for one in known)
    typer.echo(
        f"{len(tried)} to restore, {len(plans) - len(tried)} refused; predicted for {len(known)}, one by "
        f"one: {duration(seconds)}, {memory / 1e9:.2f} GB of memory, at most {disk / 1e9:.1f} GB of disk"
    )
    typer.echo(_limit_in_words(time_limit))
    _say_left_out(found, options)


def _limit_in_words(time_limit: float | None) -> str:
    if time_limit is None:
        return (
            f"a case is ended after {TIMES_PREDICTED:g} times its predicted time, at the earliest after "
            f"{duration(LEAST_LIMIT)} (--time-limit)"
        )
    if math.isinf(time_limit):
        return "no case is ended for the time that it takes"
    return f"a case is ended after {duration(time_limit)}"


def _cells(plan: CasePlan, names: Mapping[str, str]) -> tuple[str, ...]:
    case, seen = plan.case, plan.forecast
    return (
        case.id,
        str(case.source),
        case.kind,
        str(case.modality if seen is None else seen.modality),
        _size(plan),
        "" if seen is None else seen.model,
        "" if seen is None or seen.seconds is None else duration(seen.seconds),
        "" if seen is None or seen.peak_bytes is None else f"{seen.peak_bytes / 1e9:.2f} GB",
        str(case.output) if not plan.refused else f"refused: {with_names(plan.refused, names)}",
    )


def _size(plan: CasePlan) -> str:
    """Return the voxels of a volume, and how many volumes there are of several."""
    if plan.shape is None:
        return ""
    volumes = 1 if plan.forecast is None else plan.forecast.volumes
    return " x ".join(map(str, plan.shape)) + (f", {volumes} volumes" if volumes > 1 else "")


def _model_hash(settings: Settings) -> Callable[[Case], str]:
    """Return a function that gives the hash of a case's model, or its name if it has no weights.

    The hash of the calibration follows, where there are intervals.
    """

    @lru_cache
    def look_up(options: RestoreOptions, modality: Modality) -> str:
        ref, spec = find_model(options, modality)
        model = ref.sha256 or ref.name
        if options.interval is None:
            return model
        return f"{model} {find_calibration(ref.name, spec, options.calibration).digest}"

    def of(case: Case) -> str:
        options = options_of(case_json(case, settings))
        modality = options.modality or Modality.UNKNOWN
        if modality is not Modality.UNKNOWN or options.restore.model is not None:
            return look_up(options.restore, modality)
        # Which of them it is, the worker sees in the voxels: a file that ends its reader must end no batch.
        found = []
        for candidate in (Modality.MR, Modality.CT):
            with suppress(MedrestoreError):
                found.append(look_up(options.restore, candidate))
        return " or ".join(found) if found else look_up(options.restore, Modality.MR)

    return of
