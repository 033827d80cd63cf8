"""Measure what a denoiser for MR must not do: harm clean scans, invent structure, swallow small lesions.

    python benchmarks/claims.py                          # the middle of Colin27 of Debian's mricron-data
    python benchmarks/claims.py --model runs/mine/model --volume scan.nii.gz
    python benchmarks/claims.py --speed                  # a whole head of 256 x 256 x 192 as well, beside NLM

Writes claims.md and claims.json (with the name of the model where one is given) to the folder given with
--out.
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import CH2, DOCS, NO_CH2, describe_machine
from methods import METHODS, Scan
from scipy import ndimage

import medrestore
from medrestore.engine import LoadedModel, RestoreOptions, load_model
from medrestore.metrics import head_mask, reference_range
from medrestore.physics.noise import add_gaussian, add_rician
from medrestore.types import Modality

SIZE = 96
CLEAN_LEVELS = (0.0, 0.1, 0.2, 0.3)
SPHERE_LEVELS = (3.0, 5.0, 10.0)
CONTRASTS = (2.0, 3.0, 5.0)
DIAMETERS = (3, 4, 5, 6)
SPACING = 14  # voxels between spheres
SEED = 0


def middle(path: Path, size: int) -> np.ndarray:
    """The middle of a volume, float32."""
    voxels = np.asarray(medrestore.read(path).array, dtype=np.float32)
    part = tuple(slice(max(0, (n - size) // 2), max(0, (n - size) // 2) + size) for n in voxels.shape)
    return np.ascontiguousarray(voxels[part])


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
        rows.append(found | sizes_of(change) | {"warnings": list(record.warnings)})
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
        rows.append({"case": name} | structure(scan, *run(scan, noise), sigma))
    return rows


def structure(scan: np.ndarray, restored: np.ndarray, record: Any, sigma: float) -> dict[str, Any]:
    """What a scan of nothing holds before and after, in units of sigma."""
    return {
        "found": record.noise["sigma"] / sigma,
        "std_in": float(scan.std() / sigma),
        "std_out": float(restored.std() / sigma),
        "extreme": float(np.abs(restored - np.median(restored)).max() / sigma),
        "blob_in": largest_blob(scan, sigma),
        "blob_out": largest_blob(restored, sigma),
    }


def ball(diameter: int, side: int = 9) -> np.ndarray:
    """Fraction of each voxel of a (side, side, side) cube that is inside a ball in its middle."""
    fine = 5
    at = (np.arange(side * fine) + 0.5) / fine - side / 2
    inside = sum(a**2 for a in np.meshgrid(at, at, at, indexing="ij", sparse=True)) <= (diameter / 2) ** 2
    return inside.reshape(side, fine, side, fine, side, fine).mean(axis=(1, 3, 5)).astype(np.float32)


def sites(clean: np.ndarray) -> list[tuple[int, int, int]]:
    """Places on a grid, well inside tissue."""
    tissue = ndimage.gaussian_filter(clean, 1.5) > 0.3 * np.percentile(clean, 99)
    deep = ndimage.binary_erosion(tissue, iterations=5)
    grid = [range(SPACING // 2 + 1, n - SPACING // 2, SPACING) for n in clean.shape]
    return [(x, y, z) for x in grid[0] for y in grid[1] for z in grid[2] if deep[x, y, z]]


def with_spheres(clean: np.ndarray, contrast: float) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Put bright and dark spheres of all diameters into a scan; return it and what is where."""
    # A dark sphere below zero would not have the contrast that is asked for.
    return place(clean, contrast, sites(clean), least=0.0)


