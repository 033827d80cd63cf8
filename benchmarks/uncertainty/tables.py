"""The results of uncertainty.py as Markdown and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.denoise.tables import made, volume_line

Run = dict[str, Any]


def markdown(report: dict[str, Any], stem: str) -> str:
    """The whole page: how it was measured, the pictures, the tables.

    Args:
        report: Setup and runs.
        stem: Name of the page; the picture of a task has that of the task behind it.
    """
    setup, runs = report["setup"], report["runs"]
    parts = [
        "# Posterior samples: their spread, and the price of sharpness",
        made(setup),
        _setup(setup),
        *(
            f"![Perception and distortion, calibration, and slices, {task}]({stem}-{task}.png)"
            for task in dict.fromkeys(run["task"] for run in runs)
        ),
        "## Spread",
        _spread(runs),
        "## Perception and distortion",
        "The mean has the smallest error and is smoother than the truth; a sample has the sharpness of the "
        "truth and, if it is exact, twice the squared error: 3 dB less.",
    ]
    for run in runs:
        parts += [f"### {run['volume']}, {run['task']}", _curve(run)]
    parts += ["## Volumes", *(f"- {v['name']}: {volume_line(v)}" for v in setup["volumes"])]
    return "\n\n".join(parts) + "\n"


def _setup(setup: dict[str, Any]) -> str:
    lines = [f"- {task}: {what}." for task, what in setup["cases"].items()]
    lines += [
        f"- {setup['samples']} samples ({setup['sampler']}), seed {setup['seed']}; noise levels estimated.",
        "- Everything inside the head (`medrestore.metrics.head_mask` of the clean volume). Error: that of",
        "  the posterior mean. Data range of PSNR and SSIM = maximum - minimum of the clean",
        "  volume.",
        "- Error / deviation: root mean square of the one over that of the other; 1 is right, above 1 the",
        "  samples are too sure. Rank correlation: Spearman's, over voxels and over cubes of",
        f"  {setup['cube']} voxels (root mean squares in them). The error of one voxel is one draw, so the",
        "  correlation over voxels is below 1 even for exact samples.",
        "- Gradient: mean gradient magnitude over that of the truth. Fine power: power beyond half the",
        "  Nyquist frequency over that of the truth, which has noise of its own.",
        f"- Machine: {setup['cpu']}, {setup['cores']} cores, threads: {setup['threads']};",
        f"  {setup['system']}, Python {setup['python']}.",
    ]
    return "\n".join(lines)


def _spread(runs: list[Run]) -> str:
    lines = [
        "| volume | task | model | error / deviation | rank correlation, voxels | cubes "
        "| within two deviations | time (s) |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r['volume']} | {r['task']} | {r['model']} | {r['error_over_deviation']:.2f} "
        f"| {r['rank_voxels']:.2f} | {r['rank_cubes']:.2f} | {r['within_two']:.0%} | {_seconds(r)} |"
        for r in runs
    ]
    return "\n".join(lines)


def _seconds(run: Run) -> str:
    """Return the time; none where other work ran beside it."""
    return "" if run["seconds"] is None else f"{run['seconds']:.0f}"


def _curve(run: Run) -> str:
    lines = [
        "| | evaluations | PSNR (dB) | SSIM | gradient | fine power |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {_name(point['name'], run)} | {point.get('evaluations', '')} | {point['psnr']:.2f} "
        f"| {point['ssim']:.4f} | {point['gradient']:.3f} | {point['power']:.3f} |"
        for point in run["curve"]
    ]
    return "\n".join(lines)


def _name(name: str, run: Run) -> str:
    spline = "cubic spline" if run["task"] == "superres" else "noisy scan"
    return {"scan": spline, "mean": "posterior mean"}.get(
        name, f"sample, {name}" if " step" in name else name
    )


def plot(measured: Sequence[tuple[Run, dict[str, np.ndarray]]], path: Path) -> None:
    """For each run, with its images: PSNR against sharpness, error against deviation, and slices."""
    count = len(measured)
    figure, axes = plt.subplots(count, 7, figsize=(21, 3.6 * count), squeeze=False, layout="constrained")
    for row, (run, images) in zip(axes, measured, strict=True):
        _plot_curve(row[0], run)
        _plot_bins(row[1], run)
        _plot_slices(row[2:], images)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _plot_curve(axes: Any, run: Run) -> None:
    samples = [point for point in run["curve"] if " step" in point["name"]]
    axes.plot([p["gradient"] for p in samples], [p["psnr"] for p in samples], marker="o", color="C0")
    for point in run["curve"]:
        if " step" not in point["name"]:
            axes.plot(point["gradient"], point["psnr"], marker="s", color="C1", linestyle="none")
        axes.annotate(
            _name(point["name"], run).removeprefix("sample, "),
            (point["gradient"], point["psnr"]),
            xytext=(4, 3),
            textcoords="offset points",
            fontsize="x-small",
        )
    axes.axvline(1, color="grey", linewidth=0.8, linestyle=":")
    axes.set(
        xlabel="gradient / that of the truth", ylabel="PSNR (dB)", title=f"{run['volume']}, {run['task']}"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _plot_bins(axes: Any, run: Run) -> None:
    spread, error = np.array(run["bins"]).T
    top = max(spread.max(), error.max()) * 1.05
    axes.plot([0, top], [0, top], color="grey", linewidth=0.8, linestyle=":")
    axes.plot(spread, error, marker="o")
    axes.set(
        xlabel="deviation of the samples", ylabel="error of the mean (RMS)", title="equal parts of the head"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _plot_slices(row: Any, images: dict[str, np.ndarray]) -> None:
    """Show a coronal plane: the middle of a head from front to back, where it is no face."""
    bright = np.percentile(images["truth"], 99)
    errors = np.percentile(images["error of the mean"], 99.5)
    for axes, (title, image) in zip(row, images.items(), strict=True):
        plane = image[:, image.shape[1] // 2].T[::-1]
        top = errors if title in {"error of the mean", "deviation"} else bright
        axes.imshow(plane, cmap="gray", vmin=0, vmax=top)
        axes.set_title(title, fontsize="small")
        axes.set_axis_off()
