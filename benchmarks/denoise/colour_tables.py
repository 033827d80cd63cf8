"""The results of colour.py as Markdown."""

from __future__ import annotations

from statistics import mean
from typing import Any

from benchmarks.denoise.tables import made, settings, volume_line

Run = dict[str, Any]
Rows = list[Run]


def markdown(report: dict[str, Any], stem: str) -> str:
    """The whole page: how it was measured, tables for each volume, the picture, the settings."""
    setup, runs = report["setup"], report["runs"]
    parts = ["# Denoising of coloured noise: medrestore beside other filters", made(setup), _setup(setup)]
    for volume in setup["volumes"]:
        mine = [run for run in runs if run["volume"] == volume["name"]]
        parts += [f"## {volume['name']}", volume_line(volume)]
        parts += ["PSNR inside the head (dB):", _grid(mine, "psnr_head", "{:.2f}")]
        parts += ["SSIM inside the head:", _grid(mine, "ssim_head", "{:.4f}")]
        parts += _levels(mine)
    parts += [
        "## Slices",
        f"![The middle of a plane, truth and results]({stem}-slices.png)",
        f"The middle of a plane, from the top: {'; '.join(setup['pictured'])}. Voxels above, error below; "
        "white is 10 % of the data range.",
        "## Settings",
        settings(setup["methods"], setup["packages"]),
        _times(runs),
    ]
    if failed := [run for run in runs if "error" in run]:
        lines = [f"- {run['title']}, {run['volume']}, {run['colour']}: {run['error']}" for run in failed]
        parts += ["## Not measured", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _setup(setup: dict[str, Any]) -> str:
    lines = [
        "- Complex white noise and the clean volume pass through the same window in k-space; the scan is the",
        "  magnitude of their sum. Sigma is the standard deviation of one channel after the window,",
        f"  {setup['level']:g} % of the 99th percentile of the clean volume; seed {setup['seed']}. In plane:",
        "  along the first two axes. A middle is cut out afterwards. Every filter gets the same volumes.",
        "- Truth: the magnitude after the window, without noise. Head: `medrestore.metrics.head_mask` of it;",
        "  data range: its maximum - minimum, in the whole volume. PSNR = 20 log10(data range / RMSE).",
        "  SSIM: 3-D, Gaussian window of 11 voxels, sigma 1.5 voxels, population covariance, over voxels at",
        "  least 5 from the border.",
        "- Time: one call of the filter, without imports and reading.",
        *_gains(setup["gains"]),
        f"- Machine: {setup['cpu']}, {setup['cores']} cores, threads per filter: {setup['threads']};",
        f"  {setup['system']}, Python {setup['python']}.",
    ]
    return "\n".join(lines)


def _gains(gains: dict[str, str]) -> list[str]:
    """What is to be said of noise that varies over the scan; nothing where it is constant."""
    if not gains:
        return []
    lines = [
        "- After the window the noise is multiplied by a map, 1 in the median over the head that is measured:"
    ]
    return lines + [f"    - {kind}: {formula}." for kind, formula in gains.items()]


def _grid(runs: Rows, key: str, form: str) -> str:
    """One row for each colour, one column for each filter, the best in bold."""
    titles = list(dict.fromkeys(run["title"] for run in runs))
    lines = ["| noise | " + " | ".join(titles) + " |", "|---|" + "---:|" * len(titles)]
    for colour in dict.fromkeys(run["colour"] for run in runs):
        row = {run["title"]: run for run in runs if run["colour"] == colour}
        best = max((run[key] for run in row.values() if key in run), default=None)
        cells = [_cell(row.get(title, {}).get(key), best, form) for title in titles]
        lines.append(f"| {colour} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: float | None, best: float | None, form: str) -> str:
    if value is None:
        return "not measured"
    return f"**{form.format(value)}**" if value == best else form.format(value)


def _levels(runs: Rows) -> list[str]:
    """The level that medrestore found, where it was not told."""
    found = {
        run["colour"]: run["notes"]["noise sigma"] / run["sigma"]
        for run in runs
        if run["method"] == "ours-auto" and "noise sigma" in run.get("notes", {})
    }
    if not found:
        return []
    cells = " | ".join(f"{ratio:.2f}" for ratio in found.values())
    table = ["| " + " | ".join(found) + " |", "|" + "---:|" * len(found), f"| {cells} |"]
    return ["Level that medrestore found, over the true one:", "\n".join(table)]


def _times(runs: Rows) -> str:
    """Mean time of each filter over the colours, by volume."""
    volumes = list(dict.fromkeys(run["volume"] for run in runs))
    lines = ["| filter | " + " | ".join(f"time, {name} (s)" for name in volumes) + " |"]
    lines.append("|---|" + "---:|" * len(volumes))
    for title in dict.fromkeys(run["title"] for run in runs if run["method"] != "noisy"):
        cells = []
        for name in volumes:
            seconds = [run.get("filter_s") for run in runs if (run["title"], run["volume"]) == (title, name)]
            measured = [value for value in seconds if value is not None]
            cells.append(f"{mean(measured):.1f}" if measured else "not measured")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
