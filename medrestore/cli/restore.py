"""`medrestore restore`: a scan in, a restored scan with its evidence out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medrestore.cli.options import Quiet, takes_file_options
from medrestore.cli.output import if_anybody_hears
from medrestore.findings import with_warnings
from medrestore.options import FileOptions

WARNED = 4
"""Exit status where a finding is a warning and `--strict` is given."""


@takes_file_options(one_scan=True)
def restore(
    scan: Annotated[Path, typer.Argument(metavar="IN", help="NIfTI file, or folder of DICOM files.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT", help="File ending in .nii or .nii.gz, or a folder.")
    ],
    options: FileOptions,
    quiet: Quiet = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 4 where a finding is a warning.")
    ] = False,
) -> None:
    """Restore a scan; writes the image and, beside it, a JSON record of how it was made.

    A 4-D series is restored volume by volume. Exit status: 0 restored, 2 refused, with --strict 4 where a
    finding is a warning.
    """
    from medrestore.cli.progress import RestoreMeter
    from medrestore.cli.summary import print_summary
    from medrestore.job.run import failure_told, run
    from medrestore.job.spec import plan_job

    with failure_told(scan):
        job = plan_job(scan, out, options)
        with RestoreMeter(f"Restoring {scan.name}", quiet=quiet) as meter:
            records = run(job, meter)
    if not quiet:
        with if_anybody_hears():
            print_summary(records, job.paths.main)
    if strict and with_warnings(finding for record in records for finding in record.findings):
        raise typer.Exit(WARNED)
