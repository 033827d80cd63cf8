"""`medrestore batch`: every scan of a folder, whatever happens to any of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrestore.cli.options import FILES, Quiet, takes_file_options
from medrestore.errors import ConfigError
from medrestore.options import FileOptions, ReadPolicy
from medrestore.types import Modality

if TYPE_CHECKING:
    from medrestore.batch import Found
    from medrestore.batch.bids.find import Wanted
    from medrestore.batch.bids.names import Naming

_CASES, _WORKERS = "Cases", "Workers"


@takes_file_options(one_scan=False)
def batch(
    scans: Annotated[
        Path, typer.Argument(metavar="IN", help="Folder of scans, or a list of them (.csv, .jsonl).")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="Folder of results.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, restore nothing.")] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Paths below IN; repeatable.", rich_help_panel=_CASES),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Not these.", rich_help_panel=_CASES)
    ] = None,
    only: Annotated[
        Modality | None,
        typer.Option(case_sensitive=False, help="Scans of this modality alone.", rich_help_panel=_CASES),
    ] = None,
    bids_filter: Annotated[
        list[str] | None,
        typer.Option(metavar="ENTITY=VALUE", help="Of a BIDS data set; repeatable.", rich_help_panel=_CASES),
    ] = None,
    shard: Annotated[
        str,
        typer.Option(metavar="I/N", help="Part I of N, for machines side by side.", rich_help_panel=_CASES),
    ] = "1/1",
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Try what failed in an earlier run.", rich_help_panel=_CASES),
    ] = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes on this machine.", rich_help_panel=_WORKERS)
    ] = 1,
    devices: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="A worker on each: cuda:0,cuda:1.", rich_help_panel=_WORKERS),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Of Dask, or slurm.", rich_help_panel=_WORKERS),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="For each case.", rich_help_panel=_WORKERS),
    ] = None,
    *,
    options: FileOptions,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace results of no batch.", rich_help_panel=FILES),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Restore every scan below a folder. Run it again to go on: what is done is checked and left.

    Exit status: 0 all done, 3 some failed, 2 nothing could start.
    """
    from medrestore.batch import BatchOptions, Settings, Shard
    from medrestore.batch.bids.derivative import begin_derivative
    from medrestore.batch.bids.find import Wanted, is_dataset
    from medrestore.batch.bids.names import Naming
    from medrestore.cli.batching import Workers, execute, print_plan

    settings = Settings.of(options)
    if settings.form not in (None, "nifti") and is_dataset(scans):
        raise ConfigError(
            f"--format is {settings.form}, and images of a BIDS data set are NIfTI; leave it out"
        )
    naming = Naming(settings.task, str(options.restore.spacing))
    wanted = Wanted.parse(bids_filter or ())
    found = find(scans, options.reading.policy, out, naming, wanted).only(
        include or (), exclude or (), () if only is None else (only,)
    )
    run = BatchOptions(shard=Shard.parse(shard), retry_failed=retry_failed, overwrite=overwrite)
    if dry_run:
        print_plan(found, out, settings, run)
        return
    named = None if devices is None else devices.split(",")
    crew = Workers(workers, named, scheduler, time_limit, options.restore.max_memory)
    if found.cases and is_dataset(scans):
        begin_derivative(scans, out)
    raise typer.Exit(execute(found, out, settings, run, crew, quiet=quiet))


def find(scans: Path, policy: ReadPolicy, out: Path, naming: Naming, wanted: Wanted) -> Found:
    """Return the cases of a folder, of a BIDS data set or of a list."""
    from medrestore.batch import find_cases
    from medrestore.batch.bids.find import find_bids, is_dataset
    from medrestore.batch.find.lists import LISTS, read_list
    from medrestore.job.outputs import result_suffix

    if out.resolve() == scans.resolve():
        raise ConfigError(f"{out}: is the folder of the scans; results need a folder of their own")
    if is_dataset(scans):
        return find_bids(scans, wanted, naming)
    if wanted.values:
        raise ConfigError(f"--bids-filter is for a BIDS data set, and {scans} is none")
    suffix = result_suffix(naming.task)
    if scans.is_file() and scans.suffix.lower() in LISTS:
        return read_list(scans, policy=policy, suffix=suffix, leave_out=out)
    return find_cases(scans, policy=policy, suffix=suffix, leave_out=out)
