"""Options of every command that restores: one scan, or a folder of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from medrestore.job.outputs import DTYPES, OutputFormat
from medrestore.types import Modality, Task

if TYPE_CHECKING:
    from medrestore.engine import RestoreOptions

_MODEL, _SLICES, _RUN, FILES = "Model", "Slices (--task superres)", "Run", "Files"


def _in(panel: str, text: str, *names: str, metavar: str | None = None) -> Any:  # typer's is no type
    return typer.Option(*names, help=text, metavar=metavar, rich_help_panel=panel)


ModelName: TypeAlias = Annotated[str | None, _in(_MODEL, "See `medrestore models`.", metavar="NAME|PATH")]
TaskName: TypeAlias = Annotated[Task, _in(_MODEL, "What to do, where no model is named.")]
ModalityName: TypeAlias = Annotated[
    Modality | None,
    typer.Option(
        case_sensitive=False, help="What the scan is, where it does not say.", rich_help_panel=_MODEL
    ),
]
Force: TypeAlias = Annotated[bool, _in(_MODEL, "Run a model on what it was not made for.", "--force")]
Spacing: TypeAlias = Annotated[
    str, _in(_SLICES, "Voxel size across the slices; iso: as within.", metavar="MM|iso")
]
SliceAxis: TypeAlias = Annotated[
    str | None, _in(_SLICES, "Array axis across the slices; else the coarsest.", metavar="i|j|k")
]
SliceProfile: TypeAlias = Annotated[str, _in(_SLICES, "Shape of a slice.", metavar="boxcar|slr|gaussian")]
SliceThickness: TypeAlias = Annotated[
    float | None, _in(_SLICES, "Where slices have gaps or overlap.", metavar="MM")
]
Noise: TypeAlias = Annotated[str, _in(_RUN, "Level in voxel units or in % of p99.", metavar="auto|VALUE|P%")]
NoiseMap: TypeAlias = Annotated[
    str, _in(_RUN, "Whether noise may vary over the scan.", metavar="auto|constant")
]
Output: TypeAlias = Annotated[str, _in(_RUN, "Posterior mean, or a sample.", metavar="mean|sample")]
Ensemble: TypeAlias = Annotated[
    int | None, _in(_RUN, "Estimates that the mean is taken over.", metavar="1|2|4|8")
]
Samples: TypeAlias = Annotated[int, _in(_RUN, "Posterior samples to draw.")]
Steps: TypeAlias = Annotated[int, _in(_RUN, "Steps for each sample.")]
Sampler: TypeAlias = Annotated[str, _in(_RUN, "How to draw.", metavar="heun|euler|stochastic")]
Seed: TypeAlias = Annotated[int, _in(_RUN, "Same seed, same result.")]
Device: TypeAlias = Annotated[str, _in(_RUN, "Where to compute.", metavar="auto|cpu|cuda|mps")]
DType: TypeAlias = Annotated[str, _in(_RUN, "Heavy arithmetic.", metavar="auto|float32|bfloat16")]
Tile: TypeAlias = Annotated[int | None, _in(_RUN, "Largest side of a tile in voxels: less memory.")]
MaxMemory: TypeAlias = Annotated[
    str | None, _in(_RUN, "Such as 6GB; else 80 % of what is free or allowed.", metavar="AMOUNT")
]
SaveStd: TypeAlias = Annotated[bool, _in(FILES, "Write OUT_std: spread of samples.", "--save-std")]
Format: TypeAlias = Annotated[
    OutputFormat | None, _in(FILES, "DICOM in, DICOM out, or as OUT ends.", "--format")
]
OutDtype: TypeAlias = Annotated[str, _in(FILES, f"{', '.join(DTYPES)}.", metavar="TYPE")]
Overwrite: TypeAlias = Annotated[bool, _in(FILES, "Replace what is there.", "--overwrite")]
Reference: TypeAlias = Annotated[Path | None, _in(FILES, "The truth, for PSNR and SSIM.", metavar="REF")]
Quiet: TypeAlias = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]


def restore_options(stated: Mapping[str, Any]) -> RestoreOptions:
    """Return the options among the arguments of a command; they are called what its parameters are called.

    Raises:
        ConfigError: A value is out of range.
    """
    from dataclasses import fields

    from medrestore.engine import RestoreOptions

    return RestoreOptions(
        **{field.name: stated[field.name] for field in fields(RestoreOptions) if field.name in stated}
    )


def result_suffix(task: Task) -> str:
    """Return how the name of a result ends where it is made of that of the scan."""
    return "superres" if task is Task.SUPERRES else "restored"
