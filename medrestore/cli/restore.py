"""`medrestore restore`: a scan in, a restored scan with its evidence out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medrestore.cli.options import (
    FILES,
    Device,
    DType,
    Ensemble,
    Force,
    Format,
    MaxMemory,
    ModalityName,
    ModelName,
    Noise,
    NoiseMap,
    OutDtype,
    Output,
    Overwrite,
    Quiet,
    Reference,
    Sampler,
    Samples,
    SaveStd,
    Seed,
    SliceAxis,
    SliceProfile,
    SliceThickness,
    Spacing,
    Steps,
    TaskName,
    Tile,
    restore_options,
    result_suffix,
)
from medrestore.cli.reading import (
    OnDefect,
    OnDuplicate,
    OnGap,
    OnNonuniform,
    OnTilt,
    Scale,
    SeriesName,
    ValueScale,
    read_policy,
)
from medrestore.errors import ConfigError
from medrestore.job.outputs import OutputRequest, is_dicom_scan, plan_targets
from medrestore.types import Task


def restore(
    scan: Annotated[Path, typer.Argument(metavar="IN", help="NIfTI file, or folder of DICOM files.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT", help="File ending in .nii or .nii.gz, or a folder.")
    ],
    model: ModelName = None,
    task: TaskName = Task.DENOISE,
    modality: ModalityName = None,
    force: Force = False,
    spacing: Spacing = "iso",
    slice_axis: SliceAxis = None,
    slice_profile: SliceProfile = "boxcar",
    slice_thickness: SliceThickness = None,
    noise: Noise = "auto",
    noise_map: NoiseMap = "auto",
    output: Output = "mean",
    ensemble: Ensemble = None,
    samples: Samples = 0,
    steps: Steps = 10,
    sampler: Sampler = "heun",
    seed: Seed = 0,
    device: Device = "auto",
    dtype: DType = "auto",
    tile: Tile = None,
    max_memory: MaxMemory = None,
    reference: Reference = None,
    save_std: SaveStd = False,
    save_trajectory: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write every step.", rich_help_panel=FILES)
    ] = None,
    form: Format = None,
    out_dtype: OutDtype = "float32",
    overwrite: Overwrite = False,
    series: SeriesName = None,
    on_gap: OnGap = OnDefect.FAIL,
    on_duplicate: OnDuplicate = OnDefect.FAIL,
    on_tilt: OnTilt = OnDefect.FAIL,
    on_nonuniform: OnNonuniform = OnDefect.FAIL,
    values: Scale = ValueScale.RESCALED,
    quiet: Quiet = False,
) -> None:
    """Restore a scan; writes the image and, beside it, a JSON record of how it was made.

    A 4-D series is restored volume by volume.
    """
    stated = locals()
    drawn = max(samples, 1) if output == "sample" else samples
    requested = OutputRequest(
        out=out,
        save_std=save_std,
        trajectory=save_trajectory,
        overwrite=overwrite,
        dtype=out_dtype,
        samples=drawn,
        suffix=result_suffix(task),
        form=form,
    )
    targets = plan_targets(scan, requested, [] if reference is None else [reference])
    from medrestore.io import ReadPolicy
    from medrestore.job.run import Job, run

    options = restore_options(stated)
    policy = read_policy(on_gap, on_duplicate, on_tilt, on_nonuniform, values)
    if policy != ReadPolicy() and not is_dicom_scan(scan):
        raise ConfigError(f"{scan} is no DICOM, which --values and --on-... are for; leave them out")
    run(Job(scan, reference, modality, options, targets, out_dtype, policy, series), quiet=quiet)
