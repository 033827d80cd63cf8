"""Measure denoisers on the same noisy volumes: PSNR, SSIM, time and memory of each.

    python -m benchmarks.denoise.run                            # Colin27 of Debian's mricron-data, 3, 5, 10 %
    python -m benchmarks.denoise.run --volume scan.nii.gz --levels 5 --methods ours,nlm
    python -m benchmarks.denoise.run --quick                    # 64 voxels cubed from the middle: minutes
    python -m benchmarks.denoise.run --gain middle,ramp,field   # noise that varies over the scan

Each filter runs in a process of its own. Writes denoise.md, denoise.json, denoise.png and denoise-slices.png
(with -varying in the name for --gain, and -quick for --quick) to the folder given with --out.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.denoise import tables
from benchmarks.denoise.gains import GAINS, make_gain
from benchmarks.denoise.methods import METHODS
from benchmarks.harness.common import (
    Truth,
    add_common_arguments,
    check_volumes,
    describe_machine,
    load_truth,
    run_method,
    score,
    weights,
    write_page,
)
from benchmarks.harness.pictures import row_of, side_by_side
from medrestore.physics.mr_noise import add_gaussian, add_rician

UP = 2  # axis that runs upwards in the picture
WHITE = 0.1  # of the data range: the error that is white in it

ONLY_VARYING = ["ours-constant", "ours-told"]
VARYING = ["noisy", "ours-auto", *ONLY_VARYING, "nlm", "bm4d"]


def add_noise(
    truth: Truth, level: float, noise: str, seed: int, gain: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """The noisy volume and its sigma; the draw depends on seed and level, not on what else is measured."""
    sigma = level / 100 * truth.p99
    local = sigma if gain is None else np.float32(sigma) * gain
    rng = np.random.default_rng([seed, round(1000 * level)])
    add = add_rician if noise == "rician" else add_gaussian
    return add(truth.voxels, local, rng), sigma


def run_filter(
    method: str, truth: Truth, noisy: np.ndarray, noise: dict[str, Any], args: argparse.Namespace
) -> tuple[np.ndarray, dict[str, Any]]:
    """Run one filter in a fresh process; return its volume and what it measured of itself."""
    scan = {"voxels": noisy, "affine": truth.affine, "model": args.model, **noise}
    return run_method("denoise", method, {**scan, "rician": args.noise == "rician"})


def measure(
    truth: Truth, args: argparse.Namespace, kind: str = ""
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Every filter at every level on one volume; a filter that fails leaves its reason and stops nothing.

    Also returns the images for the picture, by title.
    """
    runs, images = [], {"truth": truth.voxels}
    gain = make_gain(kind, truth) if kind else None
    name = titled(truth.name, kind)
    for level in args.levels:
        noisy, sigma = add_noise(truth, level, args.noise, args.seed, gain)
        noise = {"sigma": sigma} if gain is None else {"sigma": sigma, "gain": gain}
        for method in args.methods:
            run: dict[str, Any] = {"volume": name, "level": level, "sigma": sigma, "method": method}
            run["title"] = METHODS[method].title
            try:
                image, measured = run_filter(method, truth, noisy, noise, args)
                run |= measured | score(image, truth)
                if level == args.pictured:
                    images[run["title"]] = image
                print(
                    f"{name} {level:g} % {run['title']}: {run['psnr_head']:.2f} dB, SSIM "
                    f"{run['ssim_head']:.4f} in the head, {run['filter_s']:.1f} s, {run['peak_mb']:.0f} MB",
                    flush=True,
                )
            except Exception as error:  # noqa: BLE001  a peer may fail in any way; the others go on
                run["error"] = str(error)
                print(f"{name} {level:g} % {run['title']}: {error}", file=sys.stderr, flush=True)
            runs.append(run)
    return runs, images


def keep(old: dict[str, Any], report: dict[str, Any]) -> None:
    """Put into a report what an earlier one measured of other filters on the very same noisy volumes.

    Scores are those of the filters, whatever the machine; times are not, so each row says where it was made.

    Raises:
        ValueError: The earlier report is of other volumes, other noise or, for medrestore, other weights.
    """
    new = report["setup"]
    for key in ("noise", "seed", "gains", "volumes"):
        if old["setup"][key] != new[key]:
            raise ValueError(f"--keep: the earlier report has other {key}: {old['setup'][key]}")
    levels = {run["level"] for run in report["runs"]}
    where = f"{old['setup']['date']}, {old['setup']['cpu']}"
    ours = {run["method"] for run in old["runs"] if run["method"].startswith("ours")} - set(new["methods"])
    if ours and old["setup"].get("weights") != new["weights"]:
        raise ValueError(f"--keep: {', '.join(sorted(ours))} of the earlier report are of other weights")
    runs = [run for run in old["runs"] if run["method"] not in new["methods"] and run["level"] in levels]
    report["runs"] += [{"kept": where} | run for run in runs]
    kept = {run["method"] for run in runs}
    methods = new["methods"] | {name: what for name, what in old["setup"]["methods"].items() if name in kept}
    new["methods"] = {name: methods[name] for name in METHODS if name in methods}
    order = list(new["methods"])
    report["runs"].sort(key=lambda run: order.index(run["method"]))
    new["packages"] = old["setup"]["packages"] | new["packages"]


