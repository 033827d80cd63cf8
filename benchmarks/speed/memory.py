"""Peak memory and time per voxel by the size of the scan: what `docs/explanation/memory.md` promises.

Every size runs in a process of its own: reads a synthetic CT (int16, .nii), restores it, writes .nii.gz.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from benchmarks.denoise.tables import made
from benchmarks.harness.common import DOCS, ROOT, describe_machine, weights, write_page
from medrestore import Modality, RestoreOptions, read, restore, write
from medrestore.engine import calibration, load_model
from medrestore.engine.machine.memory import peak_bytes, reset_peak

SHAPES = {
    1: (100, 100, 100),
    8: (200, 200, 200),
    24: (288, 288, 288),
    60: (392, 392, 390),
    210: (512, 512, 800),
}
"""Shapes by millions of voxels."""


def make_scan(shape: tuple[int, int, int], path: Path) -> None:
    """Write a body of soft tissue, lungs and spine with noise, slice by slice."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header.set_sform(np.diag([0.8, 0.8, 1.0, 1.0]), 1)
    header.set_xyzt_units("mm")
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape[:2]), indexing="ij")
    with path.open("wb") as stream:
        header.write_to(stream)
        for k in range(shape[2]):
            body = np.where((x / 0.8) ** 2 + (y / 0.7) ** 2 < 1, 40 + 60 * np.sin(6 * x + k / 40), -1000)
            body[((abs(x) - 0.3) ** 2 + y**2) < 0.06] = -800
            body[x**2 + (y - 0.4) ** 2 < 0.01] = 700
            noisy = body + 25 * rng.standard_normal(shape[:2], dtype=np.float32)
            stream.write(noisy.round().astype(np.int16).tobytes(order="F"))


def run(scan: Path, model: str, limit: str) -> dict[str, Any]:
    """Read, restore and write a scan in this process; return time, processor time and memory."""
    options = RestoreOptions(model=model, device="cpu", max_memory=limit, ensemble=1, force=True)
    loaded = load_model(options)
    calibration.calibration(options, model=loaded)
    reset_peak()
    seconds: dict[str, tuple[float, float]] = {}
    clock = _clock()
    volume = read(scan).as_modality(Modality.CT)
    seconds["read"] = _since(clock)
    clock = _clock()
    result = restore(volume, options, model=loaded)
    seconds["restore"] = _since(clock)
    clock = _clock()
    write(result.volume, scan.with_name("out.nii.gz"))
    seconds["write"] = _since(clock)
    record = result.record
    return {
        "wall_s": {name: wall for name, (wall, _) in seconds.items()},
        "processor_s": {name: used for name, (_, used) in seconds.items()},
        "timings": dict(record.timings),
        "peak_mb": peak_bytes() / 1e6,
        "predicted": dict(record.predicted),
    }


def _clock() -> tuple[float, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), usage.ru_utime + usage.ru_stime


def _since(clock: tuple[float, float]) -> tuple[float, float]:
    wall, used = _clock()
    return wall - clock[0], used - clock[1]


def table(runs: list[dict[str, Any]]) -> str:
    """One row a size; times a voxel as ratios to the first row's."""
    lines = [
        "| voxels | peak (GB) | predicted | restore, processor us a voxel | to the first "
        "| read and write, to the first | wall (s) | predicted |",
        "|---|---|---|---|---|---|---|---|",
    ]
    first: tuple[float, float] | None = None
    for item in runs:
        voxels, used = item["voxels"], item["processor_s"]
        each = used["restore"] / voxels * 1e6, (used["read"] + used["write"]) / voxels * 1e6
        first = first or each
        wall = sum(item["timings"][name] for name in ("prepare", "network", "measure"))
        told = item["predicted"]
        how = "slab by slab" if told["streamed"] else "whole"
        lines.append(
            f"| {' x '.join(map(str, item['shape']))}, {how} | {item['peak_mb'] / 1e3:.2f} "
            f"| {told['peak_memory_mb'] / 1e3:.2f} | {each[0]:.3f} | {each[0] / first[0]:.2f} "
            f"| {each[1] / first[1]:.2f} | {wall:.0f} | {told['seconds']:.0f} |"
        )
    return "\n".join(lines)


def page(report: dict[str, Any]) -> str:
    """The whole page."""
    setup = report["setup"]
    return f"""# Memory and time by the size of the scan

{made(setup)}
A synthetic CT, one evaluation, `--max-memory {setup["limit"]}`;
{setup["cpu"]}, {setup["cores"]} cores, threads: {setup["threads"]}.
Memory is the highest resident set of a process that reads, restores and writes one scan. Processor time is
what that process used, and less sensitive than wall time to what else runs on the machine; the predictions of
time are of wall time.

{table(report["runs"])}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="ct-denoise", help="a name or a folder")
    parser.add_argument("--sizes", default=",".join(map(str, SHAPES)), help="millions of voxels")
    parser.add_argument("--limit", default="6GB", help="as --max-memory")
    parser.add_argument("--out", type=Path, default=DOCS)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        print(json.dumps(run(args.child, args.model, args.limit)))
        return
    command = f"python -m benchmarks.speed.memory --sizes {args.sizes} --limit {args.limit}"
    setup = {
        "command": command,
        "limit": args.limit,
        "weights": weights(args.model, "CT", "denoise"),
        **describe_machine({"nibabel"}),
    }
    report: dict[str, Any] = {"setup": setup, "runs": []}
    for size in map(int, args.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            scan = Path(folder, "scan.nii")
            make_scan(SHAPES[size], scan)
            options = ["--child", str(scan), "--model", args.model, "--limit", args.limit]
            child = [sys.executable, "-m", "benchmarks.speed.memory", *options]
            done = subprocess.run(child, capture_output=True, text=True, check=False, cwd=ROOT)
        if done.returncode != 0:
            sys.exit(done.stderr)
        shape = SHAPES[size]
        found = {"shape": shape, "voxels": int(np.prod(shape)), **json.loads(done.stdout.splitlines()[-1])}
        report["runs"].append(found)
        print(table(report["runs"]).splitlines()[-1], flush=True)
        write_page(args.out, "memory", report, page(report))


if __name__ == "__main__":
    main()
