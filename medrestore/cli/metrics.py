"""`medrestore metrics`: how close a restored scan is to the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrestore.cli.options import limits_threads
from medrestore.errors import InputError
from medrestore.types import Modality

if TYPE_CHECKING:
    from medrestore.metrics import MetricValue
    from medrestore.types import BoolArray, RealArray
    from medrestore.volume import Volume


@limits_threads
def metrics(
    restored: Annotated[Path, typer.Argument(metavar="RESTORED", help="What to judge.")],
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="The truth, on the same grid.")],
    mask: Annotated[
        str,
        typer.Option(
            metavar="head|all|PATH", help="Voxels to count: the head, all, or those not 0 in a file."
        ),
    ] = "head",
    data_range: Annotated[
        float | None,
        typer.Option(metavar="VALUE", help="Of PSNR and SSIM; by default maximum - minimum of REFERENCE."),
    ] = None,
    modality: Annotated[
        Modality | None,
        typer.Option(case_sensitive=False, help="What the scans are, where they do not say: MR or CT."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare a restored scan with a reference: PSNR, SSIM, MAE, RMSE and metrics of plugins."""
    from medrestore.metrics import evaluate, measured, reference_range
    from medrestore.plugin.extensions.metrics import declared_metrics

    further, found = declared_metrics(), []
    for image, truth in _pairs(restored, reference):
        _check_grid(restored, image, reference, truth)
        stated = truth.modality if image.modality is Modality.UNKNOWN else image.modality
        voxels = measured(truth.array, modality or stated)
        extent = reference_range(voxels) if data_range is None else data_range
        chosen = _mask(mask, truth, voxels, reference)
        found.append(evaluate(image.array, truth.array, data_range=extent, mask=chosen, further=further))
    if as_json:
        values = [{name: asdict(value) for name, value in volume.items()} for volume in found]
        record = {"restored": str(restored), "reference": str(reference), "mask": mask, "volumes": values}
        typer.echo(json.dumps(record, indent=2, ensure_ascii=False))
    else:
        _print(found)


def _pairs(restored: Path, reference: Path) -> list[tuple[Volume, Volume]]:
    """Return every volume with its truth, which may be one for a whole series."""
    from medrestore.cli.summary import print_findings
    from medrestore.files import read_series
    from medrestore.io import reading_findings

    images, references = read_series(restored), read_series(reference)
    print_findings((*reading_findings(images[0]), *reading_findings(references[0])))
    if len(references) not in {1, len(images)}:
        raise InputError(
            f"{reference}: a series of {len(references)} volumes, {restored} has {len(images)}; expected as "
            "many, or one"
        )
    truths = references if len(references) == len(images) else references * len(images)
    return list(zip(images, truths, strict=True))


def _mask(mask: str, truth: Volume, voxels: RealArray, reference: Path) -> BoolArray | None:
    from medrestore.files import read
    from medrestore.metrics import head_mask

    if mask == "all":
        return None
    if mask == "head":
        return head_mask(voxels)
    selected = read(mask)
    _check_grid(Path(mask), selected, reference, truth)
    inside: BoolArray = selected.array != 0
    return inside


def _check_grid(path: Path, volume: Volume, reference: Path, truth: Volume) -> None:
    """Refuse to compare volumes that are not voxel on voxel.

    Raises:
        InputError: Shape or place differ by more than a hundredth of a millimetre.
    """
    if volume.geometry.allclose(truth.geometry, tol_mm=1e-2):
        return
    raise InputError(
        f"{path}: on another grid than {reference}: {_grid(volume)} against {_grid(truth)}; resample one to "
        "the other first"
    )


def _grid(volume: Volume) -> str:
    spacing = " x ".join(f"{size:.4g}" for size in volume.spacing)
    origin = ", ".join(f"{mm:.2f}" for mm in volume.geometry.origin)
    return f"shape {volume.shape}, voxels of {spacing} mm, first voxel at ({origin}) mm"


def _print(found: Sequence[Mapping[str, MetricValue]]) -> None:
    from medrestore.cli.table import print_table

    titles = {"psnr": "PSNR (dB)", "ssim": "SSIM", "mae": "MAE", "rmse": "RMSE"}
    rows = []
    for number, volume in enumerate(found):
        for name, metric in volume.items():
            value = f"absent: {metric.reason}" if metric.value is None else f"{metric.value:.6g}"
            where = (str(number),) if len(found) > 1 else ()
            rows.append((*where, titles.get(name, name), value, metric.definition))
    series = ("volume",) if len(found) > 1 else ()
    print_table((*series, "metric", "value", "definition"), rows)
