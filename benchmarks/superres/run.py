"""Measure ways to resolve thick slices, made of a clean volume: PSNR, SSIM, time and memory of each.

    python -m benchmarks.superres.run                           # Colin27 of Debian's mricron-data
    python -m benchmarks.superres.run --modality CT --volume ct.nii.gz
    python -m benchmarks.superres.run --volume scan.nii.gz --axis j --cases x4,x4-gap --methods cubic,ours
    python -m benchmarks.superres.run --quick --model FOLDER    # 64 voxels cubed from the middle: minutes

A case is xN, slices of N planes, and after a dash what is special about them. Each method runs in a process
of its own. Writes superres.md, superres.json, superres.png and superres-slices.png (with -ct in the name
for CT and -quick for --quick) to the folder given with --out.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.common import (
    Truth,
    add_common_arguments,
    add_modality_argument,
    both_commands,
    check_volumes,
    describe_machine,
    load_truth,
    report_stem,
    run_method,
    score,
    weights,
    write_page,
)
from benchmarks.harness.pictures import row_of, side_by_side
from benchmarks.superres import tables as superres_tables
from benchmarks.superres.methods import METHODS, Scan
from medrestore.physics.mr_colour import COLOURS, simulate
from medrestore.physics.mr_noise import add_rician
from medrestore.physics.slices import SOFTNESS, SliceStack

CASES = "x2,x4,x6,x4-gaussian,x4-gap,x4-noise"
MR_CASES = f"{CASES},x4-filled"  # CT measures no k-space
SLOW = {"eclare", "ours-sample"}  # not by default
GAP = 0.2  # of the distance of the slices
NOISE = {"noise": 0.02, "filled": 0.05}  # of the 99th percentile of the slices
FILLED = COLOURS["filled-2"]
PICTURED = "x4"
WHITE = 0.25  # of the data range: the error that is white in the picture


@dataclass(frozen=True)
class Case:
    """How slices are made of planes."""

    name: str
    factor: int
    kind: str

    @property
    def profile(self) -> str:
        """Name of the profile."""
        return "gaussian" if self.kind == "gaussian" else "boxcar"

    @property
    def width(self) -> float:
        """Full width of a slice in planes."""
        return self.factor * (1 - GAP if self.kind == "gap" else 1)

    @property
    def title(self) -> str:
        """For the tables."""
        what = {"gap": f", gap {GAP:.0%}", "gaussian": ", Gaussian"}
        what["noise"] = f", Rician {NOISE['noise']:.0%}"
        what["filled"] = f", Rician {NOISE['filled']:.0%}, {FILLED.title}"
        return f"x{self.factor}{what.get(self.kind, '')}"


def parse_case(text: str) -> Case:
    match = re.fullmatch(r"x([2-9])(?:-(gaussian|gap|noise|filled))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no case; such as x4, x4-gaussian, x4-gap, x4-noise, x4-filled"
        )
    return Case(text, int(match[1]), match[2] or "boxcar")


def cut(truth: Truth, axis: int, factor: int) -> Truth:
    """Leave planes away at the end until slices fill the volume."""
    planes = truth.voxels.shape[axis] // factor * factor
    part = tuple(slice(0, planes) if n == axis else slice(None) for n in range(3))
    return replace(truth, voxels=truth.voxels[part], head=truth.head[part])


def seen(truth: Truth, axis: int, case: Case) -> Truth:
    """Return a volume as it is measured in the plane of the slices: no more of it is to be found again."""
    if case.kind != "filled":
        return truth
    planes = np.ascontiguousarray(np.moveaxis(truth.voxels, axis, -1))
    clean = simulate(planes, FILLED, 0.0, np.random.default_rng(0)).clean
    return replace(truth, voxels=np.ascontiguousarray(np.moveaxis(clean, -1, axis)))


def make_slices(truth: Truth, axis: int, case: Case, args: argparse.Namespace) -> Scan:
    """Measure slices of a volume that they fill."""
    planes = truth.voxels.shape[axis]
    affine = truth.affine.copy()
    affine[:3, 3] += truth.affine[:3, axis] * (case.factor - 1) / 2
    affine[:3, axis] *= case.factor
    softness, first = SOFTNESS[case.profile], (case.factor - 1) / 2
    stack = SliceStack(planes, planes // case.factor, case.factor, case.width, softness, first)
    slices, sigma = stack.forward(np.moveaxis(truth.voxels, axis, -1)), 0.0
    if case.kind in NOISE:
        sigma = NOISE[case.kind] * float(np.percentile(slices, 99))
        rng = np.random.default_rng([args.seed, case.factor])
        white = case.kind == "noise"
        slices = add_rician(slices, sigma, rng) if white else simulate(slices, FILLED, sigma, rng).noisy
    return Scan(
        voxels=np.ascontiguousarray(np.moveaxis(slices, -1, axis)),
        affine=affine,
        axis=axis,
        planes=planes,
        factor=case.factor,
        width=case.width,
        profile=case.profile,
        sigma=sigma,
        model=args.model,
        modality=args.modality,
    )


def residual(image: np.ndarray, scan: Scan) -> float:
    """RMS of what the slices of an image differ by from those measured, over their 99th percentile."""
    again = scan.stack.forward(np.moveaxis(image, scan.axis, -1))
    return float(np.sqrt(np.mean((again - scan.slices) ** 2)) / np.percentile(scan.slices, 99))


def measure(truth: Truth, args: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Every method on every case of one volume; also the images for the picture, by title."""
    runs, images = [], {}
    for case in args.cases:
        axis = "ijk".index(args.axis)
        whole = seen(cut(truth, axis, case.factor), axis, case)
        scan = make_slices(whole, axis, case, args)
        if case.name == args.pictured:
            images["truth"] = whole.voxels
        for method in args.methods:
            run: dict[str, Any] = {"volume": truth.name, "case": case.title, "method": method}
            run["title"] = METHODS[method].title
            try:
                given = {key: value for key, value in asdict(scan).items() if key != "notes"}
                image, measured = run_method("superres", method, given)
                run |= measured | score(image, whole) | {"residual": residual(image, scan)}
                if case.name == args.pictured:
                    images[run["title"]] = image
                print(
                    f"{truth.name} {case.title} {run['title']}: {run['psnr_head']:.2f} dB, SSIM "
                    f"{run['ssim_head']:.4f} in the head, {run['filter_s']:.1f} s, {run['peak_mb']:.0f} MB",
                    flush=True,
                )
            except Exception as error:  # noqa: BLE001  a peer may fail in any way; the others go on
                run["error"] = str(error)
                print(f"{truth.name} {case.title} {run['title']}: {error}", file=sys.stderr, flush=True)
            runs.append(run)
    return runs, images


