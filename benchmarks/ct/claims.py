"""Measure what a denoiser for CT must not do: harm clean scans, invent structure, swallow small lesions.

    python -m benchmarks.ct.claims                       # the middle of a computed body: minutes
    python -m benchmarks.ct.claims --model runs/mine/model

The noise is that of ct.py. Writes claims-ct.md and claims-ct.json to the folder given with --out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.ct.run import FULL, low_dose
from benchmarks.ct.run import Truth as Scan
from benchmarks.ct.spheres import by_diameter, place
from benchmarks.denoise.claims import Runner, sizes_of, structure
from benchmarks.denoise.claims_tables import ct_page
from benchmarks.harness.common import DOCS, computed_body, describe_machine, middle_box, write_page
from medrestore.metrics.lesions import Lesion, contrast_kept
from medrestore.training.ct_noise import tissue_level
from medrestore.types import Modality

SHAPE = (160, 128, 40)
CLEAN_LEVELS = (0.0, 1.0, 2.0, 3.0)  # HU; 3 are 0.3 % of the attenuation of water
LEVELS = {"soft": 25.0, "sharp": 60.0}  # HU in soft tissue, by kernel
CONTRASTS = (2.0, 3.0, 5.0)
SPACING = 11  # voxels between spheres
MARGIN = 5  # voxels from the middle of a sphere to the border of the scan
CALM = 9  # side in voxels of the soft tissue around the middle of a sphere


def unit_noise(truth: Scan, kernel: str) -> np.ndarray:
    """Noise of a kernel whose level in the soft tissue of a scan is one."""
    noise = low_dose(truth, 0.25, kernel, FULL)[0]
    return np.float32(1 / (1000 * tissue_level(noise / 1000, truth.voxels / 1000 + 1))) * noise


def harm(truth: Scan, noise: np.ndarray, run: Runner) -> list[dict[str, Any]]:
    """How much a scan with hardly any noise is changed, in HU, inside the body."""
    rows = []
    body = ndimage.binary_fill_holes(truth.voxels > -500)
    for level in CLEAN_LEVELS:
        scan = np.asarray(truth.voxels + level * noise, dtype=np.float32)
        restored, record = run(scan)
        change = np.abs(restored - scan)[body]
        rows.append({"noise": level, "found": record.noise["sigma"]} | sizes_of(change))
    return rows


def nothing(spacing: tuple[float, ...], run: Runner) -> list[dict[str, Any]]:
    """What becomes of scans in which there is nothing but air or water."""
    air, water = (np.full(SHAPE, value, dtype=np.float32) for value in (-1000, 0))
    cases: dict[str, tuple[np.ndarray, float]] = {"air": (air, 1.0), "water": (water, 1.0)}
    for kernel, level in LEVELS.items():
        noise = np.float32(level) * unit_noise(Scan("water", water, spacing), kernel)
        cases[f"water, noise of {level:g} HU, {kernel}"] = (water + noise, level)
        cases[f"air, noise of {level:g} HU, {kernel}"] = (np.maximum(air + noise, -1024), level)
    rows = []
    for name, (scan, sigma) in cases.items():
        restored, record = run(scan)
        rows.append({"case": name} | structure(scan, restored, record.noise["sigma"], sigma))
    return rows


def with_spheres(clean: np.ndarray, contrast: float) -> tuple[np.ndarray, list[Lesion]]:
    """Put bright and dark spheres of all diameters into soft tissue; return the scan and what is where."""
    tissue = (clean > 0) & (clean < 120)
    deep = ndimage.minimum_filter(tissue, CALM)
    grid = [range(MARGIN, n - MARGIN, SPACING) for n in clean.shape]
    sites = [(x, y, z) for x in grid[0] for y in grid[1] for z in grid[2] if deep[x, y, z]]
    return place(clean, contrast, sites, least=-np.inf)


def spheres(truth: Scan, kernel: str, noise: np.ndarray, run: Runner) -> list[dict[str, Any]]:
    """Contrast of small spheres that is left; the noise is the same draw with them and without."""
    rows = []
    level = LEVELS[kernel]
    without = run(np.asarray(truth.voxels + level * noise, dtype=np.float32), level)[0]
    for cnr in CONTRASTS:
        scan, placed = with_spheres(truth.voxels, cnr * level)
        restored = run(np.asarray(scan + level * noise, dtype=np.float32), level)[0]
        kept = np.array(contrast_kept(restored, without, placed))
        case = {"level": f"{level:g} HU, {kernel}", "cnr": cnr}
        rows += [case | row for row in by_diameter(kept, placed)]
    return rows


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="ct-denoise", help="a name or a folder (default: ct-denoise)")
    parser.add_argument("--out", type=Path, default=DOCS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    body = computed_body()
    part = middle_box(body.array.shape, SHAPE)
    truth = Scan("computed body", np.ascontiguousarray(body.array[part]), body.spacing)
    run = Runner(args.model, Modality.CT, truth.spacing)
    noise = {kernel: unit_noise(truth, kernel) for kernel in LEVELS}
    model = ["--model", Path(args.model).name] if args.model != "ct-denoise" else []
    report = {
        "setup": {
            "command": " ".join(["python", "-m", "benchmarks.ct.claims", *model]),
            "model": run.model.ref.name,
            "sha256": run.model.ref.sha256 or "",
            **describe_machine({"medrestore"}),
        },
        "harm": harm(truth, noise["soft"], run),
        "nothing": nothing(truth.spacing, run),
        "spheres": [row for kernel in LEVELS for row in spheres(truth, kernel, noise[kernel], run)],
    }
    write_page(args.out, "claims-ct", report, ct_page(report, SHAPE))


if __name__ == "__main__":
    main()
