"""Measure denoisers on the same noisy volumes: PSNR, SSIM, time and memory of each.

    python benchmarks/denoise.py                            # Colin27 of Debian's mricron-data, 3, 5, 10 %
    python benchmarks/denoise.py --volume scan.nii.gz --levels 5 --methods ours,nlm
    python benchmarks/denoise.py --quick                    # 64 voxels cubed from the middle: minutes

Each filter runs in a process of its own. Writes denoise.md, denoise.json and denoise.png (with -quick in the
name for --quick) to the folder given with --out.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tables
from common import (
    Truth,
    add_common_arguments,
    check_volumes,
    describe_machine,
    load_truth,
    run_method,
    score,
)
from methods import METHODS

from medrestore.physics.noise import add_gaussian, add_rician


def add_noise(truth: Truth, level: float, noise: str, seed: int) -> tuple[np.ndarray, float]:
    """The noisy volume and its sigma; the draw depends on seed and level, not on what else is measured."""
    sigma = level / 100 * truth.p99
    rng = np.random.default_rng([seed, round(1000 * level)])
    add = add_rician if noise == "rician" else add_gaussian
    return add(truth.voxels, sigma, rng), sigma


def run_filter(
    method: str, truth: Truth, noisy: np.ndarray, sigma: float, args: argparse.Namespace
) -> tuple[np.ndarray, dict[str, Any]]:
    """Run one filter in a fresh process; return its volume and what it measured of itself."""
    scan = {"voxels": noisy, "affine": truth.affine, "sigma": sigma, "model": args.model}
    return run_method("denoise", method, {**scan, "rician": args.noise == "rician"})


def measure(truth: Truth, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every filter at every level on one volume; a filter that fails leaves its reason and stops nothing."""
    runs = []
    for level in args.levels:
        noisy, sigma = add_noise(truth, level, args.noise, args.seed)
        for method in args.methods:
            run: dict[str, Any] = {"volume": truth.name, "level": level, "sigma": sigma, "method": method}
            run["title"] = METHODS[method].title
            try:
                image, measured = run_filter(method, truth, noisy, sigma, args)
                run |= measured | score(image, truth)
                print(
                    f"{truth.name} {level:g} % {run['title']}: {run['psnr_head']:.2f} dB, SSIM "
                    f"{run['ssim_head']:.4f} in the head, {run['filter_s']:.1f} s, {run['peak_mb']:.0f} MB",
                    flush=True,
                )
            except Exception as error:  # noqa: BLE001  a peer may fail in any way; the others go on
                run["error"] = str(error)
                print(f"{truth.name} {level:g} % {run['title']}: {error}", file=sys.stderr, flush=True)
            runs.append(run)
    return runs


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
    quick += ["--model", Path(args.model).name] if args.model else []
    volumes = [part for name in names for part in ("--volume", name)]
    return {
        "command": shlex.join(
            [
                "python",
                "benchmarks/denoise.py",
                *volumes,
                *options,
                "--methods",
                ",".join(args.methods),
                *quick,
            ]
        ),
        "noise": args.noise,
        "seed": args.seed,
        "volumes": [truth.describe() for truth in truths],
        "methods": {name: {k: v for k, v in asdict(m).items() if k != "load"} for name, m in chosen.items()},
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
        "--methods", default=",".join(METHODS), help=f"of {', '.join(METHODS)} (default: all)"
    )
    args = parser.parse_args(argv)
    args.levels = [float(level) for level in args.levels.split(",")]
    args.methods = args.methods.split(",")
    unknown = [name for name in args.methods if name not in METHODS]
    if unknown:
        parser.error(f"unknown methods {', '.join(unknown)}; there are {', '.join(METHODS)}")
    check_volumes(parser, args)
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    truths = [load_truth(path, quick=args.quick) for path in args.volume]
    report = {
        "setup": describe_setup(args, truths),
        "runs": [run for t in truths for run in measure(t, args)],
    }
    args.out.mkdir(parents=True, exist_ok=True)
    stem = "denoise-quick" if args.quick else "denoise"
    (args.out / f"{stem}.json").write_text(json.dumps(report, indent=1) + "\n")
    tables.plot(report, args.out / f"{stem}.png")
    (args.out / f"{stem}.md").write_text(tables.markdown(report, f"{stem}.png"))


if __name__ == "__main__":
    main()
