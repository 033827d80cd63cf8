"""Measure what a denoiser for MR must not do: harm clean scans, invent structure, swallow small lesions.

    python -m benchmarks.denoise.claims                       # the middle of Colin27 of Debian's mricron-data
    python -m benchmarks.denoise.claims --model runs/mine/model --volume scan.nii.gz
    python -m benchmarks.denoise.claims --speed               # 256 x 256 x 192 as well, beside NLM

Writes claims.md and claims.json (with the name of the model where one is given) to the folder given with
--out.
"""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

import medrestore
from benchmarks.ct.spheres import by_diameter, place
from benchmarks.denoise.claims_tables import mr_page
from benchmarks.denoise.methods import METHODS, Scan
from benchmarks.harness.common import CH2, DOCS, NO_CH2, describe_machine, middle_box, write_page
from medrestore.engine import LoadedModel, RestoreOptions, load_model
from medrestore.metrics import head_mask, reference_range
from medrestore.metrics.lesions import Lesion, contrast_kept
from medrestore.physics.mr_noise import add_gaussian, add_rician
from medrestore.types import Modality

SIZE = 96
CLEAN_LEVELS = (0.0, 0.1, 0.2, 0.3)
SPHERE_LEVELS = (3.0, 5.0, 10.0)
CONTRASTS = (2.0, 3.0, 5.0)
SPACING = 14  # voxels between spheres
SEED = 0


def middle(path: Path, size: int) -> np.ndarray:
    """The middle of a volume, float32."""
    voxels = np.asarray(medrestore.read(path).array, dtype=np.float32)
    return np.ascontiguousarray(voxels[middle_box(voxels.shape, (size,) * 3)])


class Runner:
    """Restores arrays with one model."""

    def __init__(
        self, name: str | None, modality: Modality = Modality.MR, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)
    ) -> None:
        self.name = name
        self.modality = modality
        self.affine = np.diag([*spacing, 1.0])
        self.model: LoadedModel = load_model(RestoreOptions(model=name), modality)

    def __call__(self, voxels: np.ndarray, noise: float | str = "auto") -> tuple[np.ndarray, Any]:
        """The restored voxels and the record."""
        volume = medrestore.Volume.from_array(voxels, self.affine, modality=self.modality)
        done = medrestore.restore(volume, RestoreOptions(noise=noise, force=True), model=self.model)
        return done.volume.array, done.record


def harm(clean: np.ndarray, run: Runner) -> list[dict[str, Any]]:
    """How much a scan with hardly any noise is changed, in per cent of its range."""
    rows = []
    data_range, head = reference_range(clean), head_mask(clean)
    for level in CLEAN_LEVELS:
        sigma = level / 100 * np.percentile(clean, 99)
        scan = add_rician(clean, np.float32(sigma), np.random.default_rng(SEED)) if level else clean
        restored, record = run(scan)
        change = 100 * np.abs(restored - scan)[head] / data_range
        found = {"noise": level, "found": 100 * record.noise["fraction"]}
        rows.append(found | sizes_of(change) | {"warnings": list(record.sentences)})
    return rows


def sizes_of(change: np.ndarray) -> dict[str, float]:
    """How large absolute changes are."""
    return {
        "mean": float(change.mean()),
        "rms": float(np.sqrt(np.square(change).mean())),
        "p99": float(np.percentile(change, 99)),
        "max": float(change.max()),
    }


def largest_blob(image: np.ndarray, sigma: float) -> int:
    """Voxels of the largest connected part (faces, edges, corners) more than a sigma off the median."""
    labels, count = ndimage.label(np.abs(image - np.median(image)) > sigma, np.ones((3, 3, 3)))
    return int(np.bincount(labels.ravel())[1:].max()) if count else 0


def nothing(run: Runner) -> list[dict[str, Any]]:
    """What becomes of scans in which there is nothing."""
    rng = np.random.default_rng(SEED)
    shape, sigma = (SIZE,) * 3, 5.0
    zero, flat = np.zeros(shape, np.float32), np.full(shape, 100, np.float32)
    cases = {
        "empty": (zero, "auto"),
        "constant": (flat, "auto"),
        "constant, 5 % Gaussian noise": (add_gaussian(flat, np.float32(sigma), rng), "auto"),
        "constant, 5 % Rician noise, level given": (add_rician(flat, np.float32(sigma), rng), sigma),
        "Rician noise alone": (add_rician(zero, np.float32(sigma), rng), "auto"),
        "Rician noise alone, level given": (add_rician(zero, np.float32(sigma), rng), sigma),
    }
    rows = []
    for name, (scan, noise) in cases.items():
        restored, record = run(scan, noise)
        rows.append({"case": name} | structure(scan, restored, record.noise["sigma"], sigma))
    return rows


