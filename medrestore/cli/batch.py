"""`medrestore batch`: every scan of a folder, whatever happens to any of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    Quiet,
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
    ValueScale,
    read_policy,
)
from medrestore.errors import ConfigError
from medrestore.types import Modality, Task

if TYPE_CHECKING:
    from medrestore.batch import Found
    from medrestore.batch.bids.find import Wanted
    from medrestore.batch.bids.names import Naming
    from medrestore.io import ReadPolicy

_CASES, _WORKERS = "Cases", "Workers"


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
    save_std: SaveStd = False,
    form: Format = None,
    out_dtype: OutDtype = "float32",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace results of no batch.", rich_help_panel=FILES),
    ] = False,
    on_gap: OnGap = OnDefect.FAIL,
    on_duplicate: OnDuplicate = OnDefect.FAIL,
    on_tilt: OnTilt = OnDefect.FAIL,
    on_nonuniform: OnNonuniform = OnDefect.FAIL,
    values: Scale = ValueScale.RESCALED,
    quiet: Quiet = False,
) -> None:
    """Restore every scan below a folder. Run it again to go on: what is done is checked and left.

    Exit status: 0 all done, 3 some failed, 2 nothing could start.
    """
    stated = locals()
    from dataclasses import asdict, replace

    from medrestore.batch import BatchOptions, Settings, Shard
    from medrestore.batch.bids.derivative import begin_derivative
    from medrestore.batch.bids.find import Wanted, is_dataset
    from medrestore.batch.bids.names import Naming
    from medrestore.batch.settings import absolute_model
    from medrestore.cli.batching import Workers, execute, print_plan
    from medrestore.engine.models.load import find_model

    policy = read_policy(on_gap, on_duplicate, on_tilt, on_nonuniform, values)
    requested = restore_options({**stated, "model": absolute_model(model)})
    if model is not None:
        # What a model does is what is done; results are named after that.
        requested = replace(requested, task=find_model(requested, modality or Modality.UNKNOWN)[1].task)
    task, restore = requested.task, asdict(requested)
    if save_std and samples < 2:
        raise ConfigError("--save-std needs two samples or more; pass --samples 8, say")
    settings = Settings(
        restore=restore,
        policy=asdict(policy),
        modality=modality,
        form=None if form is None else str(form),
        dtype=out_dtype,
        save_std=save_std,
    )
    naming, wanted = Naming(task, spacing), Wanted.parse(bids_filter or ())
    found = find(scans, policy, out, naming, wanted).only(
        include or (), exclude or (), () if only is None else (only,)
    )
    options = BatchOptions(shard=Shard.parse(shard), retry_failed=retry_failed, overwrite=overwrite)
    if dry_run:
        print_plan(found, out, settings, options)
        return
    crew = Workers(
        workers, None if devices is None else devices.split(","), scheduler, time_limit, max_memory
    )
    if found.cases and is_dataset(scans):
        begin_derivative(scans, out)
    raise typer.Exit(execute(found, out, settings, options, crew, quiet=quiet))


def find(scans: Path, policy: ReadPolicy, out: Path, naming: Naming, wanted: Wanted) -> Found:
    """Return the cases of a folder, of a BIDS data set or of a list."""
    from medrestore.batch import find_cases
    from medrestore.batch.bids.find import find_bids, is_dataset
    from medrestore.batch.find.lists import LISTS, read_list

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