def describe_setup(args: argparse.Namespace, truths: list[Truth]) -> dict[str, Any]:
    chosen = {name: METHODS[name] for name in args.methods}
    words = [part for path in args.volume for part in ("--volume", path.name)]
    words += ["--modality", args.modality] if args.modality != "MR" else []
    words += ["--axis", args.axis, "--cases", ",".join(case.name for case in args.cases)]
    words += ["--methods", ",".join(args.methods), *(["--quick"] if args.quick else [])]
    words += ["--model", Path(args.model).name] if args.model else []
    words += ["--keep"] if args.keep else []
    return {
        "command": shlex.join(["python", "-m", "benchmarks.superres.run", *words]),
        "axis": args.axis,
        "modality": args.modality,
        "note": args.note,
        "gap": GAP,
        "noise": NOISE["noise"],
        "filled": NOISE["filled"],
        "pictured": args.pictured,
        "volumes": [truth.describe() for truth in truths],
        "methods": {name: {k: v for k, v in asdict(m).items() if k != "load"} for name, m in chosen.items()},
        "weights": weights(args.model, args.modality, "superres"),
        **describe_machine({m.package for m in chosen.values()}),
    }


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_arguments(parser)
    parser.add_argument(
        "--axis", choices="ijk", default="k", help="array axis across the slices (default: k)"
    )
    add_modality_argument(parser)
    parser.add_argument("--cases", help=f"(default: {MR_CASES}; for CT {CASES})")
    parser.add_argument(
        "--methods",
        default=",".join(name for name in METHODS if name not in SLOW),
        help=f"of {', '.join(METHODS)} (default: all but {', '.join(sorted(SLOW))})",
    )
    parser.add_argument(
        "--note", default="", help="a sentence for the page, on what the times are worth, say"
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave what the page has of other runs, and its picture"
    )
    args = parser.parse_args(argv)
    args.cases = args.cases or (MR_CASES if args.modality == "MR" else CASES)
    try:
        args.cases = [parse_case(text) for text in args.cases.split(",")]
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    names = [case.name for case in args.cases]
    args.pictured = PICTURED if PICTURED in names else names[0]
    args.methods = args.methods.split(",")
    unknown = [name for name in args.methods if name not in METHODS]
    if unknown:
        parser.error(f"unknown methods {', '.join(unknown)}; there are {', '.join(METHODS)}")
    check_volumes(parser, args)
    return args


def with_kept(report: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Return a report that goes on with the runs that an earlier one has and that were not made anew."""

    def key(run: dict[str, Any]) -> tuple[str, str, str]:
        return run["volume"], run["case"], run["method"]

    old, new = before["setup"], report["setup"]
    command = both_commands(old["command"], new["command"])
    setup = {**old, **new, "command": command, "pictured": old["pictured"]}
    volumes = {volume["name"]: volume for one in (old, new) for volume in one["volumes"]}
    setup |= {name: {**old[name], **new[name]} for name in ("methods", "weights", "packages")}
    setup["volumes"] = list(volumes.values())
    made = {key(run): run for one in (before, report) for run in one["runs"]}
    cases = [parse_case(name).title for name in MR_CASES.split(",")]
    order = (list(volumes), cases, list(METHODS))
    runs = sorted(
        made.values(),
        key=lambda run: [names.index(part) for names, part in zip(order, key(run), strict=True)],
    )
    return {"setup": setup, "runs": runs}


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    truths = [load_truth(path, quick=args.quick, modality=args.modality) for path in args.volume]
    runs: list[dict[str, Any]] = []
    pictures = []
    for truth in truths:
        found, images = measure(truth, args)
        runs += found
        pictures.append(row_of(truth, images, "ijk".index(args.axis), WHITE))
    report = {"setup": describe_setup(args, truths), "runs": runs}
    stem = report_stem("superres" if args.axis == "k" else f"superres-{args.axis}", args)
    if args.keep:
        report = with_kept(report, json.loads((args.out / f"{stem}.json").read_text()))
    write_page(args.out, stem, report, superres_tables.markdown(report, stem))
    superres_tables.plot(report, args.out / f"{stem}.png")
    if not args.keep:
        side_by_side(pictures, args.out / f"{stem}-slices.png")


if __name__ == "__main__":
    main()
