"""The table of README.md, of the scans that `SCANS` names: `python -m medrestore_adapt.score FOLDER FILE`.

Each scan is cut to its middle and gets noise of its own: white, Rician, of 5 % of the 99th percentile. The
level is told. The truth is the scan as it was, with what noise it has. Nothing was chosen on these scans.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from medrestore import Modality, RestoreOptions, Volume, read, restore
from medrestore.metrics import psnr
from medrestore.physics.mr_noise import add_rician
from medrestore_adapt.fit import Plan
from medrestore_adapt.run import adapt

SCANS = {
    "spine, T2*": "mr/spine/spine_scttest_t2s_uncropped.nii.gz",
    "spine, T2": "mr/spine/spine_scttest_t2.nii.gz",
    "fetus and mother, T2": "mr/fetal_stacks/run-1.nii.gz",
    "brain with glioma, clinical": "mr/tcga_brain2_axial.nii.gz",
    "brain, T1 (contrast seen)": "mr/ds002748/sub-23_T1w.nii.gz",
    "spine, T1 (contrast seen)": "mr/spine/spine_scttest_t1w.nii.gz",
}
"""No weights of `mr-denoise` saw these scans, nor scans of these subjects."""

LEVEL = 0.05
SIDES = (96, 96, 48)
"""Voxels along each axis of the part that is taken, at most: the thickest axis last."""


def cut(volume: Volume) -> Volume:
    """Return the middle of a scan, its axis of fewest voxels last."""
    array = np.asarray(volume.array, dtype=np.float32)
    order = np.argsort([-size for size in array.shape], kind="stable")
    where = [slice(None)] * 3
    spacing = np.ones(4)
    for axis, most in zip(order, SIDES, strict=True):
        size = min(array.shape[axis], most) // 8 * 8
        start = (array.shape[axis] - size) // 2
        where[axis] = slice(start, start + size)
    spacing[:3] = [volume.spacing[axis] for axis in order]
    return Volume.from_array(array[tuple(where)].transpose(order).copy(), np.diag(spacing), Modality.MR)


def measure(path: Path, plan: Plan, model: str) -> dict[str, object]:
    """Return what fitting gains on one scan."""
    clean = cut(read(path))
    bright = float(np.percentile(clean.array, 99))
    sigma = LEVEL * bright
    array = add_rician(np.asarray(clean.array), sigma, np.random.default_rng(plan.seed))
    scan = Volume.from_array(array, clean.geometry.affine, Modality.MR)
    options = RestoreOptions(model=model, noise=sigma, force=True, ensemble=1, noise_map="constant")
    with tempfile.TemporaryDirectory() as folder:
        found = adapt(scan, Path(folder) / "fitted", options, plan)
        made = [restore(scan, options).volume.array]
        fitted = RestoreOptions(**{**vars(options), "model": str(Path(folder) / "fitted")})
        made.append(restore(scan, fitted).volume.array if found.kept else made[0])
    mask = np.asarray(clean.array) > 0.1 * bright
    scores = [psnr(one, clean.array, data_range=bright, mask=mask) for one in (scan.array, *made)]
    judged = found.judgement
    return {
        "shape": list(clean.shape),
        "noisy": scores[0],
        "model": scores[1],
        "fitted": scores[2],
        "kept": found.kept,
        "foretold": None if judged is None else judged.gain_db,
        "error": None if judged is None else judged.error / judged.before,
        "verdicts": list(found.verdicts),
        "reason": found.reason,
    }


def main(
    folder: Annotated[Path, typer.Argument(help="Where the scans are.")],
    kept: Annotated[
        Path, typer.Argument(help="File of what was measured, a line for each scan; gone on with.")
    ],
    model: str = "mr-denoise",
    steps: int = Plan.steps,
    seed: int = 0,
) -> None:
    """Measure each scan that is not measured yet, and print the table."""
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    for name in [name for name in SCANS if name not in {row["name"] for row in rows}]:
        row = {"name": name, **measure(folder / SCANS[name], Plan(steps=steps, seed=seed), model)}
        rows.append(row)
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    typer.echo(
        "| scan | voxels | noisy | model | fitted | gained | foretold | verdicts |\n" + "|---" * 8 + "|"
    )
    for row in sorted(rows, key=lambda one: list(SCANS).index(one["name"])):
        shape = " x ".join(map(str, row["shape"]))
        foretold = "" if row["foretold"] is None else f"{row['foretold']:+.2f}"
        scores = " | ".join(f"{row[part]:.2f}" for part in ("noisy", "model", "fitted"))
        gained = f"{row['fitted'] - row['model']:+.2f}" if row["kept"] else "not fitted"
        typer.echo(
            f"| {row['name']} | {shape} | {scores} | {gained} | {foretold} | {', '.join(row['verdicts'])} |"
        )


if __name__ == "__main__":
    typer.run(main)
