"""`medrestore generate`: volumes of noise alone, for phantoms, quality assurance and teaching."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medrestore.cli.options import Quiet, limits_threads, takes
from medrestore.options import GenerateOptions


@limits_threads
@takes("options", GenerateOptions)
def generate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Generator; `medrestore plugins` lists them.")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT", help="File ending in .nii or .nii.gz, or a folder.")
    ],
    options: GenerateOptions,
    trajectory: Annotated[
        Path | None,
        typer.Option("--save-trajectory", metavar="FOLDER", help="Write the steps of the last stage."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Make volumes of noise alone; every file says that it is synthetic and shows no patient."""
    from medrestore.cli.progress import Meter, Pace
    from medrestore.job.generate import generate_files, name_volumes

    paths = name_volumes(model, out, options, trajectory=trajectory, overwrite=overwrite)
    with Meter(f"Generating {model}", quiet=quiet) as meter:
        pace = Pace()

        def show(done: int, total: int) -> None:
            meter.update(done, total, pace.text(done, total, "voxels"))

        records = generate_files(model, paths, options, progress=show, trajectory=trajectory)
        for path, record in zip(paths, records, strict=True):
            meter.line(f"{path} (synthetic, seed {record.seed}, {record.timings['restore']:.0f} s)")
            pace = Pace()
