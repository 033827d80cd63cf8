"""Measure stripes: how the steepness of a resolved volume depends on where two planes lie in their slices.

    python -m benchmarks.superres.stripes                 # the middle of Colin27 of Debian's mricron-data
    python -m benchmarks.superres.stripes --volume a.nii.gz --volume b.nii.gz --cases x4

Writes stripes.md and stripes.json to the folder given with --out.
"""

from __future__ import annotations

import argparse
import shlex
from typing import Any

import numpy as np

from benchmarks.harness.common import (
    QUICK,
    Truth,
    add_common_arguments,
    check_volumes,
    describe_machine,
    load_truth,
    middle,
    report_stem,
    weights,
    write_page,
)
from benchmarks.superres.gaussian import field_like
from benchmarks.superres.methods import METHODS
from benchmarks.superres.run import cut, make_slices, parse_case
from medrestore.metrics import psnr

SIDE, MULTIPLE = 72, 24
CASES = ("x2", "x4", "x6")
RESOLVED = ("cubic", "cubic-consistent", "ours", "ours-sample")
GAUSSIAN = "Gaussian field's posterior mean"
CALCULATED = "the same by calculation"
TRUTH = "truth"


def gradients(image: np.ndarray, inside: np.ndarray, factor: int) -> np.ndarray:
    """Return the mean gradient along the last axis by the place of the first of two planes in its slice.

    Args:
        image: (X, Y, Z), each slice `factor` planes.
        inside: (X, Y, Z), voxels that count.
        factor: Planes in a slice.
    """
    steps = np.abs(np.diff(image, axis=-1))
    counted = inside[..., 1:] & inside[..., :-1]
    return np.array([steps[..., n::factor][counted[..., n::factor]].mean() for n in range(factor)], float)


def modulation(values: np.ndarray) -> float:
    """Return the standard deviation of values over their mean."""
    return float(np.std(values) / np.mean(values))


def rows(truth: Truth, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each case and method."""
    found = []
    for name in args.cases:
        case = parse_case(name)
        whole = cut(truth, 2, case.factor)
        scan = make_slices(whole, 2, case, args)
        made = {TRUTH: whole.voxels, **{method: METHODS[method].load()(scan) for method in RESOLVED}}
        field, mean = field_like(whole.voxels), float(whole.voxels.mean())
        made[GAUSSIAN] = field.estimate(scan.slices - mean, scan.stack) + np.float32(mean)
        true = gradients(whole.voxels, whole.head, case.factor)
        for method, image in made.items():
            steep = gradients(image, whole.head, case.factor)
            score = psnr(image, whole.voxels, data_range=truth.data_range, mask=whole.head)
            row = {"volume": truth.name, "case": case.title, "method": method}
            ratio = {"psnr": float(score) if np.isfinite(score) else None, "modulation": modulation(steep)}
            found.append(row | ratio | {"steep": (steep / true).tolist()})
        places = field.steepness(scan.stack)[case.factor : -case.factor]
        steep = np.array([places[n :: case.factor].mean() for n in range(case.factor)])
        row = {"volume": truth.name, "case": case.title, "method": CALCULATED, "psnr": None}
        found.append(row | {"modulation": modulation(steep), "steep": steep.tolist()})
    return found


TEXT = (
    "What is resolved may be steeper between two slices than inside of them, which looks like stripes. "
    "Gradient: the mean absolute difference of neighbouring planes inside the head, over that of the truth, "
    "by where the planes lie: inside a slice (the mean over its pairs) and on both sides of a border. "
    "Modulation: the standard deviation of the gradient over these places, over its mean. The middle {side} "
    "voxels of each axis, boxcar slices without noise, seed {seed}; PSNR in dB inside the head. The Gaussian "
    "field has the radial power spectrum of the volume itself; its posterior mean is the best estimate of "
    "such a field. [What this says](../explanation/model-notes.md#mr-superres-and-ct-superres)."
)


def page(report: dict[str, Any]) -> str:
    """Return the page."""
    setup = report["setup"]
    lines = ["# Stripes between resolved slices", ""]
    lines += [f"Made by `{setup['command']}` on {setup['cpu']}, {setup['date']}. " + TEXT.format(**setup)]
    for volume in dict.fromkeys(row["volume"] for row in report["rows"]):
        lines += ["", f"## {volume}", "", "| slices | method | PSNR | modulation | inside | at a border |"]
        lines += ["|---|---|---:|---:|---:|---:|"]
        lines += [_line(row) for row in report["rows"] if row["volume"] == volume]
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any]) -> str:
    title = METHODS[row["method"]].title if row["method"] in METHODS else row["method"]
    inside, border = float(np.mean(row["steep"][:-1])), row["steep"][-1]
    score = "" if row["psnr"] is None else f"{row['psnr']:.2f}"
    return f"| {row['case']} | {title} | {score} | {row['modulation']:.3f} | {inside:.2f} | {border:.2f} |"


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_arguments(parser)
    parser.add_argument("--cases", default=",".join(CASES), help=f"(default: {','.join(CASES)})")
    args = parser.parse_args(argv)
    check_volumes(parser, args)
    args.cases, args.modality = args.cases.split(","), "MR"
    return args


def main(argv: list[str] | None = None) -> None:
    """Resolve, and write what is found."""
    args = parse(argv)
    side = QUICK // MULTIPLE * MULTIPLE if args.quick else SIDE
    truths = [middle(load_truth(path, quick=False), side, MULTIPLE) for path in args.volume]
    words = [word for truth in truths for word in ("--volume", truth.name)]
    words += ["--cases", ",".join(args.cases), *(["--quick"] if args.quick else [])]
    setup = {
        "command": shlex.join(["python", "-m", "benchmarks.superres.stripes", *words]),
        "volumes": [truth.describe() for truth in truths],
        "side": side,
        "seed": args.seed,
        "weights": weights(args.model, "MR", "superres"),
        **describe_machine({"medrestore"}),
    }
    report = {"setup": setup, "rows": [row for truth in truths for row in rows(truth, args)]}
    stem = report_stem("stripes", args)
    write_page(args.out, stem, report, page(report))


if __name__ == "__main__":
    main()
