"""The results of measured.run as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.denoise.tables import made

Run = dict[str, Any]

FEW = 20_000  # voxels where two stacks agree: with fewer they were not moved onto each other


def markdown(report: dict[str, Any]) -> str:
    """The whole page, with the parts that were measured."""
    parts = ["# Measured, not simulated"]
    for name, section in {"stacks": _stacks, "phantom": _phantom, "brainweb": _brainweb}.items():
        if name in report:
            parts += [
                section(report[name]["runs"]),
                made(report[name]["setup"]),
                _machine(report[name]["setup"]),
            ]
    return "\n\n".join(parts) + "\n"


def _machine(setup: dict[str, Any]) -> str:
    system = f"{setup['system']}, Python {setup['python']}"
    return f"Machine: {setup['cpu']}, {setup['cores']} cores, threads: {setup['threads']}; {system}."


def _stacks(runs: list[Run]) -> str:
    lines = [
        "## Stacks in three orientations",
        "",
        "Stacks of T2w slices of 3.3 mm, 1.125 mm in plane, through a fetus and its mother. One stack",
        "is resolved to 1.125 mm, moved rigidly onto another (mutual information, with the cubic",
        "spline for all), averaged over the slices of that, and compared with what that measured.",
        "Where: tissue in which the local correlation of the cubic spline with the other stack is",
        "above 0.7, so that what moved is left out; this favours the spline. Detail is what is finer,",
        "across the slices of the resolved stack, than these slices. Strength is its deviation over",
        "that of the measured detail, which holds noise too. The models were trained on heads:",
        "another organ.",
        "",
        "| resolved | compared with | voxels | method | correlation | of detail | strength of detail |",
        "|---|---|---:|---|---:|---:|---:|",
    ]
    for run in runs:
        names = f"{run['stack'].partition('.')[0]} | {run['measured'].partition('.')[0]} | {run['voxels']}"
        figures = f"{run['correlation']:.3f} | {run['detail']:.3f} | {run['strength']:.2f}"
        if run["voxels"] < FEW:
            figures = "not registered | |"
        lines.append(f"| {names} | {run['title']} | {figures} |")
    return "\n".join(lines)


def _phantom(runs: list[Run]) -> str:
    count = runs[0]["images"]
    lines = [
        "## FDA's low-contrast phantom",
        "",
        f"{count} images with and {count} without four inserts at each dose (DIDSR's LCD-CT, filtered",
        "back projection). Images with inserts are restored two at a time, far apart in a stack of",
        "images without. Area: under the receiver operating characteristic of a matched filter",
        "without prewhitening. Change: with the 90 % interval of drawing images anew. Kept: contrast",
        "after over contrast before. Noise: mean deviation over the images without inserts, in HU.",
        "",
        "| dose | insert (HU) | area before | after | change | contrast (HU) | kept | noise before | after |",
        "|---:|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    for run in runs:
        before, after = run["before"], run["after"]
        change = f"{after['area'] - before['area']:+.2f} ({run['low']:+.2f} to {run['high']:+.2f})"
        kept = after["contrast"] / before["contrast"]
        areas = f"{before['area']:.2f} | {after['area']:.2f} | {change}"
        figures = f"{before['contrast']:.1f} | {kept:.2f} | {before['noise']:.1f} | {after['noise']:.1f}"
        lines.append(f"| {run['dose']} % | {run['contrast']:.0f} | {areas} | {figures} |")
    return "\n".join(lines)


def _brainweb(runs: list[Run]) -> str:
    lines = [
        "## BrainWeb's T2",
        "",
        "The middle 140 x 200 x 50 voxels of the T2 volume in bm4d's source distribution, Rician",
        "noise of 9 % of the maximum. Data range: maximum - minimum of the clean volume. NLM and BM4D",
        "are told the level.",
        "",
        "| filter | PSNR in the head (dB) | SSIM in the head | PSNR overall (dB) |",
        "|---|---:|---:|---:|",
    ]
    for run in runs:
        lines.append(
            f"| {run['title']} | {run['psnr_head']:.2f} | {run['ssim_head']:.4f} | {run['psnr_all']:.2f} |"
        )
    return "\n".join(lines)
