"""`medrestore monai`: import a bundle as a model folder, export a model as a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medrestore.plugin import ModelSpec, Registry, read_model_folder
from medrestore.plugin.host import plugins
from medrestore_monai.bundle import read_bundle
from medrestore_monai.exporting import export_model
from medrestore_monai.importing import WHOLE, Stated, import_bundle

app = typer.Typer(no_args_is_help=True, help="MONAI bundles as models, and models as bundles.")

Output = Annotated[Path, typer.Option("-o", "--output", help="Folder to make, which must not be there yet.")]


@app.command(name="import")
def import_(  # noqa: PLR0913, PLR0917 - a parameter for each option
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.")],
    output: Output,
    licence: Annotated[str, typer.Option(help="SPDX expression of code and weights together.")],
    spacing_mm: Annotated[tuple[float, float], typer.Option(help="Voxel sizes that it was trained for.")],
    noise: Annotated[tuple[float, float], typer.Option(help="Levels, as fractions of the bright level.")],
    name: Annotated[str, typer.Option(help="Of the model.")] = "bundle",
    modality: Annotated[str, typer.Option(help="MR or CT.")] = "MR",
    units: Annotated[
        tuple[float, float] | None,
        typer.Option(help="What 0 and the bright level are to it, or air and water; else its metadata say."),
    ] = None,
    halo: Annotated[int, typer.Option(min=0, help="Voxels that it looks out to; without, no tiles.")] = WHOLE,
    predicts: Annotated[
        str, typer.Option(help="clean or noise, for a network without a scheduler.")
    ] = "clean",
    config: Annotated[str | None, typer.Option(help="File in its folder configs.")] = None,
    network: Annotated[
        str | None, typer.Option(help="Key of the network there, where it has several.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Key of the scheduler, where there are several.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="File in its folder models.")] = None,
    table: Annotated[str | None, typer.Option(help="Key of the weights in that file.")] = None,
) -> None:
    """Make a model folder of a bundle; nothing of the bundle is executed."""
    stated = Stated(
        name=name,
        licence=licence,
        modality=modality.upper(),
        spacing_mm=spacing_mm,
        noise=noise,
        units=units,
        halo=halo,
        predicts=predicts,
    )
    spec = import_bundle(read_bundle(bundle, config, network, scheduler), stated, output, (weights, table))
    typer.echo(f"{output}: {spec.title}; `medrestore verify {output}` says what it does")


@app.command(name="export")
def export(
    model: Annotated[str, typer.Argument(help="Name of a model, or its folder.")], output: Output
) -> None:
    """Make a bundle of a denoiser."""
    export_model(_found(model), output)
    typer.echo(
        f"{output}: python -m monai.bundle run --config_file {output}/configs/inference.json --image SCAN ..."
    )


def _found(model: str) -> ModelSpec:
    if Path(model).is_dir():
        return read_model_folder(Path(model))
    return Registry(plugins()).get(model)
