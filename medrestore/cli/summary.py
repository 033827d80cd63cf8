"""The table after a restoration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import typer

from medrestore.cli.table import print_table
from medrestore.findings import Finding
from medrestore.provenance import RunRecord, series_record

Row = tuple[str, str]
_VOLUME_HEADS = ("volume", "verdict", "noise", "share", "residual / noise", "neighbours")


def print_summary(records: Sequence[RunRecord], restored: Path) -> None:
    """Print the result on stdout, and its findings on stderr."""
    if len(records) > 1:
        print_table(
            (*_VOLUME_HEADS, "PSNR (dB)", "SSIM", *_further(records[0])),
            [
                (str(number), record.judgement or "-", *_volume_cells(record))
                for number, record in enumerate(records)
            ],
        )
    print_table(("restored", str(restored)), _rows(records))
    for number, record in enumerate(records):
        _print_detectability(record, f"volume {number}: " if len(records) > 1 else "")
    print_findings(finding for record in records for finding in record.findings)


def _print_detectability(record: RunRecord, where: str) -> None:
    """Print how well virtual spheres are found before and after, and what each strength leaves."""
    told = cast("Mapping[str, Any]", record.detectability)
    if "spheres" not in told:
        return
    rows = [
        (
            f"{row['diameter']} voxels, {row['contrast']:g} x noise" if "diameter" in row else "all",
            *(f"{row[when]['value']:.2f}" for when in ("before", "after")),
            f"{row['difference']['low']:+.2f} to {row['difference']['high']:+.2f}",
            *(_number(row.get("kept", {}).get(sign), ".2f") for sign in ("bright", "dark")),
            row["verdict"],
        )
        for row in (*told["spheres"], told["overall"])
    ]
    heads = ("area under curve", "before", "after", "difference", "bright kept", "dark kept", "verdict")
    print_table((f"{where}virtual spheres, {heads[0]}", *heads[1:]), rows)
    steps = [
        (
            f"{step['strength']:g}",
            f"{step['area']:.3f}",
            f"{step['index']:.2f}",
            _number(step["noise"], ".2f"),
        )
        for step in told["strengths"]
    ]
    print_table((f"{where}strength", "area under curve", "d'", "noise left"), steps)


def print_findings(findings: Iterable[Finding]) -> None:
    """Print on stderr the findings about a scan or its result, each sentence once."""
    for finding in {finding.text: finding for finding in findings}.values():
        typer.echo(f"{finding.severity.capitalize()}: {finding.text}", err=True)


def _models(record: RunRecord) -> str:
    cleaner = record.cleaner
    return record.model.name if cleaner is None else f"{record.model.name} after {cleaner.name}"


def _rows(records: Sequence[RunRecord]) -> list[Row]:
    first, last = records[0], records[-1]
    settings = first.settings
    rows = [
        ("model", f"{_models(first)} on {settings['device']} in {settings['dtype']}"),
        ("output", _output(first)),
        ("verdict", _verdict(series_record(records))),
    ]
    if len(records) == 1:
        noise, share, residual, neighbours, *_ = _volume_cells(first)
        rows += [
            ("noise", f"{noise}, {share}{_reference(first)} ({first.noise['method']})"),
            ("residual", f"{residual} of the noise, neighbours correlated {neighbours}"),
            *_slices(first),
            *_quality(first),
            *_bound(first),
        ]
    rows.append(("time", _times(records)))
    if last.peak_memory_mb is not None:
        rows.append(("peak memory", f"{last.peak_memory_mb:.0f} MB"))
    if last.predicted:
        told = cast("Mapping[str, float]", last.predicted)
        rows.append(("predicted", f"{told['seconds']:.1f} s a volume, {told['peak_memory_mb']:.0f} MB"))
    return rows


def _output(record: RunRecord) -> str:
    settings, kind = record.settings, str(record.settings["output"])
    name = "posterior mean" if kind == "mean" else "posterior sample"
    if record.seed is None:
        return name
    drawn = max(int(cast(int, settings["samples"])), int(kind == "sample"))
    return (
        f"{name}; {drawn} sample{'s' * (drawn > 1)} of {settings['steps']} steps ({settings['sampler']}), "
        f"seed {record.seed}"
    )


def _verdict(record: RunRecord) -> str:
    """Return the verdict; its causes are among the findings."""
    told = cast("Mapping[str, Any]", record.verdict)
    if record.judgement is None:
        return f"not given: {told.get('reason', 'nobody judged')}"
    return f"{record.judgement}; {told['cannot_tell']}"


def _volume_cells(record: RunRecord) -> tuple[str, ...]:
    """Return noise, its share, residual, correlation, PSNR, SSIM and further metrics as text."""
    noise = record.noise
    return (
        f"{noise['sigma']:.4g}",
        f"{noise['fraction']:.2%}",
        _number(noise["std_over_sigma"], ".2f"),
        _number(noise["neighbour_correlation"], "+.2f"),
        *(_change(record, name, digits) for name, digits in (("psnr", ".2f"), ("ssim", ".4f"))),
        *(_change(record, name, ".4g") for name in _further(record)),
    )


def _reference(record: RunRecord) -> str:
    """Return the reference level of the noise's share: the 99th percentile, or the attenuation of water."""
    sigma, fraction = (float(cast(float, record.noise[name])) for name in ("sigma", "fraction"))
    return f" of {sigma / fraction:.4g}" if fraction else ""


