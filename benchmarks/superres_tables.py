"""The results of superres.py as Markdown, as curves and as slices side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from common import Truth
from tables import settings, times, volume_line

from medrestore.geometry import Geometry

Run = dict[str, Any]
MIDDLE = 0.62  # part of the field of view that the picture shows: the brain


def markdown(report: dict[str, Any], stem: str) -> str:
    """The whole page: how it was measured, the pictures, one table for each volume, the settings."""
    setup, runs = report["setup"], report["runs"]
    parts = [
        "# Super-resolution: medrestore beside other methods",
        f"Made by `{setup['command']}` on {setup['date']}; raw numbers are in the JSON file beside it.",
        _setup(setup),
        f"![PSNR and SSIM by case, and time by method]({stem}.png)",
        f"![The middle of a coronal plane, truth and results]({stem}-slices.png)",
        f"The middle of a plane through the slices, {setup['pictured']}: voxels above, error below; white "
        "is 25 % of the data range.",
    ]
    for volume in setup["volumes"]:
        mine = [run for run in runs if run["volume"] == volume["name"]]
        parts += [f"## {volume['name']}", volume_line(volume), _table(mine)]
    parts += ["## Settings", settings(setup["methods"], setup["packages"])]
    failed = [run for run in runs if "error" in run]
    if failed:
        lines = [f"- {run['title']}, {run['volume']}, {run['case']}: {run['error']}" for run in failed]
        parts += ["## Not measured", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _setup(setup: dict[str, Any]) -> str:
    lines = [
        f"- Slices along axis {setup['axis']} are weighted means of the planes of the clean volume",
        "  (`medrestore.physics.slices`): xN has slices N planes apart. The profile is a boxcar and there is",
        f"  no gap, except where it says so: a gap of {setup['gap']:.0%} of the distance, or a Gaussian",
        "  with a full width at half maximum of the distance. No noise, except Rician noise of",
        f"  {setup['noise']:.0%} of the 99th percentile of the slices where it says so.",
        "- PSNR = 20 log10(data range / RMSE). SSIM: 3-D, Gaussian window of 11 voxels, sigma 1.5 voxels,",
        "  population covariance, over voxels at least 5 from the border. Data range = maximum - minimum of",
        "  the clean volume. Head: `medrestore.metrics.head_mask` of the clean volume.",
        *_ct(setup),
        "- Residual: the slices of the result minus those measured, root mean square, in per cent of the",
        "  99th percentile of the slices. What the noise puts there is no fault.",
        "- Time: one call of the method, without imports and reading; for medrestore with the loading of",
        "  the model. Memory: highest resident memory of the method's own process.",
        f"- Machine: {setup['cpu']}, {setup['cores']} cores, threads: {setup['threads']};",
        f"  {setup['system']}, Python {setup['python']}.",
    ]
    return "\n".join(lines)


def _ct(setup: dict[str, Any]) -> list[str]:
    if setup.get("modality", "MR") != "CT":
        return []
    return [
        "- The voxels are HU + 1000 between 0 and 2000, air 0 and water 1000, and so is the 99th percentile",
        "  that noise and residual are relative to. The head is the body here, and the noise is Rician.",
    ]


def _table(runs: list[Run]) -> str:
    lines = [
        "| slices | method | PSNR head (dB) | over cubic | SSIM head | PSNR all (dB) | SSIM all "
        "| residual (%) | time (s) | memory (MB) |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for case in dict.fromkeys(run["case"] for run in runs):
        group = [run for run in runs if run["case"] == case]
        best = max((run["psnr_head"] for run in group if "psnr_head" in run), default=None)
        cubic = next((run.get("psnr_head") for run in group if run["method"] == "cubic"), None)
        lines += [_row(run, best, cubic) for run in group]
    return "\n".join(lines)


def _row(run: Run, best: float | None, cubic: float | None) -> str:
    start = f"| {run['case']} | {run['title']} | "
    if "error" in run:
        return start + "not measured | | | | | | | |"
    psnr = f"**{run['psnr_head']:.2f}**" if run["psnr_head"] == best else f"{run['psnr_head']:.2f}"
    over = "" if cubic is None or run["method"] == "cubic" else f"{run['psnr_head'] - cubic:+.2f}"
    return start + (
        f"{psnr} | {over} | {run['ssim_head']:.4f} | {run['psnr_all']:.2f} | {run['ssim_all']:.4f} "
        f"| {100 * run['residual']:.2g} | {run['filter_s']:.1f} | {run['peak_mb']:.0f} |"
    )


def plot(report: dict[str, Any], path: Path) -> None:
    """For each volume: PSNR and SSIM in the head by case, and time (log) by method."""
    runs = [run for run in report["runs"] if "error" not in run]
    volumes = [volume["name"] for volume in report["setup"]["volumes"]]
    colours = {key: f"C{index}" for index, key in enumerate(report["setup"]["methods"])}
    figure, axes = plt.subplots(
        len(volumes), 3, figsize=(14, 4.2 * len(volumes)), squeeze=False, layout="constrained"
    )
    for row, name in zip(axes, volumes, strict=True):
        here = [run for run in runs if run["volume"] == name]
        _bars(row[0], here, "psnr_head", colours)
        row[0].set(ylabel="PSNR in the head (dB)", title=name)
        _bars(row[1], here, "ssim_head", colours)
        row[1].set(ylabel="SSIM in the head")
        row[1].legend(fontsize="small", frameon=False)
        times(row[2], here, colours, "time, mean over the cases (s)")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _bars(axes: Any, runs: list[Run], key: str, colours: dict[str, str]) -> None:
    cases = list(dict.fromkeys(run["case"] for run in runs))
    for method, colour in colours.items():
        mine = {run["case"]: run[key] for run in runs if run["method"] == method}
        title = next((run["title"] for run in runs if run["method"] == method), method)
        at = [index for index, case in enumerate(cases) if case in mine]
        axes.plot(
            at,
            [mine[cases[index]] for index in at],
            marker="o",
            linestyle="none",
            label=title,
            color=colour,
            markersize=8 if method == "ours" else 5,
        )
    axes.set_xticks(range(len(cases)), cases, rotation=20, ha="right", fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def picture(pictures: list[tuple[Truth, dict[str, np.ndarray]]], axis: int, path: Path) -> None:
    """For each volume, a plane through the slices: the truth and every result, with the error below."""
    columns = max(len(images) for _, images in pictures)
    size = (2.3 * columns, 4.9 * len(pictures))
    figure, axes = plt.subplots(2 * len(pictures), columns, figsize=size, squeeze=False, layout="constrained")
    for axis_of in axes.flat:
        axis_of.set_axis_off()
    for number, (truth, images) in enumerate(pictures):
        reference = images["truth"]
        plane = _plane(truth, axis)
        for column, (title, image) in enumerate(images.items()):
            above, below = axes[2 * number, column], axes[2 * number + 1, column]
            above.imshow(_middle(image, plane, axis), cmap="gray", vmin=0, vmax=truth.p99)
            above.set_title(title, fontsize="small")
            if title != "truth":
                error = np.abs(_middle(image, plane, axis) - _middle(reference, plane, axis))
                below.imshow(error, cmap="gray", vmin=0, vmax=0.25 * truth.data_range)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _plane(truth: Truth, axis: int) -> int:
    """Axis to look along: front to back, which shows no face, or up where the slices lie that way."""
    codes = Geometry(truth.voxels.shape, truth.affine).axis_codes
    order = [next(n for n in range(3) if codes[n] in pair) for pair in ("AP", "SI")]
    return order[0] if order[0] != axis else order[1]


def _middle(image: np.ndarray, plane: int, axis: int) -> np.ndarray:
    """Cut the middle of the middle plane; the slice axis runs upwards."""
    cut = np.take(image, image.shape[plane] // 2, axis=plane)
    across = [n for n in range(3) if n != plane].index(axis)
    cut = cut if across == 0 else cut.T
    margins = [round(n * (1 - MIDDLE) / 2) for n in cut.shape]
    cut = cut[margins[0] : cut.shape[0] - margins[0], margins[1] : cut.shape[1] - margins[1]]
    return cut[::-1]