def place(
    clean: np.ndarray, contrast: float, where: list[tuple[int, int, int]], least: float
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Put spheres around voxels, every other one dark where it stays above the least value."""
    scan, placed = clean.copy(), []
    for number, centre in enumerate(where):
        box = tuple(slice(at - 4, at + 5) for at in centre)
        diameter = DIAMETERS[number // 2 % len(DIAMETERS)]
        sign = -1 if number % 2 and clean[box].min() > contrast + least else 1
        shape = ball(diameter)
        scan[box] += sign * contrast * shape
        placed.append({"box": box, "diameter": diameter, "sign": sign, "core": shape > 0.99})
    return scan, placed


def contrast_kept(
    with_them: np.ndarray, without: np.ndarray, contrast: float, placed: list[Any]
) -> list[float]:
    """For each sphere, the mean difference over its core as a fraction of the contrast that was put in."""
    difference = with_them - without
    return [float(difference[one["box"]][one["core"]].mean() * one["sign"] / contrast) for one in placed]


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
            kept = np.array(contrast_kept(restored(scan), without, cnr * sigma, placed))
            rows += [{"level": level, "cnr": cnr} | row for row in by_diameter(kept, placed)]
    return rows


def by_diameter(kept: np.ndarray, placed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Contrast that spheres keep, for each diameter."""
    rows = []
    sizes, signs = (np.array([one[key] for one in placed]) for key in ("diameter", "sign"))
    for diameter in DIAMETERS:
        here = kept[sizes == diameter]
        rows.append(
            {
                "diameter": diameter,
                "count": len(here),
                "mean": _mean(here),
                "p10": float(np.percentile(here, 10)) if here.size else None,
                "bright": _mean(kept[(sizes == diameter) & (signs > 0)]),
                "dark": _mean(kept[(sizes == diameter) & (signs < 0)]),
            }
        )
    return rows


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


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


HARM = {
    "noise": ("noise", "{:.1f} %"),
    "found": ("noise found", "{:.2f} %"),
    "mean": ("mean change", "{:.3f} %"),
    "rms": ("root mean square", "{:.3f} %"),
    "p99": ("99th percentile", "{:.2f} %"),
    "max": ("largest", "{:.2f} %"),
}
NOTHING = {
    "case": ("scan", "{}"),
    "found": ("level found or given", "{:.2f}"),
    "std_in": ("deviation before", "{:.2f}"),
    "std_out": ("after", "{:.3f}"),
    "extreme": ("farthest from the median", "{:.2f}"),
    "blob_in": ("largest blob before (voxels)", "{}"),
    "blob_out": ("after", "{}"),
}
SPHERES = {
    "level": ("noise", "{:g} %"),
    "cnr": ("CNR", "{:g}"),
    "diameter": ("diameter (voxels)", "{}"),
    "count": ("spheres", "{}"),
    "mean": ("kept", "{:.2f}"),
    "p10": ("10th percentile", "{:.2f}"),
    "bright": ("bright", "{:.2f}"),
    "dark": ("dark", "{:.2f}"),
}
SPEED = {
    "scan": ("scan", "{}"),
    "voxels_per_second": ("voxels/s", "{:.3g}"),
    "load": ("model load (s)", "{:.1f}"),
    "whole": ("all (s)", "{:.1f}"),
    "nlm": ("NLM (s)", "{:.1f}"),
    "ratio": ("ratio", "{:.2f}"),
}


def markdown(report: dict[str, Any]) -> str:
    """The page."""
    setup = report["setup"]
    parts = [
        f"# What {setup['model']} does not do",
        f"Made by `{setup['command']}` on {setup['date']}, weights `{setup['sha256'][:16]}`; raw numbers are "
        f"in the JSON file beside it. Scan: the middle {SIZE} voxels of each axis of `{setup['volume']}`. "
        f"Machine: {setup['cpu']}, {setup['cores']} cores, threads: {setup['threads']}.",
        "## Clean scans",
        "Rician noise of this level (per cent of the 99th percentile) added to the scan, the level "
        "estimated; change of the voxels inside the head, in per cent of its range (maximum - minimum).",
        table(HARM, report["harm"]),
        "## Nothing in the scan",
        f"{SIZE} voxels cubed, noise of standard deviation sigma = 5, the constant is 100. All but voxels in "
        "units of sigma. A blob is a connected set (faces, edges, corners) of voxels more than one sigma off "
        "the median.",
        table(NOTHING, report["nothing"]),
        "## Small spheres",
        "Bright and dark spheres in tissue, before the noise; contrast = CNR x sigma. Kept: the mean over "
        "the core of a sphere (voxels wholly inside) of the result minus the result of the same scan and "
        "noise without spheres, over the contrast. Level given. Mean over spheres, and the 10th "
        "percentile: a tenth kept less.",
        table(SPHERES, report["spheres"]),
        "## Speed",
        "Voxels a second in one evaluation, and everything from loading the model; NLM is DIPY's at radii 2 "
        "and 2. Other work may have run on the machine: the ratio says more than the times.",
        table(SPEED, report["speed"]),
    ]
    return "\n\n".join(parts) + "\n"


def table(columns: dict[str, tuple[str, str]], rows: list[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(title for title, _ in columns.values()) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = ["" if row[key] is None else form.format(row[key]) for key, (_, form) in columns.items()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


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
    command = ["python", "benchmarks/claims.py", "--volume", args.volume.name]
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
    args.out.mkdir(parents=True, exist_ok=True)
    stem = f"claims-{Path(args.model).name}" if args.model else "claims"
    (args.out / f"{stem}.json").write_text(json.dumps(report, indent=1) + "\n")
    (args.out / f"{stem}.md").write_text(markdown(report))


if __name__ == "__main__":
    main()
