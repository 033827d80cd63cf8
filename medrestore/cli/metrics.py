"""`medrestore metrics`: how close a restored scan is to the truth, or what it is worth by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrestore.cli.judged import MetricsRequest, check_grid, chosen_mask, volume_pairs
from medrestore.cli.options import limits_threads, takes, takes_reading
from medrestore.cli.quality import without_reference
from medrestore.errors import ConfigError
from medrestore.options import ReadRequest

if TYPE_CHECKING:
    from medrestore.metrics import MetricValue


@limits_threads
@takes("request", MetricsRequest)
@takes_reading
def metrics(
    restored: Annotated[Path, typer.Argument(metavar="RESTORED", help="What to judge.")],
    reference: Annotated[
        Path | None,
        typer.Argument(metavar="REFERENCE", help="The truth, on the same grid.", show_default=False),
    ] = None,
    *,
    request: MetricsRequest,
    reading: ReadRequest,
) -> None:
    """Judge a restored scan: against a reference (PSNR, SSIM, MAE, RMSE), or by itself (SNR, CNR, ...)."""
    if reference is None:
        if request.data_range is not None:
            raise ConfigError("--data-range is for PSNR and SSIM, which need a REFERENCE")
        without_reference(restored, request, reading)
        return
    if request.alone():
        raise ConfigError(
            f"{', '.join(request.alone())}: for a scan without a REFERENCE; leave one of them out"
        )
    _against(restored, reference, request, reading)


def _against(restored: Path, reference: Path, request: MetricsRequest, reading: ReadRequest) -> None:
    """Print what a scan is worth against the truth."""
    from medrestore.metrics import evaluate, measured, reference_range
    from medrestore.metrics.checks import check_range
    from medrestore.plugin.extensions.metrics import declared_metrics

    if request.data_range is not None:
        check_range(request.data_range)
    further, found = declared_metrics(), []
    for image, truth in volume_pairs(restored, reference, request.modality, reading):
        check_grid(restored, image, reference, truth)
        voxels = measured(truth.array, truth.modality)
        extent = reference_range(voxels) if request.data_range is None else request.data_range
        chosen = chosen_mask(request.mask, truth, voxels, reference)
        found.append(evaluate(image.array, truth.array, data_range=extent, mask=chosen, further=further))
    if request.as_json:
        values = [{name: asdict(value) for name, value in volume.items()} for volume in found]
        record = {
            "restored": str(restored),
            "reference": str(reference),
            "mask": request.mask,
            "volumes": values,
        }
        typer.echo(json.dumps(record, indent=2))
    else:
        _print(found)


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
