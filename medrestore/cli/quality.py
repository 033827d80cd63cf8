"""What `medrestore metrics` prints of a scan without a reference, beside what it was before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from medrestore.cli.judged import WORDS, MetricsRequest, check_grid, chosen_mask, read_mask, volume_pairs
from medrestore.errors import ConfigError, InputError
from medrestore.options import ReadRequest
from medrestore.types import BoolArray, RealArray

if TYPE_CHECKING:
    from medrestore.metrics import Regions
    from medrestore.volume import Volume

_TITLES = {
    "snr_1": "SNR, tissue 1",
    "snr_2": "SNR, tissue 2",
    "snrd_1": "SNR by air, tissue 1",
    "snrd_2": "SNR by air, tissue 2",
    "cnr": "CNR",
    "cjv": "CJV",
    "efc": "EFC",
    "fber": "FBER",
    "edge_width": "edge width (mm)",
    "noise_frequency": "mean frequency of noise (1/mm)",
}


def without_reference(restored: Path, request: MetricsRequest, reading: ReadRequest) -> None:
    """Print what a scan is worth by itself, and before it was restored where that scan is given."""
    if len(request.tissue or ()) not in {0, 2}:
        raise ConfigError(
            f"--tissue was given {len(request.tissue or ())} times; expected two masks, or none"
        )
    found = []
    for image, scan in volume_pairs(restored, request.before, request.modality, reading):
        check_grid(restored, image, request.before or restored, scan)
        found.append(_judged(restored, image, scan, request))
    if request.as_json:
        before = None if request.before is None else str(request.before)
        record = {"restored": str(restored), "before": before, "mask": request.mask, "volumes": found}
        typer.echo(json.dumps(record, indent=2))
    else:
        _print(found)


def _judged(restored: Path, image: Volume, scan: Volume, request: MetricsRequest) -> dict[str, Any]:
    """Return the metrics of a volume, of what it was before and of what was removed, as plain data."""
    from medrestore.metrics import evaluate_without_reference, measured

    result, acquired = (measured(one.array, one.modality) for one in (image, scan))
    chosen = chosen_mask(request.mask, image, result, restored)
    head = np.ones(result.shape, dtype=bool) if chosen is None else chosen
    given = _given(restored, image, request)
    regions = _regions(result, acquired, head, request.mask, given)
    region = None if request.region is None else read_mask(request.region, image, restored)
    images = {"restored": result} if request.before is None else {"before": acquired, "restored": result}
    found: dict[str, Any] = {}
    for where, array in images.items():
        values = evaluate_without_reference(array, image.spacing, regions, guide=result)
        found[where] = {name: asdict(value) for name, value in values.items()}
        if region is not None:
            found[where] |= _noise_power(array, image, region, f"in {request.region}")
    if request.before is not None:
        removed = np.subtract(acquired, result, dtype=np.float32)
        found["removed"] = _noise_power(removed, image, head, "of scan - result in the head")
    return found


def _given(restored: Path, image: Volume, request: MetricsRequest) -> dict[str, Any]:
    """Return the masks of air and of tissues that files hold, as fields of `Regions`."""
    masks: dict[str, Any] = {}
    if request.air is not None:
        masks["air"] = read_mask(request.air, image, restored)
    if request.tissue:
        first, second = (read_mask(path, image, restored, plain=True) for path in request.tissue)
        masks |= {"first": first, "second": second, "tissues": "; ".join(map(str, request.tissue))}
    return masks


def _regions(
    result: RealArray, acquired: RealArray, head: BoolArray, mask: str, given: Mapping[str, Any]
) -> Regions:
    """Return where to measure: what is given, and found in the images where nothing is."""
    from medrestore.metrics import Regions, find_regions, head_mask

    if {"air", "tissues"} <= given.keys():
        return Regions(head=head, **given)
    # What a file chooses of a head leaves the rest of the head, which is no air.
    body = None if mask in WORDS else head_mask(result)
    return replace(find_regions(result, acquired=acquired, head=head, body=body), **given)


def _noise_power(array: RealArray, image: Volume, region: BoolArray, words: str) -> dict[str, Any]:
    """Return the mean frequency of the noise in a region as a metric, and its spectrum."""
    from medrestore.metrics import noise_power_spectrum

    definition = f"mean frequency of the noise-power spectrum in 1/mm, {words}"
    try:
        found = noise_power_spectrum(array, image.spacing, mask=region)
        value = found.mean_frequency
    except InputError as error:
        return {"noise_frequency": {"value": None, "reason": str(error), "definition": definition}}
    definition += f", {found.cubes} cubes; white noise would have {found.frequency.mean():.4g}"
    return {
        "noise_frequency": {"value": value, "reason": None, "definition": definition},
        "noise_power": {"frequency": found.frequency.tolist(), "power": found.power.tolist()},
    }


def _print(found: Sequence[Mapping[str, Any]]) -> None:
    from medrestore.cli.table import print_table

    places = list(found[0])
    rows = []
    for number, volume in enumerate(found):
        names = dict.fromkeys(name for values in volume.values() for name in values if name != "noise_power")
        for name in names:
            metrics = [volume[where].get(name) for where in places]
            definitions = dict.fromkeys(one["definition"] for one in metrics if one is not None)
            cells = ["" if one is None else _cell(one) for one in metrics]
            head = (str(number),) if len(found) > 1 else ()
            rows.append((*head, _TITLES[name], *cells, "; ".join(definitions)))
    series = ("volume",) if len(found) > 1 else ()
    print_table((*series, "metric", *places, "definition"), rows)


def _cell(metric: Mapping[str, Any]) -> str:
    return f"absent: {metric['reason']}" if metric["value"] is None else f"{metric['value']:.6g}"