def structure(scan: np.ndarray, restored: np.ndarray, found: float, sigma: float) -> dict[str, Any]:
    """What a scan of nothing holds before and after, in units of sigma."""
    return {
        "found": found / sigma,
        "std_in": float(scan.std() / sigma),
        "std_out": float(restored.std() / sigma),
        "extreme": float(np.abs(restored - np.median(restored)).max() / sigma),
        "blob_in": largest_blob(scan, sigma),
        "blob_out": largest_blob(restored, sigma),
    }


def sites(clean: np.ndarray) -> list[tuple[int, int, int]]:
    """Places on a grid, well inside tissue."""
    tissue = ndimage.gaussian_filter(clean, 1.5) > 0.3 * np.percentile(clean, 99)
    deep = ndimage.binary_erosion(tissue, iterations=5)
    grid = [range(SPACING // 2 + 1, n - SPACING // 2, SPACING) for n in clean.shape]
    return [(x, y, z) for x in grid[0] for y in grid[1] for z in grid[2] if deep[x, y, z]]


def with_spheres(clean: np.ndarray, contrast: float) -> tuple[np.ndarray, list[Lesion]]:
    """Put bright and dark spheres of all diameters into a scan; return it and what is where."""
    # A dark sphere below zero would not have the contrast that is asked for.
    return place(clean, contrast, sites(clean), least=0.0)


def spheres(clean: np.ndarray, run: Runner, levels: tuple[float, ...]) -> list[dict[str, Any]]:
    """Contrast of small spheres that is left; the noise is the same draw with them and without."""
    rows = []
    for level in levels:
        sigma = float(level / 100 * np.percentile(clean, 99))

        def restored(scan: np.ndarray, level: float = level, sigma: float = sigma) -> np.ndarray:
            noisy = add_rician(scan, np.float32(sigma), np.random.default_rng([SEED, round(1000 * level)]))
            return run(noisy, sigma)[0]

        without = restored(clean)
        for cnr in CONTRASTS:
            scan, placed = with_spheres(clean, cnr * sigma)
            kept = np.array(contrast_kept(restored(scan), without, placed))
            rows += [{"level": level, "cnr": cnr} | row for row in by_diameter(kept, placed)]
    return rows


def speed(clean: np.ndarray, run: Runner, *, whole: bool) -> list[dict[str, Any]]:
    """Time of one evaluation and of a whole restoration, model load included, beside NLM."""
    scans = {f"{SIZE} cubed": clean}
    if whole:
        head = np.pad(
            clean, [(0, max(0, n - s)) for n, s in zip((256, 256, 192), clean.shape, strict=True)], "wrap"
        )
        scans["256 x 256 x 192"] = head[:256, :256, :192]
    rows = []
    nlm = METHODS["nlm"].load()
    for name, voxels in scans.items():
        sigma = float(0.05 * np.percentile(voxels, 99))
        noisy = add_rician(voxels, np.float32(sigma), np.random.default_rng(SEED))
        start = time.perf_counter()
        load = Runner(run.name).model.load_seconds
        _, record = run(noisy)
        ours = time.perf_counter() - start
        start = time.perf_counter()
        nlm(Scan(noisy, np.eye(4), sigma, rician=True))
        theirs = time.perf_counter() - start
        rows.append(
            {
                "scan": name,
                "voxels_per_second": noisy.size / record.timings["network"],
                "load": load,
                "whole": ours,
                "nlm": theirs,
                "ratio": ours / theirs,
            }
        )
    return rows


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--volume", type=Path, default=CH2, help=f"clean volume (default: {CH2})")
    parser.add_argument(
        "--model", default=None, help="a name or a folder (default: that of the shipped MR model)"
    )
    parser.add_argument(
        "--levels", default=",".join(f"{n:g}" for n in SPHERE_LEVELS), help="noise with spheres, %%"
    )
    parser.add_argument("--speed", action="store_true", help="a scan of 256 x 256 x 192 voxels as well")
    parser.add_argument("--out", type=Path, default=DOCS)
    args = parser.parse_args(argv)
    if not args.volume.exists():
        parser.error(NO_CH2 if args.volume == CH2 else f"{args.volume} is not there")
    args.levels = tuple(float(level) for level in args.levels.split(","))
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    clean, run = middle(args.volume, SIZE), Runner(args.model)
    command = ["python", "-m", "benchmarks.denoise.claims", "--volume", args.volume.name]
    command += ["--model", Path(args.model).name] if args.model else []
    command += ["--levels", ",".join(f"{n:g}" for n in args.levels), *(["--speed"] if args.speed else [])]
    report = {
        "setup": {
            "command": shlex.join(command),
            "model": run.model.ref.name,
            "sha256": run.model.ref.sha256 or "",
            "volume": args.volume.name,
            **describe_machine({"medrestore", "dipy"}),
        },
        "harm": harm(clean, run),
        "nothing": nothing(run),
        "spheres": spheres(clean, run, args.levels),
        "speed": speed(clean, run, whole=args.speed),
    }
    stem = f"claims-{Path(args.model).name}" if args.model else "claims"
    write_page(args.out, stem, report, mr_page(report, SIZE))


if __name__ == "__main__":
    main()
