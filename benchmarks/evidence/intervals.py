"""Test the intervals and the bound of the shipped models on subjects that set nothing.

    python -m benchmarks.evidence.intervals --nilearn FOLDER
    python -m benchmarks.evidence.intervals --models ct-denoise --draws 1 --samples 0

Scans are made of truths as in a calibration, with other seeds: level, colour, kernel of the noise, distance
and profile of slices are drawn. Writes intervals.md and intervals.json to the folder given with --out.
"""

from __future__ import annotations

import argparse
import json
import shlex
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.evidence import intervals_tables
from benchmarks.evidence.calibrate import MODELS
from benchmarks.evidence.interval_scans import TRUTHS, truths
from benchmarks.harness.common import DOCS, both_commands, describe_machine, weights, write_page
from benchmarks.uncertainty.run import calibration as spread
from medrestore.engine import LoadedModel, RestoreOptions, load_model, restore
from medrestore.engine.intervals.calibration import FILE, find_calibration
from medrestore.errors import GeometryError, InputError, ModelError
from medrestore.metrics import head_mask, measured, psnr, reference_range, ssim
from medrestore.training.simulate import Simulated, simulate
from medrestore.volume import Volume

CALIBRATED = [name for name in TRUTHS if (MODELS / name / FILE).exists()]
PARTS = 10
SAMPLED = (40, 40, 40)
"""Voxels of the scans that samples are drawn of, for comparison."""


def scans(model: LoadedModel, truth: Volume, subject: str, draws: int, seed: int) -> list[Simulated]:
    """Make scans of a truth; a draw that the truth is too small for is left out."""
    found = []
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw, zlib.crc32(subject.encode())])
        try:
            found.append(simulate(truth, model.spec, rng))
        except (GeometryError, InputError):
            continue
    return found


def judged(model: LoadedModel, made: Simulated, subject: str, level: float) -> dict[str, Any]:
    """Restore a scan with intervals, and compare them and the bound with its truth, inside its head."""
    result = restore(made.scan, replace(made.options, interval=level), model=model)
    truth = measured(made.truth.array, made.truth.modality)
    image, lower, upper = (
        measured(one.array, made.truth.modality)
        for one in (result.volume, result.maps["lower"], result.maps["upper"])
    )
    head = head_mask(truth)
    inside = ((truth >= lower) & (truth <= upper))[head]
    where = {"data_range": reference_range(truth), "mask": head}
    bound = result.record.intervals["bound"]
    gradient = np.sqrt(sum(np.square(part) for part in np.gradient(truth)))
    error = (image - truth)[head]
    return {
        "subject": subject,
        "noise": result.record.noise["fraction"],
        "factor": result.record.slices.get("factor", 1.0),
        "codes": [one.code for one in result.record.findings],
        "widened": result.record.intervals["widened"],
        "coverage": float(inside.mean()),
        "below": float(np.mean((truth < lower)[head])),
        "width_over_rmse": float((upper - lower)[head].mean() / np.sqrt(np.mean(np.square(error)))),
        "intensity": _by_parts(inside, truth[head]),
        "gradient": _by_parts(inside, gradient[head]),
        "psnr": psnr(image, truth, **where),
        "ssim": ssim(image, truth, **where),
        "least_psnr": None if bound is None else bound["psnr"],
        "least_ssim": None if bound is None else bound["ssim"],
    }


def _by_parts(inside: np.ndarray, values: np.ndarray) -> list[float]:
    """Return the coverage in each tenth of the voxels, in the order of some values."""
    order = np.argsort(values, kind="stable")
    return [float(inside[part].mean()) for part in np.array_split(order, PARTS)]


