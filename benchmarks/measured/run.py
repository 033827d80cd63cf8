"""Measure the shipped models on scans that were measured, not simulated, or that others simulated.

    python -m benchmarks.measured.run --stacks run-1.nii.gz run-3.nii.gz run-5.nii.gz
    python -m benchmarks.measured.run --phantom FOLDER --brainweb brain_slices.mat

None of them comes with this repository. The stacks of one body in three orientations are those of MIALSRTK
(BSD-3), the phantom is that of DIDSR's LCD-CT (CC0), the T2 volume lies in `examples/` of bm4d's source
distribution. What is not given stays on the page as it was. Writes measured.md and measured.json to the
folder given with --out.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness.common import DOCS, describe_machine, weights, write_page
from benchmarks.measured import brainweb, phantom, stacks
from benchmarks.measured.tables import markdown

MODELS = {
    "stacks": ("mr-superres", "MR", "superres"),
    "phantom": ("ct-denoise", "CT", "denoise"),
    "brainweb": ("mr-denoise", "MR", "denoise"),
}
"""Model, modality and task of each part."""


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stacks", type=Path, nargs="+", help="stacks of thick slices, two or more")
    parser.add_argument("--phantom", type=Path, help="folder of FDA's low-contrast phantom")
    parser.add_argument("--brainweb", type=Path, help="brain_slices.mat")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=DOCS)
    args = parser.parse_args(argv)
    if not (args.stacks or args.phantom or args.brainweb):
        parser.error("nothing to measure; expected --stacks, --phantom or --brainweb")
    if args.stacks and len(args.stacks) < 2:
        parser.error("one stack alone has nothing to be compared with; expected two or more")
    return args


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what is given, by the name of its part."""
    found: dict[str, Any] = {}
    if args.stacks:
        found["stacks"] = stacks.measure(args.stacks, MODELS["stacks"][0])
    if args.phantom:
        found["phantom"] = phantom.measure(args.phantom, MODELS["phantom"][0], args.seed)
    if args.brainweb:
        found["brainweb"] = brainweb.measure(args.brainweb, MODELS["brainweb"][0], args.seed)
    return found


def described(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """What is said of how a part was made."""
    given = getattr(args, name)
    files = [path.name for path in (given if isinstance(given, list) else [given])]
    words = ["python", "-m", "benchmarks.measured.run", f"--{name}", *files, "--seed", str(args.seed)]
    model, modality, task = MODELS[name]
    packages = {"bm4d", "dipy", "medrestore", "SimpleITK"}
    return {
        "command": shlex.join(words),
        "weights": weights(model, modality, task),
        **describe_machine(packages),
    }


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    page = args.out / "measured.json"
    report = json.loads(page.read_text(encoding="utf-8")) if page.exists() else {}
    for name, runs in measured(args).items():
        report[name] = {"setup": described(name, args), "runs": runs}
    write_page(args.out, "measured", report, markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
