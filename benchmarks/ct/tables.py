"""The results of ct.py as Markdown and as spectra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.denoise.tables import made

Run = dict[str, Any]


def markdown(setup: dict[str, Any], truths: list[Any], runs: list[Run], stem: str) -> str:
    """The whole page."""
    lines = [
        "# Low-dose CT: medrestore beside other filters",
        "",
        made(setup),
        f"Machine: {setup['cpu']}, {setup['cores']} cores, threads: {setup['threads']}.",
        "",
        "Noise: Poisson and electronic noise of parallel projections through filtered back",
        "projection (`medrestore.physics.ct_noise`), independent from slice to slice. PSNR and SSIM: voxels",
        "inside the body, clipped to -160 to 240 HU, data range 400 HU. Bias: mean of result minus truth.",
        "Left: standard deviation of result minus truth in soft tissue. Frequency: mean of the noise power",
        "in soft tissue, in cycles/mm, of what is left and of what was removed.",
        "",
        f"![Spectrum of the noise that is left]({stem}.png)",
        "",
        "Noise power in soft tissue by frequency, over its mean: what a filter leaves beside what was there.",
        "",
        f"![Slices, truth and results]({stem}-slices.png)",
        "",
        "The middle slice at the first dose and kernel, -160 to 240 HU, and the error below; white is 60 HU.",
    ]
    for truth in truths:
        own = f"has noise of {truth.own:.1f} HU of its own, which bounds every score"
        about = own if truth.own else "is free of noise"
        size = " x ".join(map(str, truth.voxels.shape))
        spacing = " x ".join(f"{step:.3g}" for step in truth.spacing)
        lines += ["", f"## {truth.name}", "", f"{size} voxels of {spacing} mm; the truth {about}.", "", HEAD]
        lines += [_row(run) for run in runs if run["volume"] == truth.name]
    return "\n".join(lines) + "\n"


HEAD = (
    "| kernel | dose | added (HU) | filter | PSNR (dB) | SSIM | bias: air, fat, soft, bone (HU) | left (HU) "
    "| frequency left, removed | time (s) |\n|---|---:|---:|---|---:|---:|---|---:|---|---:|"
)


def _row(run: Run) -> str:
    start = f"| {run['kernel']} | {run['dose']:g} | {run['level']:.0f} | {run['title']} | "
    if "error" in run:
        return start + f"not measured: {run['error']} | | | | | |"
    bias = ", ".join("-" if value is None else f"{value:+.1f}" for value in run["bias"].values())
    both = (run["left_frequency"], run["removed_frequency"])
    frequency = ", ".join("-" if value is None else f"{value:.2f}" for value in both)
    return start + (
        f"{run['psnr']:.2f} | {run['ssim']:.4f} | {bias} | {run['left_hu']:.1f} | {frequency} "
        f"| {run['seconds']:.1f} |"
    )


def plot(runs: list[Run], path: Path) -> None:
    """For each scan and kernel at the first dose, the shape of the spectrum of what each filter leaves."""
    measured = [run for run in runs if run.get("left_spectrum")]  # a scan may have no calm squares
    scans = list(dict.fromkeys((run["volume"], run["kernel"]) for run in measured))
    figure, axes = plt.subplots(
        1, max(len(scans), 1), figsize=(4.2 * len(scans), 3.8), squeeze=False, layout="constrained"
    )
    for axis, (volume, kernel) in zip(axes[0][: len(scans)], scans, strict=True):
        here = [run for run in measured if (run["volume"], run["kernel"]) == (volume, kernel)]
        for run in here:
            if run["dose"] != here[0]["dose"]:
                continue
            style = ":" if run["method"] == "noisy" else "-"
            width = 2.5 if run["method"] == "ours" else 1.3
            axis.plot(*run["left_spectrum"].values(), style, linewidth=width, label=run["title"])
        axis.set(title=f"{volume}, {kernel}", xlabel="cycles/mm", ylabel="noise power / mean")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    axes[0, -1].legend(fontsize="x-small", frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
