"""Tell how well virtual lesions are found before and after, on the middle of scans, by `--detectability`.

    python -m benchmarks.evidence.detectability --noisy ch2.nii.gz --volume sub-01_T1w.nii.gz

Writes detectability.md and detectability.json to the folder given with --out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import medrestore
from benchmarks.harness.common import DOCS, describe_machine, middle_box, weights, write_page
from medrestore.physics.mr_noise import add_rician
from medrestore.types import Modality

SIDE = 96
LEVEL = 0.05  # of the 99th percentile of the scan: Rician noise that is added with --noisy


def volumes(arguments: argparse.Namespace) -> Iterator[tuple[str, medrestore.Volume]]:
    """Yield the middle of every scan, by a name."""
    modality = Modality(arguments.modality)
    for path in (*arguments.noisy, *arguments.volume):
        whole = medrestore.read_series(path)[0]
        box = middle_box(whole.shape, (SIDE,) * 3)
        array, name = whole.array[box].astype(np.float32), path.name
        if path in arguments.noisy:
            sigma = np.float32(LEVEL * np.percentile(whole.array, 99))
            array = add_rician(array, sigma, np.random.default_rng(arguments.seed))
            name += f", {LEVEL:.0%} Rician noise"
        yield name, medrestore.Volume(array, whole.geometry.cropped(box), modality)


def told(name: str, volume: medrestore.Volume, seed: int) -> dict[str, Any]:
    """Return what is told of a scan."""
    options = medrestore.RestoreOptions(detectability=True, seed=seed)
    record = medrestore.restore(volume, options).record
    return {"scan": name, "fraction": record.noise["fraction"], **record.detectability}


def section(report: dict[str, Any]) -> list[str]:
    """Return the tables of a scan."""
    head = f"## {report['scan']}, noise of {report['fraction']:.1%}"
    if "spheres" not in report:
        return ["", head, "", report["reason"]]
    lines = ["", head, "", f"{report['places']} places.", ""]
    lines += ["| spheres | before | after | difference | bright kept | dark kept | verdict |"]
    lines += ["|---|---:|---:|---:|---:|---:|---|"]
    for row in (*report["spheres"], report["overall"]):
        size = f"{row['diameter']} voxels, {row['contrast']:g} x noise" if "diameter" in row else "all"
        areas = " | ".join(f"{row[when]['value']:.3f}" for when in ("before", "after"))
        low, high = (row["difference"][end] for end in ("low", "high"))
        shares = [row.get("kept", {}).get(sign) for sign in ("bright", "dark")]
        kept = " | ".join("" if share is None else f"{share:.2f}" for share in shares)
        lines.append(f"| {size} | {areas} | {low:+.3f} to {high:+.3f} | {kept} | {row['verdict']} |")
    lines += ["", "| strength | area | d' | contrast kept | noise left |", "|---:|---:|---:|---:|---:|"]
    for step in report["strengths"]:
        cells = (step["area"], step["index"], step["contrast"], step["noise"] or 0.0)
        lines.append(f"| {step['strength']:g} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")
    return lines


def main() -> None:
    """Restore, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("--noisy", "--volume"):
        parser.add_argument(name, action="append", type=Path, default=[], metavar="SCAN")
    parser.add_argument("--modality", default="MR")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=DOCS)
    arguments = parser.parse_args()
    model = f"{arguments.modality.lower()}-denoise"
    reports = [told(name, volume, arguments.seed) for name, volume in volumes(arguments)]
    setup = {"weights": weights(model, arguments.modality, "denoise"), **describe_machine(set())}
    words = ["python -m benchmarks.evidence.detectability"]
    for name in ("noisy", "volume"):  # without folders, whose names are not for a page
        words += [f"--{name} {path.name}" for path in getattr(arguments, name)]
    command = " ".join([*words, f"--seed {arguments.seed}"])
    lines = ["# Virtual lesions before and after", "", f"Made by `{command}`, on {setup['cpu']}. {TEXT}"]
    for report in reports:
        lines += section(report)
    text = "\n".join(lines) + "\n"
    write_page(arguments.out, "detectability", {"setup": setup, "scans": reports}, text)
    print(text, end="")


TEXT = (
    "The middle 96 voxels of each axis, level estimated. Areas under the curve of a channelized Hotelling "
    "observer, the difference with its 95 % interval; see [what they mean]"
    "(../explanation/evidence.md#strength-and-detectability)."
)

if __name__ == "__main__":
    main()
