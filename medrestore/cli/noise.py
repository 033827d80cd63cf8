"""`medrestore noise`: what a scan says of its own noise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrestore.cli.options import takes_reading
from medrestore.errors import ConfigError
from medrestore.options import ReadRequest
from medrestore.types import Modality

if TYPE_CHECKING:
    from medrestore.noise import AxisNoise, NoiseModel
    from medrestore.volume import Volume

_ABSENT = "-"


@takes_reading
def noise(
    scan: Annotated[Path, typer.Argument(metavar="SCAN", help="NIfTI file, or folder of DICOM files.")],
    modality: Annotated[
        Modality | None,
        typer.Option(case_sensitive=False, help="What the scan is, where it does not say: MR."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the spectrum along each axis.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a picture that is there.")] = False,
    *,
    reading: ReadRequest,
) -> None:
    """Measure the noise of an MR scan: level, band and colour along each axis, distribution, spikes.

    The volumes of a 4-D series are taken for repetitions: the noise is read in their differences.
    """
    if picture is not None:
        from medrestore.cli.noise_picture import check_picture

        check_picture(picture, scan, overwrite)
    volumes = _read(scan, modality, reading)
    model, percent = _measure(volumes)
    if picture is not None:
        from medrestore.cli.noise_picture import save_picture

        save_picture(volumes[0].array, model, picture, overwrite)
    if as_json:
        typer.echo(json.dumps({**model.as_json(), "percent": percent}, indent=2))
        return
    _print(scan, volumes, model, percent)
    if picture is not None:
        typer.echo(f"\nThe spectra are in {picture}.")


def _read(scan: Path, modality: Modality | None, reading: ReadRequest) -> tuple[Volume, ...]:
    """Return the volumes of a scan of MR, and say on stderr what is odd about them.

    Raises:
        ConfigError: The scan is one of another modality, or options for DICOM are given for one that is none.
    """
    from medrestore.files import read_series
    from medrestore.io import reading_notes
    from medrestore.job.form import check_reading
    from medrestore.volume import stated_modality

    check_reading(scan, reading)
    stated = None if modality is Modality.UNKNOWN else modality
    if stated is not None:
        _check_modality(scan, stated)
    volumes = read_series(scan, policy=reading.policy, series=reading.series)
    said, notes = stated_modality(volumes[0]), reading_notes(volumes[0])
    if stated is None:
        _check_modality(scan, said)
    if said is None and stated is None:
        notes += ("the scan does not say its modality; taken for MR",)
    elif said is not None and stated not in {None, said}:
        notes += (f"the scan says {said}, --modality says {stated}",)
    for note in notes:
        typer.echo(f"Warning: {note}", err=True)
    return volumes


def _check_modality(scan: Path, modality: str | None) -> None:
    if modality in {None, Modality.MR}:
        return
    where = (
        "that of CT is read otherwise, by `medrestore restore`, which keeps it as noise.sigma in its record"
        if modality == Modality.CT
        else "that of other scans is another"
    )
    raise ConfigError(
        f"{scan}: a scan of {modality}, and the noise of MR is what is measured here; {where}. Pass "
        "--modality MR if it is a scan of MR"
    )


def _measure(volumes: Sequence[Volume]) -> tuple[NoiseModel, float | None]:
    """Return the noise of a scan, and its level in per cent of the bright level; None where that is 0."""
    import numpy as np

    from medrestore.noise import measure_noise
    from medrestore.noise.intensity import bright_level

    first = volumes[0]
    repeats = np.stack([volume.array for volume in volumes]) if len(volumes) > 1 else None
    model = measure_noise(first.array, first.spacing, repeats)
    bright = bright_level(first.array)
    return model, 100 * model.sigma / bright if bright else None


def _print(scan: Path, volumes: Sequence[Volume], model: NoiseModel, percent: float | None) -> None:
    from medrestore.cli.table import print_table

    share = "" if percent is None else f", {percent:.3g} % of the 99th percentile"
    print_table(
        ("noise", str(scan)),
        [
            ("level", f"{model.sigma:.4g}{share}"),
            ("certainty", str(model.certainty)),
            ("read in", f"series of {len(volumes)} volumes" if model.source == "series" else model.source),
            ("distribution", _distribution(model)),
            ("air alone", _number(model.air)),
            ("tissue alone", _number(model.tissue)),
        ],
    )
    typer.echo()
    print_table(
        ("axis", "band (% of Nyquist)", "measured grid", "voxels", "neighbours", "window"),
        [
            _axis_cells(name, axis, size)
            for name, axis, size in zip("ijk", model.axes, volumes[0].shape, strict=True)
        ],
    )
    if model.spikes:
        typer.echo()
        print_table(
            ("spike (cycles along i, j, k)", "share of the centre", "above its neighbours"),
            [
                (", ".join(map(str, spike.cycles)), f"{spike.share:.2%}", f"{spike.height:.3g} times")
                for spike in model.spikes
            ],
        )


def _distribution(model: NoiseModel) -> str:
    coils = f" (sum of squares of {model.coils} coils)" if model.coils > 1 else ""
    return f"{model.distribution}{coils}"


def _number(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.4g}"


def _axis_cells(name: str, axis: AxisNoise, size: int) -> tuple[str, ...]:
    from medrestore.noise.tissue import NO_WINDOW

    window = (
        "none"
        if axis.edge >= NO_WINDOW.edge
        else f"edge {axis.edge:.2f}, width {axis.width:.2f} of the measured Nyquist"
    )
    return name, f"{100 * axis.band:.1f}", str(axis.size), str(size), f"{axis.correlation:+.2f}", window