def titled(name: str, kind: str) -> str:
    """Name of a volume with one kind of noise in the tables."""
    return f"{name}, {kind}" if kind else name


def describe_setup(args: argparse.Namespace, truths: list[Truth]) -> dict[str, Any]:
    chosen = {name: METHODS[name] for name in args.methods}
    names = [Path(path).name for path in args.volume]
    options = [
        "--levels",
        ",".join(f"{n:g}" for n in args.levels),
        "--noise",
        args.noise,
        "--seed",
        str(args.seed),
    ]
    quick = ["--quick"] if args.quick else []
    quick += ["--gain", ",".join(args.gain)] if args.gain[0] else []
    quick += ["--keep"] if args.keep else []
    quick += ["--model", Path(args.model).name] if args.model else []
    volumes = [part for name in names for part in ("--volume", name)]
    return {
        "command": shlex.join(
            [
                "python",
                "-m",
                "benchmarks.denoise.run",
                *volumes,
                *options,
                "--methods",
                ",".join(args.methods),
                *quick,
            ]
        ),
        "noise": args.noise,
        "pictured": args.pictured,
        "seed": args.seed,
        "gains": {kind: GAINS[kind] for kind in args.gain if kind},
        "volumes": [
            {**truth.describe(), "name": titled(truth.name, kind)} for truth in truths for kind in args.gain
        ],
        "methods": {name: {k: v for k, v in asdict(m).items() if k != "load"} for name, m in chosen.items()},
        "weights": weights(args.model, "MR", "denoise"),
        **describe_machine({m.package for m in chosen.values()}),
    }


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_arguments(parser)
    parser.add_argument(
        "--levels", default="3,5,10", help="sigma in %% of the 99th percentile (default: 3,5,10)"
    )
    parser.add_argument("--noise", choices=["rician", "gaussian"], default="rician")
    parser.add_argument(
        "--methods", default="", help=f"of {', '.join(METHODS)} (default: those that the noise is for)"
    )
    parser.add_argument(
        "--gain", default="", help=f"let the noise vary over the scan, by any of {', '.join(GAINS)}"
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep what the page has of other filters, from its own run"
    )
    args = parser.parse_args(argv)
    args.gain = args.gain.split(",")
    if any(kind not in {"", *GAINS} for kind in args.gain):
        parser.error(f"unknown kind of gain in {', '.join(args.gain)}; there are {', '.join(GAINS)}")
    args.levels = [float(level) for level in args.levels.split(",")]
    args.pictured = sorted(args.levels)[len(args.levels) // 2]
    usual = VARYING if args.gain[0] else [name for name in METHODS if name not in ONLY_VARYING]
    args.methods = args.methods.split(",") if args.methods else usual
    unknown = [name for name in args.methods if name not in METHODS]
    if unknown:
        parser.error(f"unknown methods {', '.join(unknown)}; there are {', '.join(METHODS)}")
    check_volumes(parser, args)
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    truths = [load_truth(path, quick=args.quick) for path in args.volume]
    runs: list[dict[str, Any]] = []
    pictures = []
    for truth, kind in ((truth, kind) for truth in truths for kind in args.gain):
        found, images = measure(truth, args, kind)
        runs += found
        named = replace(truth, name=titled(truth.name, kind))
        pictures.append(row_of(named, images, UP, WHITE))
    report = {"setup": describe_setup(args, truths), "runs": runs}
    stem = "denoise" + ("-varying" if args.gain[0] else "") + ("-quick" if args.quick else "")
    if args.keep:
        keep(json.loads((args.out / f"{stem}.json").read_text()), report)
    write_page(args.out, stem, report, tables.markdown(report, stem))
    tables.plot(report, args.out / f"{stem}.png")
    side_by_side(pictures, args.out / f"{stem}-slices.png")


if __name__ == "__main__":
    main()
