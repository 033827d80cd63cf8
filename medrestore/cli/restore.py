"""`medrestore restore`: a scan in, a restored scan with its evidence out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medrestore.cli.reading import (
    OnDuplicate,
    OnFlaw,
    OnGap,
    OnNonuniform,
    OnTilt,
    Scale,
    SeriesName,
    ValueScale,
    read_policy,
)
from medrestore.cli.targets import DTYPES, Form, Wish, plan_targets
from medrestore.types import Modality, Task

_MODEL, _SLICES, _RUN, _FILES = "Model", "Slices (--task superres)", "Run", "Files"


def restore(
    scan: Annotated[Path, typer.Argument(metavar="IN", help="NIfTI file, or folder of DICOM files.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT", help="File ending in .nii or .nii.gz, or a folder.")
    ],
    model: Annotated[
        str | None, typer.Option(metavar="NAME|PATH", help="See `medrestore models`.", rich_help_panel=_MODEL)
    ] = None,
    task: Annotated[
        Task, typer.Option(help="What to do, where no model is named.", rich_help_panel=_MODEL)
    ] = Task.DENOISE,
    modality: Annotated[
        Modality | None,
        typer.Option(
            case_sensitive=False, help="What the scan is, where it does not say.", rich_help_panel=_MODEL
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Run a model on what it was not made for.", rich_help_panel=_MODEL),
    ] = False,
    spacing: Annotated[
        str,
        typer.Option(
            metavar="MM|iso", help="Voxel size across the slices; iso: as within.", rich_help_panel=_SLICES
        ),
    ] = "iso",
    slice_axis: Annotated[
        str | None,
        typer.Option(
            metavar="i|j|k", help="Array axis across the slices; else the coarsest.", rich_help_panel=_SLICES
        ),
    ] = None,
    slice_profile: Annotated[
        str, typer.Option(metavar="boxcar|slr|gaussian", help="Shape of a slice.", rich_help_panel=_SLICES)
    ] = "boxcar",
    slice_thickness: Annotated[
        float | None,
        typer.Option(metavar="MM", help="Where slices have gaps or overlap.", rich_help_panel=_SLICES),
    ] = None,
    noise: Annotated[
        str,
        typer.Option(
            metavar="auto|VALUE|P%", help="Level in voxel units or in % of p99.", rich_help_panel=_RUN
        ),
    ] = "auto",
    noise_map: Annotated[
        str,
        typer.Option(
            metavar="auto|constant", help="Whether noise may vary over the scan.", rich_help_panel=_RUN
        ),
    ] = "auto",
    output: Annotated[
        str, typer.Option(metavar="mean|sample", help="Posterior mean, or a sample.", rich_help_panel=_RUN)
    ] = "mean",
    samples: Annotated[int, typer.Option(help="Posterior samples to draw.", rich_help_panel=_RUN)] = 0,
    steps: Annotated[int, typer.Option(help="Steps for each sample.", rich_help_panel=_RUN)] = 10,
    sampler: Annotated[
        str, typer.Option(metavar="heun|euler|stochastic", help="How to draw.", rich_help_panel=_RUN)
    ] = "heun",
    seed: Annotated[int, typer.Option(help="Same seed, same result.", rich_help_panel=_RUN)] = 0,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.", rich_help_panel=_RUN)
    ] = "auto",
    dtype: Annotated[
        str, typer.Option(metavar="auto|float32|bfloat16", help="Heavy arithmetic.", rich_help_panel=_RUN)
    ] = "auto",
    tile: Annotated[
        int | None, typer.Option(help="Largest side of a tile in voxels: less memory.", rich_help_panel=_RUN)
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="REF", help="The truth, for PSNR and SSIM.", rich_help_panel=_FILES),
    ] = None,
    save_std: Annotated[
        bool, typer.Option("--save-std", help="Write OUT_std: spread of samples.", rich_help_panel=_FILES)
    ] = False,
    save_trajectory: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write every step.", rich_help_panel=_FILES)
    ] = None,
    form: Annotated[
        Form | None,
        typer.Option("--format", help="DICOM in, DICOM out, or as OUT ends.", rich_help_panel=_FILES),
    ] = None,
    out_dtype: Annotated[
        str, typer.Option(metavar="TYPE", help=f"{', '.join(DTYPES)}.", rich_help_panel=_FILES)
    ] = "float32",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is there.", rich_help_panel=_FILES)
    ] = False,
    series: SeriesName = None,
    on_gap: OnGap = OnFlaw.FAIL,
    on_duplicate: OnDuplicate = OnFlaw.FAIL,
    on_tilt: OnTilt = OnFlaw.FAIL,
    on_nonuniform: OnNonuniform = OnFlaw.FAIL,
    values: Scale = ValueScale.RESCALED,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
) -> None:
    """Restore a scan; writes the image and, beside it, a JSON record of how it was made.

    A 4-D series is restored volume by volume.
    """
    drawn = max(samples, 1) if output == "sample" else samples
    wish = Wish(
        out=out,
        save_std=save_std,
        trajectory=save_trajectory,
        overwrite=overwrite,
        dtype=out_dtype,
        samples=drawn,
        suffix="superres" if task is Task.SUPERRES else "restored",
        form=form,
    )
    targets = plan_targets(scan, wish, [] if reference is None else [reference])
    from medrestore.cli.restoring import Job, run
    from medrestore.engine import RestoreOptions

    options = RestoreOptions(
        model=model,
        task=task,
        spacing=spacing,
        slice_axis=slice_axis,  # type: ignore[arg-type]  # checked by RestoreOptions, as are others below
        slice_profile=slice_profile,  # type: ignore[arg-type]
        slice_thickness=slice_thickness,
        noise=noise,
        noise_map=noise_map,  # type: ignore[arg-type]  # checked by RestoreOptions
        output=output,  # type: ignore[arg-type]
        samples=samples,
        steps=steps,
        sampler=sampler,  # type: ignore[arg-type]
        seed=seed,
        device=device,
        dtype=dtype,  # type: ignore[arg-type]
        tile=tile,
        force=force,
    )
    policy = read_policy(on_gap, on_duplicate, on_tilt, on_nonuniform, values)
    run(Job(scan, reference, modality, options, targets, out_dtype, policy, series), quiet=quiet)
