"""The results of noise.py as Markdown."""

from __future__ import annotations

from statistics import mean, median
from typing import Any

from benchmarks.denoise.tables import made, settings, volume_line

Run = dict[str, Any]
Rows = list[Run]

NEAR = 0.1  # of the true level: an estimate that serves


def markdown(report: dict[str, Any]) -> str:
    """The whole page: how it was measured, all at once, tables for each volume, false maps, settings."""
    setup, runs = report["setup"], report["runs"]
    parts = ["# Noise level: medrestore beside other estimators", made(setup), _setup(setup)]
    parts += ["## All rows", _summary(runs), _certainties(runs)]
    for volume in setup["volumes"]:
        mine = [run for run in runs if run["volume"] == volume["name"]]
        parts += [f"## {volume['name']}", volume_line(volume), _ratios(mine), _colours(mine)]
    if report["false_maps"]:
        parts += ["## False maps", _false_maps(report["false_maps"], setup["map_side"])]
    parts += ["## Settings", settings(setup["methods"], setup["packages"])]
    if failed := [run for run in runs if "error" in run]:
        parts += ["## Not measured", _failures(failed)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _setup(setup: dict[str, Any]) -> str:
    lines = [
        "- Complex white noise and the clean volume pass through the same window in k-space, and the scan is",
        "  the magnitude of their sum: the noise of one coil. The level is the standard deviation of one",
        "  channel after the window, in per cent of the 99th percentile of the clean volume;",
        f"  seed {setup['seed']}. In plane: along the first two axes. A middle is cut out afterwards.",
        "- Noise that a volume has itself counts as anatomy: it may be found, and is not in the true level.",
        "- Ratio: level found over true level. In bold: the nearest to 1. No estimator is told anything of",
        "  the noise but that there is one coil, where it asks.",
        "- Band: part of the frequencies up to Nyquist that was measured, along each axis; in brackets, that",
        "  of the window. Fermi and Hann windows fall slowly and end nowhere, so less may be found.",
        "- Correlation: of neighbouring voxels on the grid of the band that was found; in brackets, that of",
        "  the noise that was added, brought to the same grid.",
        f"- Machine: {setup['cpu']}, {setup['cores']} cores, threads: {setup['threads']};",
        f"  {setup['system']}, Python {setup['python']}. Time: mean of one call, without imports.",
    ]
    return "\n".join(lines)


def _summary(runs: Rows) -> str:
    lines = [
        f"| estimator | rows | median ratio | smallest | largest | within {100 * NEAR:.0f} % | time (s) |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for title in _of(runs, "title"):
        mine = [run for run in runs if run["title"] == title and "ratio" in run]
        if not mine:
            lines.append(f"| {title} | not measured | | | | | |")
            continue
        lines.append(f"| {title} | {_spread(mine)} | {mean(run['seconds'] for run in mine):.2f} |")
    return "\n".join(lines)


def _certainties(runs: Rows) -> str:
    """How far the levels are off that medrestore calls sure, likely and unsure."""
    told = [run for run in runs if "certainty" in run]
    if not told:
        return ""
    lines = [
        f"| medrestore says | rows | median ratio | smallest | largest | within {100 * NEAR:.0f} % |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for certainty in ("sure", "likely", "unsure"):
        if mine := [run for run in told if run["certainty"] == certainty]:
            lines.append(f"| {certainty} | {_spread(mine)} |")
    return "\n".join(lines)


def _spread(runs: Rows) -> str:
    ratios = [run["ratio"] for run in runs]
    near = sum(abs(ratio - 1) <= NEAR for ratio in ratios)
    cells = (len(ratios), *(f"{form(ratios):.2f}" for form in (median, min, max)), f"{near} of {len(ratios)}")
    return " | ".join(map(str, cells))


def _ratios(runs: Rows) -> str:
    titles = _of(runs, "title")
    lines = [
        "| noise | level | " + " | ".join(titles) + " |",
        "|---|---:|" + "---:|" * len(titles),
    ]
    for colour, level in dict.fromkeys((run["colour"], run["level"]) for run in runs):
        row = {run["title"]: run for run in runs if (run["colour"], run["level"]) == (colour, level)}
        best = min((abs(run["ratio"] - 1) for run in row.values() if "ratio" in run), default=None)
        cells = [_ratio(row[title], best) if title in row else "" for title in titles]
        lines.append(f"| {colour} | {level:g} % | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _ratio(run: Run, best: float | None) -> str:
    if "ratio" not in run:
        return "not measured"
    return f"**{run['ratio']:.2f}**" if abs(run["ratio"] - 1) == best else f"{run['ratio']:.2f}"


def _colours(runs: Rows) -> str:
    """What medrestore says of each scan beside the level."""
    told = [run for run in runs if "certainty" in run]
    if not told:
        return ""
    lines = [
        "| noise | level | certainty | read in | band (true) | correlation (true) |",
        "|---|---:|---|---|---|---|",
    ]
    for run in told:
        band = f"{_numbers(run['band'])} ({_numbers(run['true_band'])})"
        colour = f"{_numbers(run['correlations'])} ({_numbers(run['true_correlations'])})"
        start = f"| {run['colour']} | {run['level']:g} % | {run['certainty']} | {run['source']}"
        lines.append(f"{start} | {band} | {colour} |")
    return "\n".join(lines)


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value + 0.0:.2f}".replace("-0.00", "0.00") for value in values)


def _false_maps(rows: Rows, side: int) -> str:
    levels = sorted({row["level"] for row in rows})
    lines = [
        f"Noise of the same level everywhere, {levels[0]:g} to {levels[-1]:g} %, in the middle {side} voxels "
        "of each axis, seeds from 0 on: draws in which `medrestore.noise.map.estimate_noise_map` finds a map "
        "all the same.",
        "",
        "| volume | noise | draws | false maps | " + " | ".join(f"{level:g} %" for level in levels) + " |",
        "|---|---|---:|---:|" + "---:|" * len(levels),
    ]
    for volume, colour in dict.fromkeys((row["volume"], row["colour"]) for row in rows):
        mine = [row for row in rows if (row["volume"], row["colour"]) == (volume, colour)]
        found = [row["level"] for row in mine if row["map"]]
        cells = [str(found.count(level)) for level in levels]
        lines.append(f"| {volume} | {colour} | {len(mine)} | {len(found)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _failures(runs: Rows) -> str:
    """One line for each estimator and reason, with the rows where there are few of them."""
    lines = []
    for title, error in dict.fromkeys((run["title"], run["error"]) for run in runs):
        mine = [run for run in runs if (run["title"], run["error"]) == (title, error)]
        where = [f"{run['volume']}, {run['colour']}, {run['level']:g} %" for run in mine]
        lines.append(f"- {title}, {'; '.join(where) if len(where) < 4 else f'{len(where)} rows'}: {error}")
    return "\n".join(lines)


def _of(rows: Rows, key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))