def compared(model: LoadedModel, made: Simulated, args: argparse.Namespace) -> dict[str, float]:
    """Compare intervals with the deviation of samples, both scaled to cover as asked on this very scan."""
    options = replace(made.options, interval=args.level, samples=args.samples)
    result = restore(made.scan, options, model=model)
    assert result.std is not None
    truth = made.truth.array
    head = head_mask(measured(truth, made.truth.modality))
    lower, upper, std = (result.maps[name].array for name in ("lower", "upper", "std"))
    half, middle = (upper - lower) / 2, (upper + lower) / 2
    found = {}
    for name, width, centre in (("interval", half, middle), ("samples", std, result.volume.array)):
        ratio = np.abs(truth - centre)[head] / np.maximum(width[head], 1e-6 * float(width.max()))
        told = spread(result.volume.array, width, SimpleNamespace(voxels=truth, head=head))
        found[f"{name}_width"] = float(2 * np.quantile(ratio, args.level) * width[head].mean())
        found[f"{name}_rank_cubes"], found[f"{name}_rank_voxels"] = told["rank_cubes"], told["rank_voxels"]
    found["samples_coverage"] = float(np.mean(np.abs(truth - result.volume.array)[head] <= 1.645 * std[head]))
    return found


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Everything of one model."""
    model = load_model(RestoreOptions(model=name))
    rows, beside = [], []
    for subject, number, truth in truths(name, "test", args.nilearn):
        for made in scans(model, truth, subject, args.draws, args.seed + number):
            try:
                rows.append(judged(model, made, subject, args.level))
            except ModelError as error:
                print(f"{name}, {subject}: {error}", flush=True)
                continue
            print(f"{name}, {subject}: {rows[-1]['coverage']:.3f}", flush=True)
        if args.samples and len(beside) < args.compared:
            box = tuple(slice(0, side) for side in SAMPLED)
            part = Volume.from_array(truth.array[box], truth.geometry.cropped(box).affine, truth.modality)
            beside += [
                {"subject": subject, **compared(model, made, args)}
                for made in scans(model, part, subject, 1, args.seed + 1)
            ]
    about = find_calibration(name, model.spec, None)
    population = {"subjects": about.population.subjects, "scans": about.population.scans}
    population |= {"tuned_on": about.population.tuned_on, "noise": about.population.noise}
    return {"model": name, "population": population, "rows": rows, "beside": beside}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(CALIBRATED))
    parser.add_argument("--nilearn", type=Path, default=Path())
    parser.add_argument("--out", type=Path, default=DOCS)
    parser.add_argument("--draws", type=int, default=3, help="scans of each truth (default: 3)")
    parser.add_argument("--level", type=float, default=0.9)
    parser.add_argument("--samples", type=int, default=8, help="to compare with; 0 for none (default: 8)")
    parser.add_argument("--compared", type=int, default=2, help="scans of a model that are (default: 2)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave what the page has of other models")
    return parser.parse_args(argv)


def describe_setup(args: argparse.Namespace) -> dict[str, Any]:
    words = ["--models", args.models, "--draws", str(args.draws), "--level", f"{args.level:g}"]
    words += ["--samples", str(args.samples), "--compared", str(args.compared), "--seed", str(args.seed)]
    words += ["--keep"] if args.keep else []
    digests: dict[str, str] = {}
    for name in args.models.split(","):
        modality, task = name.split("-")
        digests |= weights(name, modality.upper(), task)
    return {
        "command": shlex.join(["python", "-m", "benchmarks.evidence.intervals", *words]),
        "level": args.level,
        "samples": args.samples,
        "weights": digests,
        **describe_machine({"medrestore"}),
    }


def kept(before: dict[str, Any], now: dict[str, Any], models: list[str]) -> dict[str, Any]:
    """Return a report that goes on with what an earlier one has of other models."""
    setup = {**now["setup"], "weights": {**before["setup"]["weights"], **now["setup"]["weights"]}}
    setup["command"] = both_commands(before["setup"]["command"], now["setup"]["command"])
    setup["samples"] = max(before["setup"]["samples"], now["setup"]["samples"])
    return {"setup": setup, "models": [one for one in before["models"] if one["model"] not in models]}


def main(argv: list[str] | None = None) -> None:
    """Measure, and write the page."""
    args = parse(argv)
    path = args.out / "intervals.json"
    report: dict[str, Any] = {"setup": describe_setup(args), "models": []}
    beside: dict[str, Any] = {}
    if args.keep and path.exists():
        before = json.loads(path.read_text())
        beside = {one["model"]: one["beside"] for one in before["models"]}
        report = kept(before, report, args.models.split(","))
    for name in args.models.split(","):
        found = measure(name, args)
        found["beside"] = found["beside"] or beside.get(name, [])  # a run without samples leaves them
        report["models"].append(found)
        # After each: the next takes long.
        write_page(args.out, "intervals", report, intervals_tables.markdown(report))


if __name__ == "__main__":
    main()
