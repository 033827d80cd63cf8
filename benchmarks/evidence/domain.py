"""Count how many scans are warned of by their content: of the body, and of what is no such scan.

    python -m benchmarks.evidence.domain --mr SCANS --ct SCANS --labels MAPS

SCANS are NIfTI files, DICOM series or folders of NIfTI files. Scans of the body are taken whole, as crops of
96 voxels of each axis and as slabs of 20 slices; from them and from label maps is made what is no scan, or
has a header that lies. No model is run. Writes domain.md and domain.json to the folder given with --out.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

import medrestore
from medrestore.engine.models.checks import check_zero
from medrestore.engine.models.content import check_content
from medrestore.engine.models.load import find_model
from medrestore.geometry import Geometry
from medrestore.noise.intensity import bright_level
from medrestore.options import RestoreOptions
from medrestore.plugin import ModelSpec
from medrestore.volume import Volume

CROP, SLAB = 96, 20
CROPS = 3
SIGMA = 0.05  # of the bright level: the noise is not measured here, and taken to be rather strong
Scan = tuple[np.ndarray, Geometry]
Change = Callable[[Scan, np.random.Generator], Scan | None]


@dataclass
class Count:
    """How many of a kind were warned of."""

    of: int = 0
    warned: list[str] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def _values(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda scan, _: (change(scan[0].astype(np.float32)), scan[1])


def _lie(factor: float, *axes: int) -> Change:
    def apply(scan: Scan, _: np.random.Generator) -> Scan:
        affine = scan[1].affine.copy()
        affine[:3, list(axes)] *= factor
        return scan[0], Geometry(scan[0].shape, affine)

    return apply


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _phase(scan: Scan, rng: np.random.Generator) -> Scan:
    phase = np.zeros(scan[0].shape, np.float32)
    for axis, side in enumerate(phase.shape):
        ramp = np.linspace(0, rng.uniform(2, 20), side, dtype=np.float32)
        phase += ramp.reshape(-1, *(1,) * (2 - axis))
    air = scan[0] < 0.1 * bright_level(scan[0])
    phase[air] = rng.uniform(0, 2 * np.pi, int(air.sum()))
    return np.mod(phase, np.float32(2 * np.pi)) - np.float32(np.pi), scan[1]


def _statistics(scan: Scan, rng: np.random.Generator) -> Scan:
    block = gaussian_filter(_normal((64, 64, 64), rng), 3, mode="wrap")
    repeats = [-(-side // 64) for side in scan[0].shape]
    smooth = np.tile(block / block.std(), repeats)[tuple(slice(side) for side in scan[0].shape)]
    return np.where(scan[0] > 0.15 * bright_level(scan[0]), smooth, np.float32(0)), scan[1]


def _moved(scan: Scan, rng: np.random.Generator) -> Scan:
    noise = 0.03 * bright_level(scan[0]) * _normal(scan[0].shape, rng)
    return scan[0] - np.roll(scan[0], 3, axis=1).astype(np.float32) + noise, scan[1]


def _shuffled(scan: Scan, rng: np.random.Generator) -> Scan:
    return scan[0][:, :, rng.permutation(scan[0].shape[2])], scan[1]


def _noise(scan: Scan, rng: np.random.Generator) -> Scan:
    return 100 * np.abs(_normal(scan[0].shape, rng)), scan[1]


def _natural(names: tuple[str, ...]) -> Change:
    def apply(scan: Scan, rng: np.random.Generator) -> Scan:
        from skimage import color, data, transform  # noqa: PLC0415

        pictures = [getattr(data, name)() for name in names]
        grey = [color.rgb2gray(picture) if picture.ndim == 3 else picture for picture in pictures]
        planes = [transform.resize(np.asarray(one, np.float32), (128, 128)) for one in grey]
        order = rng.integers(len(planes), size=64)
        array = np.stack([planes[index] / planes[index].max() * 255 for index in order], axis=-1)
        return array.astype(np.float32), Geometry(array.shape, np.eye(4))

    return apply


def _coarse(scan: Scan, _: np.random.Generator) -> Scan:
    """Average to voxels of 3 mm, as those of functional and perfusion series."""
    factors = [size / 3.0 for size in scan[1].spacing]
    array = zoom(scan[0].astype(np.float32), factors, order=1)
    affine = scan[1].affine.copy()
    affine[:3, :3] = affine[:3, :3] / np.asarray(factors)
    return array, Geometry(array.shape, affine)


BOTH: dict[str, Change] = {
    "shuffled slices": _shuffled,
    "noise alone": _noise,
    "natural pictures, one repeated": _natural(("camera",)),
    "natural pictures, several in turn": _natural(("camera", "coins", "moon", "page", "text", "astronaut")),
    **{
        f"voxel size x {name}, {where}": _lie(factor, *axes)
        for name, factor in (("2", 2), ("3", 3), ("1/2", 1 / 2), ("1/3", 1 / 3))
        for where, axes in (("i", (0,)), ("j", (1,)), ("k", (2,)), ("all axes", (0, 1, 2)))
    },
}
CHANGES: dict[str, dict[str, Change]] = {
    "MR": {
        "inverted": _values(lambda array: array.max() - array),
        "z-scored": _values(lambda array: (array - array.mean()) / array.std()),
        "statistical map": _statistics,
        "phase": _phase,
        "difference of two scans": _moved,
        "averaged to voxels of 3 mm": _coarse,
        **BOTH,
    },
    "CT": {
        "stored as HU + 1024": _values(lambda array: np.maximum(array + 1024, 0)),
        "inverted": _values(lambda array: -array),
        **BOTH,
    },
}
AS_OTHER: dict[str, dict[str, Change]] = {
    "MR": {"MR given as CT": lambda scan, _: scan},
    "CT": {
        "CT given as MR": lambda scan, _: scan,
        "CT, HU + 1024, given as MR": CHANGES["CT"]["stored as HU + 1024"],
    },
}
OTHER = {"MR": "CT", "CT": "MR"}


def found(scan: Scan, spec: ModelSpec, modality: str) -> list[str]:
    """Return the codes of what is said of a scan by its content."""
    volume = Volume(scan[0], scan[1], medrestore.Modality(modality))
    sigma = SIGMA * bright_level(scan[0])
    return [one.code for one in (*check_content(volume, spec), *check_zero(volume, sigma, spec))]


def parts(scan: Scan, rng: np.random.Generator) -> Iterator[tuple[str, Scan]]:
    """Yield a scan whole, some crops with a body in them, and slabs across its coarsest and its last axis."""
    array, grid = scan
    yield "whole", scan
    low, high = np.percentile(array[::4, ::4, ::2], (10, 75))
    crops = 0
    for _ in range(40):
        size = [min(CROP, side) for side in array.shape]
        start = [int(rng.integers(side - cut + 1)) for side, cut in zip(array.shape, size, strict=True)]
        box = tuple(slice(at, at + cut) for at, cut in zip(start, size, strict=True))
        if np.mean(array[box] > (low + high) / 2) > 0.2 and crops < CROPS:
            crops += 1
            yield "crop", (array[box], grid.cropped(box))
    for axis in {int(np.argmax(grid.spacing)), 2}:
        side = array.shape[axis]
        if side > SLAB:
            for start in {(side - SLAB) // 2, (side - SLAB) // 3}:
                cut = [slice(None)] * 3
                cut[axis] = slice(start, start + SLAB)
                yield "slab", (array[tuple(cut)], grid.cropped(cut))


def scans_in(paths: list[Path]) -> Iterator[tuple[str, Scan]]:
    """Yield the first volume of every scan, by a name."""
    for path in paths:
        files = sorted(path.rglob("*.nii*")) if path.is_dir() else []
        for one in files or [path]:
            volume = medrestore.read(one)
            yield one.name, (np.asarray(volume.array), volume.geometry)


def count(arguments: argparse.Namespace) -> dict[str, Count]:
    """Return the counts of every kind."""
    rng = np.random.default_rng(arguments.seed)
    specs = {
        name: find_model(RestoreOptions(model=f"{name.lower()}-denoise"), medrestore.Modality(name))[1]
        for name in ("MR", "CT")
    }
    counts: dict[str, Count] = defaultdict(Count)

    def note(kind: str, name: str, scan: Scan, modality: str) -> None:
        codes = found(scan, specs[modality], modality)
        counts[kind].of += 1
        if codes:
            counts[kind].warned.append(name)
        for code in set(codes):
            counts[kind].codes[code] += 1

    for modality, paths in (("MR", arguments.mr), ("CT", arguments.ct)):
        for name, scan in scans_in(paths):
            print(name, file=sys.stderr, flush=True)
            for part, piece in parts(scan, rng):
                note(f"{modality}: {part}", name, piece, modality)
            for kind, change in CHANGES[modality].items():
                note(f"{modality}: {kind}", name, change(scan, rng), modality)
            for kind, change in AS_OTHER[modality].items():
                note(kind, name, change(scan, rng), OTHER[modality])
    for name, scan in scans_in(arguments.labels):
        note("labels given as MR", name, scan, "MR")
        note("labels given as CT", name, scan, "CT")
        note("a mask given as MR", name, ((scan[0] > 0).astype(np.uint8), scan[1]), "MR")
    return counts


def table(counts: dict[str, Count], command: str) -> str:
    """Return the page."""
    lines = [
        f"Made by `{command}`; which scans are in the JSON file beside it.",
        "",
        "| kind | warned of | of | findings |",
        "|---|---:|---:|---|",
    ]
    for kind, one in counts.items():
        codes = ", ".join(f"{code} {number}" for code, number in sorted(one.codes.items()))
        lines.append(f"| {kind} | {len(one.warned)} | {one.of} | {codes} |")
    return "\n".join(lines) + "\n"


def command_of(arguments: argparse.Namespace) -> str:
    """Return the command, with names for paths: those of a user are not for a page."""
    words = ["python", "-m", "benchmarks.evidence.domain"]
    for option in ("mr", "ct", "labels"):
        words += [f"--{option}", *(path.name for path in getattr(arguments, option))]
    return shlex.join([*words, "--seed", str(arguments.seed)])


def main() -> None:
    """Count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("--mr", "--ct", "--labels"):
        parser.add_argument(name, nargs="*", type=Path, default=[], metavar="SCAN")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    counts = count(arguments)
    page = table(counts, command_of(arguments))
    print(page)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "domain.md").write_text("# What is said of the content of a scan\n\n" + page)
    rows = {
        kind: {"of": one.of, "warned": len(one.warned), "codes": one.codes, "names": one.warned}
        for kind, one in counts.items()
    }
    (arguments.out / "domain.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
