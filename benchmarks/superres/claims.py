"""Measure what super-resolution must not do: swallow small lesions, make something of nothing.

    python -m benchmarks.superres.claims                 # the middle of Colin27 of Debian's mricron-data
    python -m benchmarks.superres.claims --modality CT --volume ct.nii.gz --axis i

Writes claims-superres.md and claims-superres.json (claims-superres-ct for CT) to the folder given with --out.
"""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ct.spheres import by_diameter
from benchmarks.denoise.claims import structure, with_spheres
from benchmarks.denoise.claims_tables import superres_page
from benchmarks.harness.common import (
    QUICK,
    Truth,
    add_common_arguments,
    add_modality_argument,
    check_volumes,
    describe_machine,
    load_truth,
    middle,
    report_stem,
    write_page,
)
from benchmarks.superres.methods import METHODS, Scan
from benchmarks.superres.run import cut, make_slices, parse_case
from medrestore import Modality, RestoreOptions, Task
from medrestore.engine.models.find import find_model
from medrestore.metrics.lesions import contrast_kept

SIDE = 96
CASES = ("x2", "x4", "x6")
METHOD = "ours"
PEER = "cubic"
CONTRASTS = {"MR": (0.1, 0.3), "CT": (0.06, 0.2)}  # of the 99th percentile; of the attenuation of water
SIGMA = {"MR": 5.0, "CT": 20.0}  # noise in a scan of nothing, which is 100 or 1000 where it is not empty


def spheres(truth: Truth, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Contrast of small spheres that is left, by our method and by the spline; without noise."""
    rows = []
    unit = truth.p99 if args.modality == "MR" else 1000.0
    for name in args.cases:
        case = parse_case(name)
        whole = cut(truth, args.axis, case.factor)

        def resolved(voxels: np.ndarray, case: Any = case, whole: Truth = whole) -> dict[str, np.ndarray]:
            scan = make_slices(replace(whole, voxels=voxels), args.axis, case, args)
            return {method: METHODS[method].load()(scan) for method in (METHOD, PEER)}

        without = resolved(whole.voxels)
        for contrast in CONTRASTS[args.modality]:
            scan, placed = with_spheres(whole.voxels, contrast * unit)
            made = resolved(scan)
            kept = {method: np.array(contrast_kept(made[method], without[method], placed)) for method in made}
            ours, peer = (by_diameter(kept[method], placed) for method in (METHOD, PEER))
            rows += [
                {"case": case.title, "contrast": 100 * contrast} | one | {"peer": other["mean"]}
                for one, other in zip(ours, peer, strict=True)
            ]
    return rows


def nothing(args: argparse.Namespace) -> list[dict[str, Any]]:
    """What becomes of slices, of four planes each, in which there is nothing."""
    sigma, flat = SIGMA[args.modality], 100.0 if args.modality == "MR" else 1000.0
    rng = np.random.default_rng(args.seed)
    shape, affine = (64, 64, 16), np.diag([1.0, 1.0, 4.0, 1.0])
    resolve = METHODS[METHOD].load()
    cases = {"empty": (0.0, 0.0), "constant": (flat, 0.0), "constant, noise": (flat, sigma)}
    rows = []
    for name, (value, level) in cases.items():
        voxels = (value + level * rng.standard_normal(shape)).astype(np.float32)
        scan = Scan(voxels, affine, 2, 64, 4.0, 4.0, "boxcar", level, args.model, args.modality)
        made = resolve(scan)
        rows.append({"case": name} | structure(voxels, made, float(scan.notes["sigma"]), sigma))
    return rows


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_arguments(parser)
    parser.add_argument("--axis", choices="ijk", default="k", help="array axis across the slices")
    add_modality_argument(parser)
    parser.add_argument("--cases", default=",".join(CASES), help=f"(default: {','.join(CASES)})")
    args = parser.parse_args(argv)
    check_volumes(parser, args)
    if len(args.volume) > 1:
        parser.error("one volume at a time")
    args.axis, args.cases = "ijk".index(args.axis), args.cases.split(",")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    truth = middle(
        load_truth(args.volume[0], quick=False, modality=args.modality), QUICK if args.quick else SIDE
    )
    words = ["--modality", args.modality, "--volume", truth.name, "--axis", "ijk"[args.axis]]
    words += ["--cases", ",".join(args.cases), *(["--quick"] if args.quick else [])]
    words += ["--model", Path(args.model).name] if args.model else []
    options = RestoreOptions(model=args.model or None, task=Task.SUPERRES)
    model = find_model(options, Modality(args.modality))[0]
    report = {
        "setup": {
            "model": model.name,
            "sha256": model.sha256 or "",
            "command": shlex.join(["python", "-m", "benchmarks.superres.claims", *words]),
            "volume": truth.describe(),
            "axis": "ijk"[args.axis],
            "modality": args.modality,
            **describe_machine({"medrestore"}),
        },
        "spheres": spheres(truth, args),
        "nothing": nothing(args),
    }
    stem = report_stem("claims-superres", args)
    write_page(args.out, stem, report, superres_page(report))


if __name__ == "__main__":
    main()
