"""`medrestore noise`: what a scan says of its own noise."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrestore.cli.options import limits_threads, takes_reading
from medrestore.errors import ConfigError
from medrestore.options import ReadRequest
from medrestore.types import Modality

if TYPE_CHECKING:
    from medrestore.noise import AxisNoise, NoiseModel, SamplingHints
    from medrestore.noise.level import NoiseLevel
    from medrestore.noise.measure import Pair
    from medrestore.volume import Volume

_ABSENT = "-"


@limits_threads
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
    """Measure the noise of an MR scan: level, how it varies, band and colour along each axis, spikes.

    Of a 4-D series the first volume is measured, and what neighbours differ by where that is noise.
    """
    if picture is not None:
        from medrestore.cli.noise_picture import check_picture

        check_picture(picture, scan, overwrite)
    volumes = _read(scan, modality, reading)
    level = _measure(volumes)
    model = level.measured
    assert model is not None
    if picture is not None:
        from medrestore.cli.noise_picture import save_picture

        save_picture(volumes[0].array, model, picture, overwrite)
    if as_json:
        found = {"percent": _percent(level), "map": None if level.map is None else asdict(level.map)}
        typer.echo(json.dumps({**model.as_json(), **found}, indent=2))
        return
    _print(scan, volumes, level, model)
    if picture is not None:
        typer.echo(f"\nThe spectra are in {picture}.")


def _read(scan: Path, modality: Modality | None, reading: ReadRequest) -> tuple[Volume, ...]:
    """Return the volumes of a scan of MR, and report oddities of the scan on stderr.

    Raises:
        ConfigError: The scan is one of another modality, or options for DICOM are given for one that is none.
    """
    from medrestore.cli.summary import print_findings
    from medrestore.files import read_series
    from medrestore.findings import MODALITY_NOT_STATED
    from medrestore.io import reading_findings
    from medrestore.job.output_format import check_reading
    from medrestore.volume import stated_modality, taken_as

    check_reading(scan, reading)
    given = None if modality is Modality.UNKNOWN else modality
    if given is not None:
        _check_modality(scan, given)
    volumes = read_series(scan, policy=reading.policy, series=reading.series)
    stated, findings = stated_modality(volumes[0]), reading_findings(volumes[0])
    if given is not None:
        findings += taken_as(volumes[0], given, "--modality")[1]
    else:
        _check_modality(scan, stated)
        if stated is None:
            findings += (MODALITY_NOT_STATED.found("the scan does not say its modality; taken for MR"),)
    print_findings(findings)
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


def _measure(volumes: Sequence[Volume]) -> NoiseLevel:
    """Return the noise of a scan as it is measured to restore it; its fraction is NaN in a scan of zeros."""
    from medrestore.noise.intensity import bright_level
    from medrestore.noise.level import mr_noise_level
    from medrestore.noise.varying import as_measured, varying_noise

    first = volumes[0]
    bright = bright_level(first.array) or float("nan")
    level = mr_noise_level(first, "auto", bright, _pairs(volumes))
    assert level.measured is not None
    return varying_noise(as_measured(first.array, level.measured)[1], level, bright)[0]


def _percent(level: NoiseLevel) -> float | None:
    """Return the level in per cent of the bright level; None if the latter is 0."""
    return None if math.isnan(level.fraction) else 100 * level.fraction


def _pairs(volumes: Sequence[Volume]) -> Sequence[Pair]:
    """Return the neighbours of a series that differ by noise alone, and report on stderr if none do."""
    if len(volumes) == 1:
        return ()
    # Imports torch, which a single scan need not wait for.
    from medrestore.engine.tasks.series import noise_pairs

    pairs = noise_pairs(volumes)
    if not pairs:
        typer.echo(
            "Warning: neighbouring volumes differ by more than noise, which is not read there", err=True
        )
    return pairs


def _print(scan: Path, volumes: Sequence[Volume], level: NoiseLevel, model: NoiseModel) -> None:
    from medrestore.cli.table import print_table

    percent = _percent(level)
    share = "" if percent is None else f", {percent:.3g} % of the 99th percentile"
    print_table(
        ("noise", str(scan)),
        [
            ("level", f"{model.sigma:.4g}{share}"),
            ("varies", _variation(level)),
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


def _variation(level: NoiseLevel) -> str:
    from medrestore.noise.varying import LEAST

    if level.map is not None:
        return f"from {level.map.p5:.2f} to {level.map.p95:.2f} of the level in nine tenths of the tissue"
    return "not that it could be seen" if level.fraction >= LEAST else f"not looked for below {LEAST:.0%}"


def _distribution(model: NoiseModel) -> str:
    coils = f" (sum of squares of {model.coils} coils)" if model.coils > 1 else ""
    return f"{model.distribution}{coils}"


def _number(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.4g}"


def _axis_rows(model: NoiseModel, shape: tuple[int, ...]) -> list[tuple[str, ...]]:
    """Return the table of the axes, its heads first; a column for the header only if it states a band."""
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
    """Return the statements of the header other than bands, and its elements that make no sense."""
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
