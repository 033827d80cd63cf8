"""The results of a benchmark as Markdown and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.harness.quality_plot import Run, plot_quality


def markdown(report: dict[str, Any], stem: str) -> str:
    """The whole page: how it was measured, one table for each volume, the picture, the settings."""
    setup, runs = report["setup"], report["runs"]
    parts = [
        "# Denoising: medrestore beside other filters",
        made(setup),
        _setup(setup),
        f"![PSNR and SSIM by noise level, and time by filter]({stem}.png)",
        f"![The middle of a plane, truth and results]({stem}-slices.png)",
        f"The middle of a plane, noise of {setup['pictured']:g} %: voxels above, error below; white is 10 % "
        "of the data range.",
    ]
    for volume in setup["volumes"]:
        parts += [
            f"## {volume['name']}",
            volume_line(volume),
            _table([r for r in runs if r["volume"] == volume["name"]]),
        ]
    parts += ["## Settings", settings(setup["methods"], setup["packages"])]
    if kept := sorted({run["kept"] for run in runs if "kept" in run}):
        parts += [f"\\* Measured earlier, on the same noisy volumes ({'; '.join(kept)}): no time to compare."]
    failed = [run for run in runs if "error" in run]
    if failed:
        lines = [f"- {r['title']}, {r['volume']}, {r['level']:g} %: {r['error']}" for r in failed]
        parts += ["## Not measured", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def made(setup: dict[str, Any]) -> str:
    """How a page came about, with which weights."""
    digests = setup.get("weights", {}).items()
    of = "".join(f", weights `{digest[:16]}` of {name}" for name, digest in digests)
    return f"Made by `{setup['command']}` on {setup['date']}{of}; raw numbers are in the JSON file beside it."


def _setup(setup: dict[str, Any]) -> str:
    lines = [
        f"- Noise: {setup['noise']}, sigma = the level in per cent of the 99th percentile of the clean",
        f"  volume (all voxels), seed {setup['seed']}. Every filter gets the same noisy volume, and the true",
        "  sigma except where its settings below say otherwise.",
        "- PSNR = 20 log10(data range / RMSE). SSIM: 3-D, Gaussian window of 11 voxels, sigma 1.5 voxels,",
        "  population covariance, over voxels at least 5 from the border. Data range = maximum - minimum of",
        "  the clean volume. Head: `medrestore.metrics.head_mask` of the clean volume.",
        "- Time: one call of the filter, without imports and reading; for medrestore with the loading of the",
        "  model, which is given apart where the run record has it. Memory: highest resident memory of the",
        "  filter's own process, with its libraries and the scan.",
        f"- Machine: {setup['cpu']}, {setup['cores']} cores, threads per filter: {setup['threads']};",
        f"  {setup['system']}, Python {setup['python']}.",
    ]
    if setup.get("gains"):
        lines.append("- The noise varies over the scan: sigma is its median inside the head, times a map.")
        lines += [f"    - {kind}: {what}." for kind, what in setup["gains"].items()]
    return "\n".join(lines)


def volume_line(volume: dict[str, Any]) -> str:
    """A sentence on a clean volume."""
    shape = " x ".join(str(n) for n in volume["shape"])
    spacing = " x ".join(f"{length:g}" for length in volume["spacing_mm"])
    file = f"sha256 of the file `{volume['sha256'][:16]}`" if volume["sha256"] else "computed, no file"
    return (
        f"{shape} voxels of {spacing} mm, values {volume['minimum']:g} to {volume['maximum']:g}, "
        f"99th percentile {volume['p99']:g}, head {100 * volume['head_fraction']:.0f} % of the voxels; "
        f"{file}{', ' + volume['crop'] if volume['crop'] else ''}."
    )


def _table(runs: list[Run]) -> str:
    lines = [
        "| noise | filter | PSNR head (dB) | SSIM head | PSNR all (dB) | SSIM all | time (s) | memory (MB) |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for level in dict.fromkeys(run["level"] for run in runs):
        group = [run for run in runs if run["level"] == level]
        best = max((run["psnr_head"] for run in group if "psnr_head" in run), default=None)
        lines += [_row(run, best) for run in group]
    return "\n".join(lines)


def _row(run: Run, best: float | None) -> str:
    start = f"| {run['level']:g} % | {run['title']} | "
    if "error" in run:
        return start + "not measured | | | | | |"
    psnr = f"**{run['psnr_head']:.2f}**" if run["psnr_head"] == best else f"{run['psnr_head']:.2f}"
    if run["method"] == "noisy":
        time, memory = "", ""
    else:
        load = run["notes"].get("timing load_model")
        time = f"{run['filter_s']:.1f}" + (f" (load {load:.1f})" if isinstance(load, float) else "")
        time += "\\*" if "kept" in run else ""
        memory = f"{run['peak_mb']:.0f}"
    return start + (
        f"{psnr} | {run['ssim_head']:.4f} | {run['psnr_all']:.2f} | {run['ssim_all']:.4f} "
        f"| {time} | {memory} |"
    )


def settings(methods: dict[str, Any], packages: dict[str, str]) -> str:
    """A table of what each method was told."""
    lines = ["| filter | package | settings |", "|---|---|---|"]
    for method in methods.values():
        version = packages.get(method["package"], "not installed")
        lines.append(f"| {method['title']} | {method['package']} {version} | {method['settings']} |")
    if any(method["package"] == "bm4d" for method in methods.values()):
        lines += [
            "",
            "BM4D is licensed for non-commercial use only: a peer here, no dependency of medrestore.",
        ]
    return "\n".join(lines)


def plot(report: dict[str, Any], path: Path) -> None:
    """For each volume: PSNR and SSIM in the head against the noise level, and time (log) by filter."""
    plot_quality(report, path, _curves, "level")


def _curves(axes: Any, runs: list[Run], key: str, colours: dict[str, str]) -> None:
    for method, colour in colours.items():
        points = sorted((run["level"], run[key]) for run in runs if run["method"] == method)
        if not points:
            continue
        title = next(run["title"] for run in runs if run["method"] == method)
        ours = method.startswith("ours")
        axes.plot(
            *zip(*points, strict=True),
            marker="o",
            label=title,
            color=colour,
            linewidth=2.5 if ours else 1.3,
            linestyle=":" if method == "noisy" else "-",
        )
    axes.set_xlabel("noise sigma (% of the 99th percentile)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
