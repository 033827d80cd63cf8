"""`medrestore batch`: every scan of a folder, whatever happens to any of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrestore.cli.options import Quiet, takes, takes_file_options
from medrestore.errors import ConfigError
from medrestore.options import BatchRun, CaseSelection, FileOptions, ReadPolicy
from medrestore.paths import resolved

if TYPE_CHECKING:
    from medrestore.batch import Found, Settings
    from medrestore.batch.bids.names import Naming
    from medrestore.batch.bids.wanted import Wanted


@takes("cases", CaseSelection)
@takes("run", BatchRun)
@takes_file_options(one_scan=False)
def batch(
    scans: Annotated[
        Path, typer.Argument(metavar="IN", help="Folder of scans, or a list of them (.csv, .jsonl).")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="Folder of results.")],
    cases: CaseSelection,
    run: BatchRun,
    options: FileOptions,
    quiet: Quiet = False,
) -> None:
    """Restore every scan below a folder. Run it again to go on: what is done is checked and left.

    Exit status: 0 all done, 3 some failed or could not be listed, 2 nothing could start.
    """
    from medrestore.batch import BatchOptions, Settings, Shard
    from medrestore.batch.bids.derivative import begin_derivative
    from medrestore.batch.bids.find import is_dataset
    from medrestore.batch.bids.names import Naming
    from medrestore.batch.bids.wanted import Wanted
    from medrestore.cli.batching import Workers, execute, print_plan, refuse_none

    settings = Settings.of(options)
    if is_dataset(scans):
        _check_nifti(settings)
    naming = Naming(settings.task, str(options.restore.spacing))
    wanted = Wanted.parse(cases.bids_filter or (), file=cases.bids_filter_file)
    found = find(scans, options.reading.policy, out, naming, wanted).only(
        cases.include or (), cases.exclude or (), () if cases.only is None else (cases.only,)
    )
    refuse_none(found, hide_names=run.hide_names)
    how = BatchOptions(
        Shard.parse(run.shard), run.retry_failed, run.overwrite, run.hide_names, single_file=run.single_file
    )
    if run.dry_run:
        print_plan(found, out, settings, how, run.time_limit)
        return
    if is_dataset(scans):
        begin_derivative(scans, out)
    crew = Workers.of(run, options.restore.max_memory)
    raise typer.Exit(execute(found, out, settings, how, crew, quiet=quiet))


def _check_nifti(settings: Settings) -> None:
    """Refuse what is for results of another format, for a BIDS data set."""
    asked = "" if settings.form in (None, "nifti") else f"--format is {settings.form}"
    asked = asked or ("--sr writes a report on a DICOM series" if settings.sr else "")
    if asked:
        raise ConfigError(f"{asked}, and images of a BIDS data set are NIfTI; leave it out")


def find(scans: Path, policy: ReadPolicy, out: Path, naming: Naming, wanted: Wanted) -> Found:
    """Return the cases of a folder, of a BIDS data set or of a list."""
    from medrestore.batch import find_cases
    from medrestore.batch.bids.derivative import refuse_among_subjects
    from medrestore.batch.bids.find import find_bids, is_dataset
    from medrestore.batch.find.lists import LISTS, read_list
    from medrestore.job.outputs import result_suffix

    if resolved(out) == resolved(scans):
        raise ConfigError(f"{out}: is the folder of the scans; results need a folder of their own")
    if is_dataset(scans):
        refuse_among_subjects(scans, out)
        return find_bids(scans, wanted, naming)
    if wanted.values or wanted.queries:
        raise ConfigError(f"a filter of BIDS is for a BIDS data set, and {scans} is none; leave it out")
    suffix = result_suffix(naming.task)
    if scans.is_file() and scans.suffix.lower() in LISTS:
        return read_list(scans, policy=policy, suffix=suffix, leave_out=out)
    return find_cases(scans, policy=policy, suffix=suffix, leave_out=out)
