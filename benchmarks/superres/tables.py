"""The results of superres.py as Markdown and as curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.denoise.tables import made, settings, volume_line
from benchmarks.harness.quality_plot import Run, plot_quality


def markdown(report: dict[str, Any], stem: str) -> str:
    """The whole page: how it was measured, the pictures, one table for each volume, the settings."""
    setup, runs = report["setup"], report["runs"]
    parts = [
        "# Super-resolution: medrestore beside other methods",
        made(setup),
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
        f"  {setup['noise']:.0%} of the 99th percentile of the slices where it says so; and of",
        f"  {setup['filled']:.0%} where slices were measured on half of the grid in their plane, and k-space",
        "  was filled with zeros: then the truth is the volume so measured.",
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
        *([f"- {setup['note']}"] if setup.get("note") else []),
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
    plot_quality(report, path, _bars, "case")


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
