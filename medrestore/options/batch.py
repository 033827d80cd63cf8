"""Which scans of a folder are restored, and how a batch of them is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medrestore.errors import ConfigError
from medrestore.options.declare import OptionInfo, option
from medrestore.types import Modality


def _cases(text: str, metavar: str | None = None) -> OptionInfo:
    return OptionInfo(text, "Cases", metavar)


def _workers(text: str, metavar: str | None = None) -> OptionInfo:
    return OptionInfo(text, "Workers", metavar)


@dataclass(frozen=True, kw_only=True)
class CaseSelection:
    """Which of the scans that were found are cases.

    Attributes:
        include: Globs of paths below the folder, any of which a case matches; None for all.
        exclude: Globs of paths that are left out.
        only: Scans of this modality alone; None for all.
        bids_filter: An entity of a BIDS data set and its value, such as ``acq=mprage``; ``suffix`` and
            ``datatype`` are taken too.
        bids_filter_file: JSON file of queries of a BIDS data set, as BIDS Apps take it; None for none.
    """

    include: list[str] | None = option(None, _cases("Paths below IN; repeatable.", "GLOB"))
    exclude: list[str] | None = option(None, _cases("Not these.", "GLOB"))
    only: Modality | None = option(None, _cases("Scans of this modality alone."))
    bids_filter: list[str] | None = option(None, _cases("Of a BIDS data set; repeatable.", "ENTITY=VALUE"))
    bids_filter_file: Path | None = option(None, _cases("Queries, as other BIDS Apps take them.", "FILE"))


@dataclass(frozen=True, kw_only=True)
class BatchRun:
    """How a batch is run; none of it changes a result.

    Attributes:
        dry_run: Print the plan, restore nothing.
        shard: Part of the cases that this machine takes, such as ``"1/4"``.
        retry_failed: Try again what failed in an earlier run.
        overwrite: Replace results that are of no batch.
        hide_names: Call cases by their hashes alone in what is printed, as names may be those of people.
        workers: Processes on this machine; each loads the model, and threads and memory are divided.
        devices: A device for each of them, separated by commas.
        scheduler: Address of a Dask scheduler, or ``"slurm"``.
        single_file: Put the viewer (2.3 MB) into each page of the report, so that a page can be sent alone.
        time_limit: Seconds for each case; one that takes longer is ended and recorded. None for 20 times the
            prediction, and at least an hour; infinity for no limit.
    """

    dry_run: bool = option(False, OptionInfo("Print the plan, restore nothing."))
    shard: str = option("1/1", _cases("Part I of N, for machines side by side.", "I/N"))
    retry_failed: bool = option(False, _cases("Try what failed in an earlier run."))
    hide_names: bool = option(False, _cases("Print the hashes of cases alone."))
    workers: int = option(1, _workers("Processes on this machine."))
    devices: str | None = option(None, _workers("A worker on each: cuda:0,cuda:1.", "LIST"))
    scheduler: str | None = option(None, _workers("Of Dask, or slurm.", "ADDRESS"))
    time_limit: float | None = option(
        None,
        _workers(
            "For each case; by default 20 times the prediction, at least 3600; inf for none.", "SECONDS"
        ),
    )
    overwrite: bool = option(False, OptionInfo("Replace results of no batch.", "Files"))
    single_file: bool = option(False, OptionInfo("Put the viewer into each page of the report.", "Files"))

    def __post_init__(self) -> None:
        """Check what can be checked without scans."""
        if self.workers < 1:
            raise ConfigError(f"workers is {self.workers}; expected 1 or more")
        if self.time_limit is not None and not self.time_limit > 0:
            raise ConfigError(f"time_limit is {self.time_limit}; expected seconds")
