"""Cases an hour, beside a loop that calls the command line once a scan; what a case costs beyond inference.

The scans are a clean volume with Rician noise of 5 %, another one in each. Every way gets the same files, and
has to write the same voxels.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from benchmarks.harness.common import (
    Truth,
    add_common_arguments,
    check_volumes,
    describe_machine,
    load_truth,
    write_page,
)
from medrestore.batch.ledger import FOLDER, State
from medrestore.physics.mr_noise import add_rician

LEVEL = 0.05
CLI = (sys.executable, "-c", "from medrestore.cli import main; main()")
INFERENCE = ("prepare", "network", "measure")
"""Timings of a record that are the work itself; the rest is reading, writing, checking and waiting."""


def make_scans(truth: Truth, folder: Path, count: int, seed: int) -> list[Path]:
    """Write `count` noisy copies of a volume."""
    paths = []
    for index in range(count):
        voxels = add_rician(truth.voxels, LEVEL * truth.p99, np.random.default_rng([seed, index]))
        paths.append(folder / f"scan{index:02}.nii.gz")
        nib.save(nib.Nifti1Image(voxels.astype(np.float32), truth.affine), paths[-1])
    return paths


class Ways:
    """Ways to restore a folder of scans; each takes the folder of results."""

    def __init__(self, scans: list[Path], options: list[str]) -> None:
        self._scans, self._options = scans, options

    def warm(self, out: Path) -> None:
        """One scan for each number of threads, as what is measured of the machine is kept for each."""
        out.mkdir()
        for threads in {_threads(), _half()}:
            words = ("restore", self._scans[0], "-o", out / f"{threads}.nii.gz", "--max-memory", "8GB")
            subprocess.run(
                self._line(*words), check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
            )

    def loop(self, out: Path) -> None:
        """The command line, once a scan."""
        out.mkdir()
        for scan in self._scans:
            self._call("restore", scan, "-o", out)

    def one(self, out: Path) -> None:
        """A batch with one worker."""
        self._call("batch", self._scans[0].parent, "-o", out)

    def two(self, out: Path) -> None:
        """A batch with two workers."""
        self._call("batch", self._scans[0].parent, "-o", out, "--workers", 2)

    def shards(self, out: Path) -> None:
        """Two batches side by side, each with half of the cases and of the threads."""
        out.mkdir()
        threads = {"OMP_NUM_THREADS": str(_half())}
        running = [
            subprocess.Popen(
                self._line("batch", self._scans[0].parent, "-o", out, "--shard", f"{number}/2"),
                env={**os.environ, **threads},
            )
            for number in (1, 2)
        ]
        if set(map(subprocess.Popen.wait, running)) != {0}:
            raise RuntimeError("a shard failed")

    def _call(self, *words: object) -> None:
        subprocess.run(self._line(*words), check=True)

    def _line(self, *words: object) -> list[str]:
        return [*CLI, *map(str, words), "-q", *self._options]


def measure(name: str, way: Callable[[Path], None], out: Path, count: int) -> dict[str, Any]:
    """Restore all scans in one way."""
    start = time.perf_counter()
    way(out)
    wall = time.perf_counter() - start
    ledgers = _finished(out)
    done = [one["facts"] for ledger in ledgers for one in ledger]
    records = [json.loads(path.read_text()) for path in sorted(out.glob("scan*.json"))]
    if len(records) != count:
        raise RuntimeError(f"{name}: {len(records)} results of {count}")
    inference = [sum(record["timings"][part] for part in INFERENCE) for record in records]
    beyond = _beyond(name, ledgers)
    return {
        "way": name,
        "title": (way.__doc__ or "").splitlines()[0].rstrip("."),
        "seconds": wall,
        "cases_an_hour": 3600 * count / wall,
        "inference_seconds": float(np.median(inference)),
        "beyond_seconds": float(np.median(beyond)) if beyond else None,
        "peak_bytes": max((facts["peak_bytes"] for facts in done), default=None),
    }


def _finished(out: Path) -> list[list[dict[str, Any]]]:
    """What each ledger, one for a shard, says of the cases that were done, in their order."""
    said = [path.read_text().splitlines() for path in sorted((out / FOLDER).glob("ledger-*.jsonl"))]
    entries = [[json.loads(line) for line in lines] for lines in said]
    return [[one for one in ledger if one["state"] == State.DONE] for ledger in entries]


def _beyond(name: str, ledgers: list[list[dict[str, Any]]]) -> list[float]:
    """Seconds from the end of a case to the end of the next one of its process, less the inference of that.

    Cases overlap, so the time that one takes by itself says nothing of what it costs. With two workers one
    cannot tell which case followed which: there it is the time of each case by itself, without the first of
    each worker, which loads the model.
    """
    if name == "two":
        facts = [one["facts"] for one in ledgers[0][2:]]
        return [float(one["seconds"]) - _inference(one) for one in facts]
    return [
        after["time"] - before["time"] - _inference(after["facts"])
        for ledger in ledgers
        for before, after in zip(ledger, ledger[1:], strict=False)
    ]


def _inference(facts: dict[str, Any]) -> float:
    return float(sum(facts["timings"][part] for part in INFERENCE))


def _threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))


def _half() -> int:
    return max(1, _threads() // 2)


def voxels(out: Path) -> list[bytes]:
    """The files of the results, in the order of their names."""
    return [path.read_bytes() for path in sorted(out.glob("scan*.nii.gz"))]


def markdown(command: str, machine: dict[str, Any], truth: Truth, runs: list[dict[str, Any]]) -> str:
    """The report."""
    size = " x ".join(map(str, truth.voxels.shape))
    lines = [
        "# A folder of scans",
        "",
        f"`{command}`, {machine['date']}, {machine['cpu']}, {machine['cores']} cores, threads: "
        f"{machine['threads']}. {runs[0]['cases']} scans of {size} voxels, {truth.name} with Rician noise of "
        f"{LEVEL:.0%}. Inference: median of what the record calls prepare, network and measure. Beyond: "
        "median from the end of a case to the end of the next in its process, less inference; with "
        "two workers, of the rest of the time of a case in its worker, without the first of each, which "
        "loads the model. The whole includes the start of the program and the report.",
        "",
        "| way | whole (s) | cases an hour | inference (s) | beyond it (s) | share | same bytes |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for run in runs:
        beyond = run["beyond_seconds"]
        said = "| | " if beyond is None else f"| {beyond:.2f} | {beyond / run['inference_seconds']:.0%} "
        lines.append(
            f"| {run['title']} | {run['seconds']:.1f} | {run['cases_an_hour']:.0f} "
            f"| {run['inference_seconds']:.2f} {said}| {'yes' if run['same'] else 'NO'} |"
        )
    return "\n".join(lines) + "\n"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_arguments(parser)
    parser.add_argument("--cases", type=int, default=8, help="how many scans (default: 8)")
    parser.add_argument("--ways", default="loop,one,two,shards", help="default: loop,one,two,shards")
    parser.add_argument(
        "--option", action="append", default=[], help="for medrestore, such as --option=--force"
    )
    args = parser.parse_args(argv)
    check_volumes(parser, args)
    if unknown := [way for way in args.ways.split(",") if way not in ("loop", "one", "two", "shards")]:
        parser.error(f"unknown {', '.join(unknown)}")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    truth = load_truth(args.volume[0], quick=args.quick)
    options = [*(["--model", args.model] if args.model else ["--modality", "MR"]), *args.option]
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "in").mkdir()
        scans = make_scans(truth, place / "in", args.cases, args.seed)
        ways, first = Ways(scans, options), None
        ways.warm(place / "warm")
        for name in args.ways.split(","):
            run = measure(name, getattr(ways, name), place / name, args.cases)
            written = voxels(place / name)
            first = first or written
            runs.append({**run, "cases": args.cases, "same": written == first})
            print(f"{run['title']}: {run['cases_an_hour']:.0f} cases an hour", file=sys.stderr)
    words = [Path(word).name if "/" in word else word for word in (sys.argv[1:] if argv is None else argv)]
    command, stem = (
        shlex.join(["python", "-m", "benchmarks.speed.batch", *words]),
        "batch-quick" if args.quick else "batch",
    )
    machine = describe_machine({"medrestore", "nibabel"})
    report = {"command": command, "machine": machine, "volume": truth.describe(), "runs": runs}
    write_page(args.out, stem, report, markdown(command, machine, truth, runs))


if __name__ == "__main__":
    main()