def _slices(record: RunRecord) -> list[Row]:
    """Return how thick slices were resolved, if they were."""
    told = cast("Mapping[str, Any]", record.slices)
    if not told:
        return []
    thickness = "" if told["thickness_mm"] == told["spacing_mm"] else f", {told['thickness_mm']:.4g} mm thick"
    share = f"{told['residual_rms_of_p99']:.3%} of the 99th percentile"
    return [
        (
            "slices",
            f"{told['spacing_mm']:.4g} mm apart along {told['axis']}{thickness} ({told['profile']}); now "
            f"{told['target_mm']:.4g} mm, {told['factor']:.3g} times finer",
        ),
        ("of the slices", f"{share} is not reproduced (RMS), {told['residual_max']:.3g} at most"),
    ]


def _quality(record: RunRecord) -> list[Row]:
    """Return PSNR, SSIM and metrics of plugins before and after, or why there are none."""
    rows = []
    for name, title, digits in (
        ("psnr", "PSNR in the head (dB)", ".2f"),
        ("ssim", "SSIM in the head", ".4f"),
        *((name, f"{name} in the head", ".4g") for name in _further(record)),
    ):
        after = _both(record, name)[1]
        absent = after["value"] is None
        rows.append((title, f"absent: {after['reason']}" if absent else _change(record, name, digits)))
    return rows


def _bound(record: RunRecord) -> list[Row]:
    """Return the least PSNR and SSIM, where intervals were asked for."""
    bound = cast("Mapping[str, Any]", record.intervals).get("bound")
    if not bound:
        return []
    text = (
        f"PSNR {bound['psnr']:.1f} dB, SSIM {bound['ssim']:.3f}, with a probability of {bound['level']:.0%}"
    )
    return [("at least", text)]


def _further(record: RunRecord) -> tuple[str, ...]:
    """Return the names of the metrics of plugins, where there is a reference for them."""
    found = cast("Mapping[str, Mapping[str, Mapping[str, Any]]]", record.metrics)["result"]
    compared = any(metric["value"] is not None for metric in found.values())
    return tuple(name for name in found if compared and "/" in name)


def _both(record: RunRecord, name: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    metrics = cast("Mapping[str, Mapping[str, Mapping[str, Any]]]", record.metrics)
    return metrics["input"][name], metrics["result"][name]


def _change(record: RunRecord, name: str, digits: str) -> str:
    before, after = (metric["value"] for metric in _both(record, name))
    if before is None and after is None:
        return "-"
    return f"{_number(before, digits)} -> {_number(after, digits)}"


def _number(value: object, form: str) -> str:
    return "-" if value is None else format(value, form)


def _times(records: Sequence[RunRecord]) -> str:
    """Return seconds by phase; phases done once for a series are counted once."""
    once = ("read", "load_model", "write")
    total: dict[str, float] = {}
    for number, record in enumerate(records):
        for phase, seconds in record.timings.items():
            if number == 0 or phase not in once:
                total[phase] = total.get(phase, 0.0) + float(cast(float, seconds))
    order = ("read", "load_model", "prepare", "network", "measure", "write")
    return ", ".join(f"{phase.replace('_', ' ')} {total[phase]:.1f} s" for phase in order if phase in total)
