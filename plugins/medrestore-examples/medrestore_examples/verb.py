"""A command: what a scan holds, in a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from medrestore import read


def describe(
    scan: Annotated[Path, typer.Argument(metavar="SCAN", help="NIfTI file, or folder of DICOM files.")],
    percentile: Annotated[
        list[float] | None, typer.Option(min=0, max=100, help="Of the voxels; may be repeated.")
    ] = None,
) -> None:
    """Print grid, modality and percentiles of a scan."""
    volume = read(scan)
    typer.echo(f"shape       {' x '.join(map(str, volume.shape))}")
    typer.echo(f"voxels      {' x '.join(f'{size:.4g}' for size in volume.spacing)} mm")
    typer.echo(f"modality    {volume.modality}")
    for rank in percentile or (1, 50, 99):
        typer.echo(f"{f'{rank:g} %':<12}{np.percentile(volume.array, rank):.4g}")
