"""Measure denoisers on noise of known colours: zero-filled k-space, windows in k-space, white noise.

    python -m benchmarks.denoise.colour                             # the middle 96 cubed of Colin27, 5 %
    python -m benchmarks.denoise.colour --volume scan.nii.gz --colours white,filled-2 --methods noisy,nlm
    python -m benchmarks.denoise.colour --gain middle,ramp          # noise that varies over the scan, too
    python -m benchmarks.denoise.colour --quick                     # 64 voxels cubed from the middle

The noise passes through the same window as the scan, and the truth is the scan after the window, without
noise. Each filter runs in a process of its own. Writes colour.md, colour.json and colour-slices.png (with
-varying in the name for --gain, and -quick for --quick) to the folder given with --out.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.denoise import colour_tables
from benchmarks.denoise.gains import GAINS, make_gain
from benchmarks.denoise.methods import COLOURED_METHODS, METHODS
from benchmarks.harness.common import (
    CH2,
    QUICK,
    Truth,
    add_common_arguments,
    check_volumes,
    describe_machine,
    load_truth,
    middle,
    middle_box,
    run_method,
    score,
    weights,
    write_page,
)
from benchmarks.harness.pictures import Row, row_of, side_by_side
from medrestore.metrics import head_mask, reference_range
from medrestore.physics.mr_colour import COLOURS, Draw, simulate, spectrum

DEFAULT_SIDE = 96  # voxels of each axis of Colin27; other volumes are measured whole
KNOWN = METHODS | COLOURED_METHODS
CHOSEN = ["noisy", "ours-auto", "ours-8", "ours", "nlm", "bm4d", "bm4d-psd"]
VARYING = ["noisy", "ours-auto", "ours-constant", "nlm", "bm4d-psd"]  # with --gain
PICTURED = ["white", "filled-2", "fermi-0.75"]
UP = 2  # axis that runs upwards in the picture
WHITE = 0.1  # of the data range: the error that is white in it


@dataclass(frozen=True)
class Noise:
    """A row of the tables: names of a colour, and of a gain; empty for constant noise."""

    colour: str
    gain: str

    @property
    def title(self) -> str:
        """Its name in the tables."""
        return COLOURS[self.colour].title + (f", {self.gain}" if self.gain else "")


def prepare(whole: Truth, noise: Noise, size: int, args: argparse.Namespace) -> tuple[Truth, Draw]:
    """One draw of the noise, and what a denoiser is to make of it; the middle is cut out afterwards.

    Args:
        whole: The clean volume.
        noise: Its colour, and the kind of its gain.
        size: Side of the middle that is measured, 0 for all.
        args: Level and seed.
    """
    rng = np.random.default_rng([args.seed, round(1000 * args.level)])
    box = middle_box(whole.voxels.shape, (size,) * 3) if size else (slice(None),) * 3
    gain = None
    if noise.gain:
        gain = make_gain(noise.gain, whole)
        gain /= np.median(gain[box][whole.head[box]])  # the level is the median of what is measured
    draw = simulate(whole.voxels, COLOURS[noise.colour], args.level / 100 * whole.p99, rng, gain)
    truth = replace(
        whole, voxels=draw.clean, head=head_mask(draw.clean), data_range=reference_range(draw.clean)
    )
    if not size:
        return truth, draw
    return middle(truth, size), draw.cut(box)


def run_filter(
    method: str, truth: Truth, draw: Draw, colour: str, model: str
) -> tuple[np.ndarray, dict[str, Any]]:
    """Run one filter in a fresh process; return its volume and what it measured of itself."""
    scan = {"voxels": draw.noisy, "affine": truth.affine, "sigma": draw.sigma, "rician": True, "model": model}
    if method in COLOURED_METHODS:
        scan["psd"] = spectrum(draw.noisy.shape, COLOURS[colour], draw.sigma)
    return run_method("denoise", method, scan)


def measure(whole: Truth, args: argparse.Namespace) -> tuple[list[dict[str, Any]], list[Row]]:
    """Every filter on every colour of one volume; a filter that fails leaves its reason and stops nothing."""
    runs, pictures = [], []
    for noise in (Noise(colour, gain) for colour in args.colours for gain in args.gain):
        truth, draw = prepare(whole, noise, args.sizes[whole.name], args)
        title = noise.title
        images = {"truth": truth.voxels}
        for method in args.methods:
            run: dict[str, Any] = {"volume": whole.name, "colour": title, "level": args.level}
            run |= {"sigma": draw.sigma, "method": method, "title": KNOWN[method].title}
            try:
                image, measured = run_filter(method, truth, draw, noise.colour, args.model)
                run |= measured | score(image, truth)
                images[run["title"]] = image
                told = f"{run['psnr_head']:.2f} dB, SSIM {run['ssim_head']:.4f} in the head"
                print(f"{whole.name}, {title}, {run['title']}: {told}, {run['filter_s']:.1f} s", flush=True)
            except Exception as error:  # noqa: BLE001  a peer may fail in any way; the others go on
                run["error"] = str(error)
                print(f"{whole.name}, {title}, {run['title']}: {error}", file=sys.stderr, flush=True)
            runs.append(run)
        if noise in args.pictured:
            named = replace(truth, name=f"{whole.name}, {title}")
            pictures.append(row_of(named, images, UP, WHITE))
    return runs, pictures


def describe_setup(args: argparse.Namespace, truths: list[Truth]) -> dict[str, Any]:
    chosen = {name: KNOWN[name] for name in args.methods}
    command = ["python", "-m", "benchmarks.denoise.colour"]
    command += [part for path in args.volume for part in ("--volume", path.name)]
    command += ["--colours", ",".join(args.colours), "--level", f"{args.level:g}", "--seed", str(args.seed)]
    command += ["--gain", ",".join(args.gain)] if args.gain[0] else []
    command += ["--methods", ",".join(args.methods)]
    command += [] if args.crop is None or args.quick else ["--crop", str(args.crop)]
    command += ["--model", Path(args.model).name] if args.model else []
    parts = [middle(whole, args.sizes[whole.name]) if args.sizes[whole.name] else whole for whole in truths]
    return {
        "command": shlex.join(command + (["--quick"] if args.quick else [])),
        "level": args.level,
        "seed": args.seed,
        "gains": {kind: GAINS[kind] for kind in args.gain if kind},
        "pictured": [noise.title for noise in args.pictured],
        "volumes": [part.describe() for part in parts],
        "methods": {name: {k: v for k, v in asdict(m).items() if k != "load"} for name, m in chosen.items()},
        "weights": weights(args.model, "MR", "denoise"),
        **describe_machine({method.package for method in chosen.values()}),
    }


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_arguments(parser)
    parser.add_argument(
        "--crop",
        type=int,
        help=f"side of the middle that is measured, 0 for all (default: {DEFAULT_SIDE}, 0 if not {CH2.name})",
    )
    parser.add_argument(
        "--colours", default=",".join(COLOURS), help=f"of {', '.join(COLOURS)} (default: all)"
    )
    parser.add_argument(
        "--level", type=float, default=5.0, help="sigma in %% of the 99th percentile (default: 5)"
    )
    parser.add_argument(
        "--gain", default="", help=f"let the noise vary over the scan, by any of {', '.join(GAINS)}"
    )
    parser.add_argument(
        "--methods",
        help=f"of {', '.join(KNOWN)} (default: {', '.join(CHOSEN)}; with --gain {', '.join(VARYING)})",
    )
    args = parser.parse_args(argv)
    args.methods = args.methods or ",".join(VARYING if args.gain else CHOSEN)
    for key, known in (("colours", COLOURS), ("methods", KNOWN), ("gain", {"", *GAINS})):
        chosen = getattr(args, key).split(",")
        if unknown := [name for name in chosen if name not in known]:
            parser.error(f"unknown {key} {', '.join(unknown)}; there are {', '.join(known)}")
        setattr(args, key, chosen)
    check_volumes(parser, args)
    pictured = [name for name in PICTURED if name in args.colours] or args.colours[:1]
    args.pictured = [Noise(colour, args.gain[0]) for colour in pictured]
    args.sizes = {path.name: side_of(path, args) for path in args.volume}
    return args


def side_of(path: Path, args: argparse.Namespace) -> int:
    """Side of the middle of a volume that is measured, 0 for all of it."""
    if args.quick:
        return QUICK
    if args.crop is not None:
        return int(args.crop)
    return DEFAULT_SIDE if path.name == CH2.name else 0


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    truths = [load_truth(path, quick=False) for path in args.volume]
    runs: list[dict[str, Any]] = []
    pictures: list[Row] = []
    for whole in truths:
        found, rows = measure(whole, args)
        runs += found
        pictures += rows
    report = {"setup": describe_setup(args, truths), "runs": runs}
    stem = "colour" + ("-varying" if args.gain[0] else "") + ("-quick" if args.quick else "")
    write_page(args.out, stem, report, colour_tables.markdown(report, stem))
    side_by_side(pictures, args.out / f"{stem}-slices.png")


if __name__ == "__main__":
    main()
