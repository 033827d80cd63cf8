"""`medrestore noise`: what a scan says of its own noise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from medrestore.errors import ConfigError
from medrestore.types import Modality

if TYPE_CHECKING:
    from medrestore.io import ReadPolicy
    from medrestore.noise import AxisNoise, NoiseModel, SamplingHints
    from medrestore.noise.measure import Pair
    from medrestore.volume import Volume

_ABSENT = "-"


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
    series: SeriesName = None,
    on_gap: OnGap = OnFlaw.FAIL,
    on_duplicate: OnDuplicate = OnFlaw.FAIL,
    on_tilt: OnTilt = OnFlaw.FAIL,
    on_nonuniform: OnNonuniform = OnFlaw.FAIL,
    values: Scale = ValueScale.RESCALED,
) -> None:
    """Measure the noise of an MR scan: level, band and colour along each axis, distribution, spikes.

    Of a 4-D series the first volume is measured, and what neighbours differ by where that is noise.
    """
    if picture is not None:
        from medrestore.cli.noise_picture import check_picture

        check_picture(picture, scan, overwrite)
    policy = read_policy(on_gap, on_duplicate, on_tilt, on_nonuniform, values)
    volumes = _read(scan, modality, policy, series)
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


def _read(
    scan: Path, modality: Modality | None, policy: ReadPolicy, series: str | None
) -> tuple[Volume, ...]:
    """Return the volumes of a scan of MR, and say on stderr what is odd about them.

    Raises:
        ConfigError: The scan is one of another modality, or options for DICOM are given for one that is none.
    """
    from medrestore.cli.targets import is_dicom_scan
    from medrestore.io import ReadPolicy, read_series, reading_notes
    from medrestore.volume import stated_modality

    if policy != ReadPolicy() and not is_dicom_scan(scan):
        raise ConfigError(f"{scan} is no DICOM, which --values and --on-... are for; leave them out")
    stated = None if modality is Modality.UNKNOWN else modality
    if stated is not None:
        _check_modality(scan, stated)
    volumes = read_series(scan, policy=policy, series=series)
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
    from medrestore.noise import measure_noise, sampling_hints
    from medrestore.noise.intensity import bright_level

    first = volumes[0]
    model = measure_noise(first.array, first.spacing, _pairs(volumes), sampling_hints(first))
    bright = bright_level(first.array)
    return model, 100 * model.sigma / bright if bright else None


def _pairs(volumes: Sequence[Volume]) -> Sequence[Pair]:
    """Return the neighbours of a series that differ by noise alone, and say on stderr where none do."""
    if len(volumes) == 1:
        return ()
    from medrestore.engine.series import noise_pairs  # with torch, which a single scan need not wait for

    pairs = noise_pairs(volumes)
    if not pairs:
        typer.echo(
            "Warning: neighbouring volumes differ by more than noise, which is not read there", err=True
        )
    return pairs


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
            *([("series alone", _number(model.series))] if len(volumes) > 1 else ()),
            *_header_rows(model.hints),
        ],
    )
    typer.echo()
    heads, *axes = _axis_rows(model, volumes[0].shape)
    print_table(heads, axes)
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


def _axis_rows(model: NoiseModel, shape: tuple[int, ...]) -> list[tuple[str, ...]]:
    """Return the table of the axes, its heads first; what the header states only where it states a band."""
    rows: list[tuple[str, ...]] = [
        ("axis", "band (% of Nyquist)", "header", "measured grid", "voxels", "neighbours", "window")
    ]
    rows += [_axis_cells(*axis) for axis in zip("ijk", model.axes, shape, strict=True)]
    if any(axis.stated is not None for axis in model.axes):
        return rows
    return [(*cells[:2], *cells[3:]) for cells in rows]


def _axis_cells(name: str, axis: AxisNoise, size: int) -> tuple[str, ...]:
    from medrestore.noise.tissue import NO_WINDOW

    window = (
        "none"
        if axis.edge >= NO_WINDOW.edge
        else f"edge {axis.edge:.2f}, width {axis.width:.2f} of the measured Nyquist"
    )
    stated = _ABSENT if axis.stated is None else f"{100 * axis.stated:.1f}, {axis.verdict}"
    band, correlation = f"{100 * axis.band:.1f}", f"{axis.correlation:+.2f}"
    return name, band, stated, str(axis.size), str(size), correlation, window


def _header_rows(hints: SamplingHints) -> list[tuple[str, str]]:
    """Return what the header states beside the bands, and which of its elements make no sense."""
    facts = {
        "partial Fourier": hints.partial_fourier,
        "a filter": hints.filtered,
        "distortion correction": hints.distortion_corrected,
    }
    said = [
        name if fact else f"no {name.removeprefix('a ')}" for name, fact in facts.items() if fact is not None
    ]
    rows = [("header states", ", ".join(said))] if said else []
    return rows + ([("ignored in it", ", ".join(hints.ignored))] if hints.ignored else [])
