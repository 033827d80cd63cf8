"""Quality and time of every method, a row of panels for each volume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

Run = dict[str, Any]


def plot_quality(
    report: dict[str, Any],
    path: Path,
    draw: Callable[[Any, list[Run], str, dict[str, str]], None],
    over: str,
) -> None:
    """Draw PSNR and SSIM in the head, and the time of each method, for each volume of a report.

    Args:
        report: Of a benchmark.
        path: The picture.
        draw: Puts one measure of some runs on axes, given its key and the colour of each method.
        over: What the runs of a method differ in.
    """
    runs = [run for run in report["runs"] if "error" not in run]
    volumes = [volume["name"] for volume in report["setup"]["volumes"]]
    colours = {key: f"C{index}" for index, key in enumerate(report["setup"]["methods"])}
    figure, axes = plt.subplots(
        len(volumes), 3, figsize=(13.5, 4.2 * len(volumes)), squeeze=False, layout="constrained"
    )
    for row, name in zip(axes, volumes, strict=True):
        here = [run for run in runs if run["volume"] == name]
        draw(row[0], here, "psnr_head", colours)
        row[0].set(ylabel="PSNR in the head (dB)", title=name)
        draw(row[1], here, "ssim_head", colours)
        row[1].set(ylabel="SSIM in the head")
        row[1].legend(fontsize="small", frameon=False)
        _times(row[2], here, colours, f"time, mean over the {over}s (s)")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _times(axes: Any, runs: list[Run], colours: dict[str, str], label: str) -> None:
    """Bars of the mean time of each method."""
    entries = []
    for method, colour in colours.items():
        mine = [run for run in runs if run["method"] == method]
        if mine and method != "noisy":
            mean = sum(run["filter_s"] for run in mine) / len(mine)
            entries.append((mine[0]["title"], mean, colour))
    entries.reverse()
    if not entries:
        axes.set_axis_off()
        return
    titles, seconds, shades = zip(*entries, strict=True)
    bars = axes.barh(titles, seconds, color=shades)
    axes.bar_label(bars, [f"{value:.1f} s" for value in seconds], padding=3, fontsize="small")
    axes.set(xscale="log", xlabel=label)
    axes.margins(x=0.2)
    axes.spines[["top", "right"]].set_visible(False)
