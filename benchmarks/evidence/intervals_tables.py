"""The results of intervals.py as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.denoise.tables import made

Row = dict[str, Any]
GROUPS = 10


def markdown(report: dict[str, Any]) -> str:
    """The whole page."""
    setup, models = report["setup"], report["models"]
    parts = ["# Intervals and bounds, on subjects that set nothing", made(setup), _setup(setup)]
    parts += [
        "## Coverage",
        _coverage(models),
        "## By tenths, of scans that are not warned of",
        _tenths(models),
        "## Bound",
        _bound(models),
    ]
    if any(one["beside"] for one in models):
        parts += ["## Beside the deviation of samples", _beside(models, setup)]
    parts += ["## Every scan", *(_scans(one) for one in models)]
    return "\n\n".join(parts) + "\n"


def _setup(setup: dict[str, Any]) -> str:
    lines = [
        f"- Intervals of {setup['level']:.0%}, by the `calibration.toml` of each model; noise estimated.",
        "- Truths: `benchmarks/evidence/interval_scans.py`, the sets named `test`: none of these subjects",
        "  set a quantile or a weight, of a model or of a calibration. Each gives several scans, with noise",
        "  or slices drawn at random within what the calibration was made for.",
        "- Coverage: share of the voxels of the head (`medrestore.metrics.head_mask` of the truth) whose",
        "  truth lies within the interval; means over scans, each subject counting alike.",
        "- Tenths of the voxels by intensity and gradient of the truth, within each scan; of the scans by",
        "  noise.",
        f"- Machine: {setup['cpu']}, {setup['cores']} cores, threads: {setup['threads']}; {setup['system']},",
        f"  Python {setup['python']}.",
    ]
    return "\n".join(lines)


def by_subject(rows: Sequence[Row], value: Callable[[Row], float]) -> float:
    """Return the mean over subjects of the means over their scans."""
    subjects = {row["subject"] for row in rows}
    return float(
        np.mean([np.mean([value(row) for row in rows if row["subject"] == one]) for one in subjects])
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _coverage(models: Sequence[Row]) -> str:
    found = []
    for one in models:
        rows, whom = one["rows"], one["population"]
        fine = _not_warned_of(rows)
        coverages = [row["coverage"] for row in rows]
        found.append(
            (
                one["model"],
                f"{whom['subjects']} ({whom['scans']})",
                f"{len({row['subject'] for row in rows})} ({len(rows)})",
                f"{by_subject(rows, lambda row: row['coverage']):.1%}",
                f"{min(coverages):.1%} to {max(coverages):.1%}",
                f"{by_subject(rows, lambda row: row['below']):.1%}",
                f"{by_subject(rows, lambda row: row['width_over_rmse']):.2f}",
                str(len(rows) - len(fine)),
                f"{by_subject(fine, lambda row: row['coverage']):.1%}",
            )
        )
    head = ("model", "calibrated on subjects (scans)", "tested on", "coverage", "of single scans")
    return _table((*head, "truth below", "width over RMSE", "warned of", "coverage of the others"), found)


def _not_warned_of(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if "intervals-not-calibrated" not in row["codes"]]


def _tenths(models: Sequence[Row]) -> str:
    found = []
    for one in models:
        rows = _not_warned_of(one["rows"])
        for name in ("intensity", "gradient"):
            cells = [by_subject(rows, lambda row, n=n, name=name: row[name][n]) for n in range(GROUPS)]
            found.append((one["model"], name, *(f"{cell:.1%}" for cell in cells)))
        groups = np.array_split(sorted(rows, key=lambda row: row["noise"]), min(GROUPS, len(rows)))
        cells = [float(np.mean([row["coverage"] for row in group])) for group in groups]
        found.append(
            (one["model"], "noise", *(f"{cell:.1%}" for cell in cells), *[""] * (GROUPS - len(cells)))
        )
    return _table(("model", "tenths of", *(str(n + 1) for n in range(GROUPS))), found)


def _bound(models: Sequence[Row]) -> str:
    found = []
    for one in models:
        rows = [row for row in one["rows"] if row["least_psnr"] is not None]
        found.append(
            (
                one["model"],
                str(len(rows)),
                f"{by_subject(rows, lambda row: float(row['psnr'] >= row['least_psnr'])):.0%}",
                f"{by_subject(rows, lambda row: row['psnr'] - row['least_psnr']):.1f}",
                f"{by_subject(rows, lambda row: float(row['ssim'] >= row['least_ssim'])):.0%}",
                f"{by_subject(rows, lambda row: row['ssim'] - row['least_ssim']):.3f}",
                _kept_by(_not_warned_of(rows)),
            )
        )
    return _table(
        (
            "model",
            "scans",
            "PSNR kept",
            "above it by (dB)",
            "SSIM kept",
            "above it by",
            "both kept where not warned of",
        ),
        found,
    )


def _kept_by(rows: Sequence[Row]) -> str:
    kept = sum(row["psnr"] >= row["least_psnr"] and row["ssim"] >= row["least_ssim"] for row in rows)
    return f"{kept} of {len(rows)}"


def _beside(models: Sequence[Row], setup: dict[str, Any]) -> str:
    text = (
        f"Crops of 40 voxels cubed, {setup['samples']} samples of ten Heun steps (153 evaluations) beside "
        "one evaluation. Both are scaled by one factor so that they cover what is asked for on the very "
        "scan: the narrower mean width tells the better map. Rank: Spearman's, of width and error. "
        "Covered: what 1.645 deviations of the samples cover as they are."
    )
    found = [
        (
            one["model"],
            row["subject"],
            f"{row['interval_width'] / row['samples_width']:.2f}",
            f"{row['interval_rank_cubes']:.2f} / {row['samples_rank_cubes']:.2f}",
            f"{row['interval_rank_voxels']:.2f} / {row['samples_rank_voxels']:.2f}",
            f"{row['samples_coverage']:.1%}",
        )
        for one in models
        for row in one["beside"]
    ]
    head = ("model", "scan", "width: interval / samples", "rank, cubes: interval / samples")
    return text + "\n\n" + _table((*head, "rank, voxels", "covered by samples"), found)


def _scans(one: Row) -> str:
    rows = [
        (
            row["subject"],
            f"{row['noise']:.2%}",
            f"{row['factor']:.2f}",
            f"{row['coverage']:.1%}",
            f"{row['psnr']:.2f} / {row['least_psnr']:.2f}",
            f"{row['ssim']:.4f} / {row['least_ssim']:.4f}",
            ", ".join(code for code in row["codes"] if code != "modality-not-stated"),
            "yes" if row.get("widened") else "",
        )
        for row in one["rows"]
        if row["least_psnr"] is not None
    ]
    head = ("subject", "noise found", "factor", "coverage", "PSNR / at least", "SSIM / at least", "findings")
    head = (*head, "level in doubt: wider")
    return f"### {one['model']}\n\n" + _table(head, rows)
