"""`medrestore adapt`: the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medrestore import RestoreOptions, read
from medrestore_adapt.fit import Plan
from medrestore_adapt.run import adapt as adapted


def adapt(  # noqa: PLR0913, PLR0917 - a parameter for each option
    scan: Annotated[Path, typer.Argument(metavar="SCAN", help="NIfTI file, or folder of DICOM files.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Model folder to make, not there yet.")],
    model: Annotated[str, typer.Option(help="Denoiser to begin with: a name, or its folder.")] = "mr-denoise",
    steps: Annotated[int, typer.Option(min=1, help="Of the optimiser, about two seconds each.")] = Plan.steps,
    noise: Annotated[str, typer.Option(help="As for `medrestore restore`.")] = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Take a scan that the model was not made for.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same weights.")] = 0,
) -> None:
    """Fit a denoiser to one scan, without a reference, and keep it only where the error fell beyond doubt."""
    options = RestoreOptions(model=model, noise=noise, force=force, ensemble=1)
    every = max(steps // 10, 1)

    def on_step(step: int, loss: float) -> None:
        if step % every == 0:
            typer.echo(f"step {step}: risk {loss:.4f}", err=True)

    found = adapted(read(scan), output, options, Plan(steps=steps, seed=seed), on_step)
    what = "fitted" if found.kept else "not fitted"
    typer.echo(f"{output}: {what}; {found.reason}")
    typer.echo(f"medrestore restore {scan} -o RESTORED.nii.gz --model {output.resolve()}")
