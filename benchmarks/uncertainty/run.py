"""Measure what posterior samples are worth: do they spread where the error is, and what does sharpness cost?

    python -m benchmarks.uncertainty.run                        # Colin27 of Debian's mricron-data, both tasks
    python -m benchmarks.uncertainty.run --volume scan.nii.gz --tasks superres --samples 16 --steps 2,5,10,20
    python -m benchmarks.uncertainty.run --modality CT          # a computed body, free of noise
    python -m benchmarks.uncertainty.run --model FOLDER --size 48   # minutes
    python -m benchmarks.uncertainty.run --tasks denoise --keep     # new weights of one model

Works on the middle of the volume, in this process. Writes uncertainty.md, uncertainty.json and a picture of
each task, uncertainty-denoise.png say (with -ct in the name for CT, -quick for --quick, which is --size 64),
to the folder given with --out.
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import medrestore
from benchmarks.ct.run import FULL, low_dose
from benchmarks.ct.run import Truth as Scan
from benchmarks.harness.common import (
    COMPUTED,
    CT_WINDOW,
    QUICK,
    Truth,
    add_common_arguments,
    add_modality_argument,
    both_commands,
    check_volumes,
    describe_machine,
    load_truth,
    middle,
    report_stem,
    weights,
    write_page,
)
from benchmarks.uncertainty import tables as uncertainty_tables
from medrestore.engine import LoadedModel, Observers, load_model
from medrestore.geometry import Geometry
from medrestore.metrics import psnr, ssim
from medrestore.noise.ct import estimate_ct_noise
from medrestore.physics.mr_noise import add_rician
from medrestore.physics.slices import SliceStack

LEVEL, DOSE, FACTOR, CUBE, BINS = 5, 0.25, 4, 5, 12
SLICES = f"boxcar slices {FACTOR} voxels apart along axis k, no noise"
CASES = {
    "MR": {"denoise": f"Rician noise of {LEVEL} % of the 99th percentile", "superres": SLICES},
    "CT": {
        "denoise": f"{DOSE:g} of the dose, soft kernel, as in [ct](ct-quick.md)",
        "superres": f"{SLICES} but that of the scan",
    },
}


def make_scan(truth: Truth, task: str, args: argparse.Namespace) -> medrestore.Volume:
    """Degrade a clean volume for a task; CT is in HU."""
    affine = truth.affine
    voxels = np.asarray(truth.voxels + zero(args), dtype=np.float32)
    if task == "denoise" and args.modality == "CT":
        spacing = tuple(map(float, np.linalg.norm(affine[:3, :3], axis=0)))
        own = 0.0 if truth.name == COMPUTED.name else estimate_ct_noise(voxels)
        noise, _, _ = low_dose(Scan(truth.name, voxels, spacing, own), DOSE, "soft", own or FULL)
        voxels = np.asarray(voxels + noise, dtype=np.float32)
    elif task == "denoise":
        voxels = add_rician(voxels, LEVEL / 100 * truth.p99, np.random.default_rng(args.seed))
    else:
        planes = voxels.shape[2]
        stack = SliceStack(planes, planes // FACTOR, FACTOR, FACTOR, first=(FACTOR - 1) / 2)
        voxels, affine = stack.forward(voxels), affine.copy()
        affine[:3, 3] += affine[:3, 2] * (FACTOR - 1) / 2
        affine[:3, 2] *= FACTOR
    return medrestore.Volume(voxels, Geometry(voxels.shape, affine), medrestore.Modality(args.modality))


def zero(args: argparse.Namespace) -> float:
    """What a scan has where a truth, which has no negative voxels, is 0."""
    return CT_WINDOW[0] if args.modality == "CT" else 0.0


def options_for(task: str, truth: Truth, **changes: Any) -> medrestore.RestoreOptions:
    spacing = truth.spacing[2]
    slices = {"spacing": spacing, "slice_axis": "k"} if task == "superres" else {}
    # The middle of a head is too small to be recognised as one.
    return medrestore.RestoreOptions(task=medrestore.Task(task), force=True, **slices, **changes)


def quality(image: np.ndarray, truth: Truth) -> dict[str, float]:
    """Distortion and sharpness in the head; sharpness is that of the truth where it is 1."""
    where = {"data_range": truth.data_range, "mask": truth.head}
    return {
        "psnr": psnr(image, truth.voxels, **where),
        "ssim": ssim(image, truth.voxels, **where),
        "gradient": _gradient(image)[truth.head].mean() / _gradient(truth.voxels)[truth.head].mean(),
        "power": _fine_power(image) / _fine_power(truth.voxels),
    }


def _gradient(image: np.ndarray) -> np.ndarray:
    return np.sqrt(sum(np.square(part) for part in np.gradient(image.astype(np.float64))))


def _fine_power(image: np.ndarray) -> float:
    """Power beyond half the Nyquist frequency, under a Hann window."""
    windows = np.ix_(*(np.hanning(n + 2)[1:-1] for n in image.shape))
    spectrum = np.abs(np.fft.rfftn(image * windows[0] * windows[1] * windows[2])) ** 2
    axes = [np.fft.fftfreq(n) for n in image.shape[:2]] + [np.fft.rfftfreq(image.shape[2])]
    radius = np.sqrt(sum(np.square(part) for part in np.meshgrid(*axes, indexing="ij")))
    return float(spectrum[radius > 0.25].sum())


def calibration(mean: np.ndarray, std: np.ndarray, truth: Truth) -> dict[str, Any]:
    """How the error of the mean and the deviation of the samples go together in the head."""
    error = np.abs(mean - truth.voxels)[truth.head].astype(np.float64)
    spread = std[truth.head].astype(np.float64)
    coarse = [_cubes(np.square(part), truth.head) for part in (mean - truth.voxels, std)]
    edges = np.quantile(spread, np.linspace(0, 1, BINS + 1))
    number = np.clip(np.searchsorted(edges, spread) - 1, 0, BINS - 1)
    bins = [
        [float(np.sqrt(np.mean(part[number == n] ** 2))) for part in (spread, error)]
        for n in range(BINS)
        if (number == n).any()
    ]
    return {
        "error_over_deviation": float(np.sqrt(np.mean(error**2) / np.mean(spread**2))),
        "rank_voxels": float(stats.spearmanr(error, spread).statistic),
        "rank_cubes": float(stats.spearmanr(*coarse).statistic),
        "within_two": float(np.mean(error <= 2 * spread)),
        "bins": bins,
    }


def _cubes(values: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Return means over cubes that lie in the head by more than half."""
    sides = [n // CUBE for n in values.shape]
    part = tuple(slice(0, n * CUBE) for n in sides)
    shape = (sides[0], CUBE, sides[1], CUBE, sides[2], CUBE)
    share, total = (
        field[part].astype(np.float64).reshape(shape).mean(axis=(1, 3, 5)) for field in (head, values * head)
    )
    return total[share > 0.5] / share[share > 0.5]


def measure(
    truth: Truth, task: str, model: LoadedModel, args: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Everything for one volume and one task; also the images for the picture."""
    scan, air = make_scan(truth, task, args), zero(args)
    drawn: dict[int, np.ndarray] = {}
    observers = Observers(step=lambda point: drawn.update({point.sample: point.state.array - air}))
    start = time.perf_counter()
    options = options_for(task, truth, samples=args.samples, seed=args.seed, sampler=args.sampler)
    result = medrestore.restore(scan, options, model=model, observers=observers)
    elapsed = time.perf_counter() - start
    assert result.std is not None
    mean = result.volume.array - air
    curve = [{"name": "scan", **quality(_baseline(scan, truth, task) - air, truth)}]
    curve.append({"name": "mean", "evaluations": result.record.settings["ensemble"], **quality(mean, truth)})
    for steps in args.steps:
        options = options_for(task, truth, output="sample", steps=steps, seed=args.seed, sampler=args.sampler)
        sample = medrestore.restore(scan, options, model=model).volume.array - air
        # A sample starts from the mean.
        each = (2 * steps - 1 if args.sampler == "heun" else steps) + result.record.settings["ensemble"]
        curve.append(
            {"name": f"{steps} step{'s' * (steps > 1)}", "evaluations": each, **quality(sample, truth)}
        )
    average = np.mean(list(drawn.values()), axis=0)
    curve.append({"name": f"average of {args.samples} samples", **quality(average, truth)})
    found = calibration(mean, result.std.array, truth)
    print(
        f"{truth.name} {task}: error / deviation {found['error_over_deviation']:.2f}, rank correlation "
        f"{found['rank_voxels']:.2f} (voxels), {found['rank_cubes']:.2f} (cubes), {elapsed:.0f} s",
        flush=True,
    )
    run = {"volume": truth.name, "task": task, "model": result.record.model.name, "seconds": elapsed}
    images = {"truth": truth.voxels, "mean": mean, "a sample": drawn[0]}
    images |= {"error of the mean": np.abs(mean - truth.voxels), "deviation": result.std.array}
    return {**run, **found, "steps": result.record.settings["steps"], "curve": curve}, images


def _baseline(scan: medrestore.Volume, truth: Truth, task: str) -> np.ndarray:
    """Return what there is without a model: the scan, or the spline through its slices."""
    if task == "denoise":
        return scan.array
    planes, slices = truth.voxels.shape[2], scan.shape[2]
    return SliceStack(planes, slices, FACTOR, FACTOR, first=(FACTOR - 1) / 2).interpolate(scan.array)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_arguments(parser)
    add_modality_argument(parser)
    parser.add_argument("--tasks", default="denoise,superres", help="without --model (default: both)")
    parser.add_argument("--size", type=int, default=96, help="voxels of each axis (default: 96)")
    parser.add_argument("--samples", type=int, default=8, help="for the deviation (default: 8)")
    parser.add_argument("--steps", default="1,2,5,10,20", help="for the curve (default: 1,2,5,10,20)")
    parser.add_argument("--sampler", default="heun", choices=["heun", "euler", "stochastic"])
    parser.add_argument("--keep", action="store_true", help="leave what the page has of other tasks")
    args = parser.parse_args(argv)
    args.size = QUICK if args.quick else args.size
    args.steps = [int(steps) for steps in args.steps.split(",")]
    args.tasks = args.tasks.split(",")
    if unknown := set(args.tasks) - set(CASES[args.modality]):
        parser.error(f"unknown tasks {', '.join(unknown)}; there are {', '.join(CASES[args.modality])}")
    if args.samples < 2:
        parser.error("a deviation needs two samples or more")
    check_volumes(parser, args)
    return args


def load_models(args: argparse.Namespace) -> dict[str, LoadedModel]:
    """Load the model that is named, or the default ones, by task."""
    modality = medrestore.Modality(args.modality)
    if args.model:
        model = load_model(medrestore.RestoreOptions(model=args.model), modality)
        return {str(model.spec.task): model}
    requests = (medrestore.RestoreOptions(task=medrestore.Task(task), samples=2) for task in args.tasks)
    return dict(zip(args.tasks, (load_model(request, modality) for request in requests), strict=True))


def describe_setup(args: argparse.Namespace, truths: list[Truth]) -> dict[str, Any]:
    words = [part for path in args.volume for part in ("--volume", path.name)]
    words += ["--modality", args.modality] if args.modality != "MR" else []
    words += ["--model", Path(args.model).name] if args.model else ["--tasks", ",".join(args.tasks)]
    words += ["--size", str(args.size), "--samples", str(args.samples), "--sampler", args.sampler]
    words += ["--steps", ",".join(map(str, args.steps)), "--seed", str(args.seed)]
    words += ["--keep"] if args.keep else []
    return {
        "command": shlex.join(["python", "-m", "benchmarks.uncertainty.run", *words]),
        **{key: getattr(args, key) for key in ("samples", "sampler", "seed")},
        "cube": CUBE,
        "cases": CASES[args.modality],
        "modality": args.modality,
        "volumes": [truth.describe() for truth in truths],
        "weights": weights(args.model, args.modality, *args.tasks),
        **describe_machine({"medrestore"}),
    }


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    truths = [load_truth(path, quick=False, modality=args.modality) for path in args.volume]
    truths = [middle(truth, args.size, FACTOR) for truth in truths]
    stem = report_stem("uncertainty", args)
    path, report = args.out / f"{stem}.json", {"setup": describe_setup(args, truths), "runs": []}
    if args.keep and path.exists():
        report = kept(json.loads(path.read_text()), report, args.tasks)
    for task, model in load_models(args).items():
        measured = [measure(truth, task, model, args) for truth in truths]
        report["runs"] += [run for run, _ in measured]
        # After each: the next takes long.
        write_page(args.out, stem, report, uncertainty_tables.markdown(report, stem))
        uncertainty_tables.plot(measured, args.out / f"{stem}-{task}.png")


def kept(before: dict[str, Any], now: dict[str, Any], tasks: list[str]) -> dict[str, Any]:
    """Return a report that goes on with what an earlier one has of other tasks."""
    runs = [run for run in before["runs"] if run["task"] not in tasks]
    names = {run["model"] for run in runs}
    weights = {name: digest for name, digest in before["setup"]["weights"].items() if name in names}
    setup = {**now["setup"], "weights": {**weights, **now["setup"]["weights"]}}
    setup["command"] = both_commands(before["setup"]["command"], now["setup"]["command"])
    return {"setup": setup, "runs": runs}


if __name__ == "__main__":
    main()
