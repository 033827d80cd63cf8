"""Restore series that are computed, and tell what becomes of noise and of a task's response.

    python -m benchmarks.denoise.series
    python -m benchmarks.denoise.series --volume scan.nii.gz --levels 1,3 --count 40

Writes series.md and series.json to the folder given with --out. The plugin medrestore-classical is to be
installed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

import medrestore
from benchmarks.denoise.simulated_series import RADII, Simulated, averaged, judged, simulate
from benchmarks.harness.common import (
    add_common_arguments,
    check_volumes,
    describe_machine,
    load_truth,
    weights,
    write_page,
)
from medrestore.engine import Known, RestoreOptions, load_model, restore, restore_series
from medrestore.types import Modality

FACTOR, SLICES, COUNT, EFFECT = 3, 16, 40, 0.02
LEVELS = "1,3,5"
TITLES = {
    "noisy": "noisy series",
    "each": "mr-denoise, each volume",
    "joint": "mr-denoise, `--volumes joint`",
    "mppca": "MP-PCA, `--model classical/mppca --volumes joint`",
    "nordic": "NORDIC, `--model classical/nordic --volumes joint`",
}


def restored(method: str, volumes: list[medrestore.Volume], model: str) -> np.ndarray:
    """Return (T, X, Y, Z) what a method makes of a series, its noise measured in the series."""
    if method == "noisy":
        return np.stack([volume.array for volume in volumes])
    name = model or "mr-denoise" if method in {"each", "joint"} else f"classical/{method}"
    options = RestoreOptions(model=name, volumes="each" if method == "each" else "joint", force=True)
    loaded = load_model(options, Modality.MR)
    if method != "each":
        found = restore_series(volumes, options, model=loaded)
        return np.stack([one.volume.array for one in found])
    # As a file of several volumes is: the noise is read in the neighbours too.
    known = [Known(series=volumes[max(t - 1, 0) : t + 2]) for t in range(len(volumes))]
    pairs = zip(volumes, known, strict=True)
    return np.stack([restore(one, options, model=loaded, known=near).volume.array for one, near in pairs])


def rows(truth: Simulated, affine: np.ndarray, args: argparse.Namespace, told: Callable[[str], None]) -> list:
    """Return a row for each level and method."""
    found, data_range = [], float(truth.clean[:, truth.head].max())
    for level in map(float, args.levels.split(",")):
        noisy = truth.noisy(level / 100, args.seed)
        volumes = [medrestore.Volume.from_array(one, affine, modality=Modality.MR) for one in noisy]
        for method in args.methods.split(","):
            row = judged(restored(method, volumes, args.model), truth, data_range)
            found.append({"level": level, "method": method, **row})
            told(_row(found[-1]))
    return found


def _row(row: dict[str, Any]) -> str:
    kept = " | ".join(f"{one['mean']:.2f} ± {one['error']:.2f}" for one in row["kept"])
    return (
        f"| {TITLES[row['method']]} | {row['psnr']:.2f} | {row['tsnr']:.0f} | {kept} | {row['false']:.2f} |"
    )


def page(report: dict[str, Any]) -> str:
    """Return the page."""
    setup = report["setup"]
    sizes = ", ".join(f"{size} voxels" for size in setup["region_voxels"])
    lines = ["# Series of volumes", "", f"Made by `{setup['command']}` on {setup['cpu']}, {setup['date']}. "]
    lines[-1] += TEXT.format(sizes=sizes, **setup)
    head = " | ".join(f"{size} voxels kept" for size in setup["region_voxels"])
    for level in dict.fromkeys(row["level"] for row in report["rows"]):
        lines += ["", f"## Noise of {level:g} %", "", f"| method | PSNR | tSNR | {head} | false |"]
        lines += ["|---|---:|---:|" + "---:|" * (len(RADII) + 1)]
        lines += [_row(row) for row in report["rows"] if row["level"] == level]
    return "\n".join(lines) + "\n"


TEXT = (
    "`{volume}` averaged over {factor} x {factor} x {factor} voxels, its middle {slices} slices: {count} "
    "volumes of {shape} voxels, in four regions each of {sizes} a task that raises the signal by "
    "{effect:.0%} in blocks of ten volumes, a smooth drift of 0.5 %, and Rician noise, in percent of the "
    "99th percentile; "
    "seed {seed}. PSNR in dB inside the head, over all volumes; tSNR, the median over the head of a voxel's "
    "mean over what fluctuates beside drift and task; the response to the task that is kept, 1 for all of "
    "it, with the standard error over the regions; and false responses elsewhere in the head, root mean "
    "square, relative to the true one. [What this means](../explanation/evidence.md#series-of-volumes)."
)


def main() -> None:
    """Restore, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_common_arguments(parser)
    parser.add_argument("--levels", default=LEVELS, help=f"noise in %% (default: {LEVELS})")
    parser.add_argument("--methods", default=",".join(TITLES), help="a selection of them")
    parser.add_argument("--count", type=int, default=COUNT, help="volumes (default: %(default)s)")
    args = parser.parse_args()
    check_volumes(parser, args)
    if len(args.volume) > 1:
        parser.error("one volume makes one series")
    whole = load_truth(args.volume[0], quick=args.quick)
    truth = simulate(averaged(whole.voxels, FACTOR, SLICES), args.count, EFFECT, args.seed)
    affine = whole.affine @ np.diag([FACTOR, FACTOR, FACTOR, 1.0])
    found = rows(truth, affine, args, lambda line: print(line, flush=True))
    counts = np.bincount(truth.regions.ravel())[1:]
    by_size = [round(float(np.mean(counts[np.array(truth.sizes) == size]))) for size in range(len(RADII))]
    more = (
        ""
        if args.count == COUNT and args.levels == LEVELS
        else f" --count {args.count} --levels {args.levels}"
    )
    setup = {
        "command": f"python -m benchmarks.denoise.series{more}",
        "volume": whole.name,
        "sha256": whole.sha256,
        "factor": FACTOR,
        "slices": SLICES,
        "count": args.count,
        "effect": EFFECT,
        "seed": args.seed,
        "shape": " x ".join(map(str, truth.regions.shape)),
        "region_voxels": by_size,
        "weights": weights(args.model, "MR", "denoise"),
        **describe_machine({"dipy", "patch-denoise", "medrestore"}),
    }
    report = {"setup": setup, "rows": found}
    write_page(args.out, "series", report, page(report))


if __name__ == "__main__":
    main()
