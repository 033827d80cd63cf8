"""How far what a scan shows of its noise lies from the truth, and what that says of levels that are told.

    python -m benchmarks.evidence.told --nilearn FOLDER --rows rows.jsonl
    python -m benchmarks.evidence.told --rows rows.jsonl        # from what was measured before

No model is run: noise of known level and colour is added to truths, or to slices of them, and measured. The
limits in `medrestore/noise/told.py` are set on the subjects of the sets `tune` and `held-out` of
`interval_scans`; those of `test`, who set nothing, are counted on. Writes told.md and told.json to the folder
given with --out.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence.interval_scans import SETS, truths
from benchmarks.evidence.told_tables import markdown
from benchmarks.harness.common import DOCS, describe_machine, write_page
from medrestore.engine.models.find import find_model
from medrestore.errors import GeometryError, InputError
from medrestore.noise.ct import local_deviation, soft_tissue
from medrestore.noise.intensity import model_units
from medrestore.noise.level import mr_noise_level, noise_level
from medrestore.noise.measure import AGREE
from medrestore.noise.told import Kind, kind_of
from medrestore.options import RestoreOptions
from medrestore.physics.slices import SliceStack
from medrestore.plugin import Intensity
from medrestore.training.simulate import simulate
from medrestore.types import Modality
from medrestore.volume import Volume

Row = dict[str, Any]
MODELS = ("mr-denoise", "mr-superres", "ct-denoise")
DRAWS = {"tune": 6, "held-out": 10, "test": 12}
OWN = 0.5
"""Where a truth's own noise reads as more than this share of what is added, the level is not known."""

BEYOND = 1.1
"""How far beyond the farthest scan that sets them limits lie, as a ratio: few people set them."""

TISSUE = 0.3
"""Voxels brighter than this share of the bright level have noise that is Gaussian and of the level."""


def measured(name: str, truth: Volume, rng: np.random.Generator) -> Row:
    """Make a noisy scan of a truth, and measure it."""
    if name == "mr-superres":
        return _slices(truth, rng)
    spec = find_model(RestoreOptions(model=name), truth.modality)[1]
    made = simulate(truth, spec, rng)
    clean, noise = made.truth.array, made.scan.array - made.truth.array
    units = model_units(spec.intensity, made.scan.array)
    if spec.is_ct:
        found = noise_level(made.scan.array, "auto", units.reference, spec.intensity)
        level = float(np.median(local_deviation(noise)[soft_tissue(clean)]))
        return _row(level, found.sigma, Kind.CT, units.reference)
    found = mr_noise_level(made.scan, "auto", units.reference)
    assert found.measured is not None
    level = float(np.std(noise[clean > TISSUE * units.reference]))
    return _row(level, found.sigma, kind_of(found.measured), units.reference)


def _slices(truth: Volume, rng: np.random.Generator) -> Row:
    """Make thick slices with white Rician noise, as where slices are resolved."""
    planes, factor = truth.shape[2], int(rng.integers(2, 6))
    stack = SliceStack(planes, planes // factor, float(factor), float(factor), first=(factor - 1) / 2)
    clean = stack.forward(np.asarray(truth.array, np.float32))
    reference = model_units(Intensity.P99, clean).reference
    level = float(np.exp(rng.uniform(np.log(0.01), np.log(0.1)))) * reference
    real, imaginary = rng.standard_normal((2, *clean.shape), dtype=np.float32)
    scan = np.hypot(clean + np.float32(level) * real, np.float32(level) * imaginary)
    found = noise_level(scan, "auto", reference)
    return _row(level, found.sigma, Kind.SLICES, reference)


def _row(level: float, read: float, kind: Kind, reference: float) -> Row:
    return {"level": level / reference, "read": read / reference, "kind": str(kind)}


def rows(nilearn: Path, seed: int) -> Iterator[Row]:
    """Yield what is measured of every scan, of every set."""
    for name in MODELS:
        for part in SETS:
            for subject, _, truth in truths(name, part, nilearn):
                own = _own(name, truth)
                for draw in range(DRAWS[part]):
                    rng = np.random.default_rng([seed, draw, zlib.crc32(subject.encode())])
                    try:
                        found = measured(name, truth, rng)
                    except (GeometryError, InputError):
                        continue
                    yield {**found, "set": part, "subject": subject, "own": own, "model": name}


def _own(name: str, truth: Volume) -> float:
    """Return the noise that a truth has by itself, as it reads."""
    kind = Intensity.ATTENUATION if truth.modality is Modality.CT else Intensity.P99
    reference = model_units(kind, truth.array).reference
    if name == "mr-denoise":
        return mr_noise_level(truth, "auto", reference).fraction
    return noise_level(truth.array, "auto", reference, kind).fraction


def usable(every: Sequence[Row]) -> list[Row]:
    """Return the scans whose level is known: those of truths with hardly any noise of their own."""
    return [row for row in every if row["own"] <= OWN * row["level"] and row["read"] > 0]


def limits(known: Sequence[Row]) -> dict[str, list[float]]:
    """Return the limits that the scans of tune and held-out set: `BEYOND` their farthest, to two digits.

    Levels that are as near as those of air and tissue that agree are the same.
    """
    found = {}
    for kind in Kind:
        ratios = [row["level"] / row["read"] for row in known if row["kind"] == kind and row["set"] != "test"]
        if ratios:
            low, high = min(min(ratios) / BEYOND, AGREE[0]), max(max(ratios) * BEYOND, AGREE[1])
            found[str(kind)] = [round(low, 2), round(high, 2)]
    return found


def main(argv: list[str] | None = None) -> None:
    """Measure, or read what was measured, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nilearn", type=Path, default=Path())
    parser.add_argument("--rows", type=Path, help="JSON lines to keep the measurements in")
    parser.add_argument("--out", type=Path, default=DOCS)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args(argv)
    if args.rows is not None and args.rows.exists():
        every = [json.loads(line) for line in args.rows.read_text().splitlines()]
    else:
        every = []
        for row in rows(args.nilearn, args.seed):
            every.append(row)
            if args.rows is not None:
                with args.rows.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
    setup = {
        "command": f"python -m benchmarks.evidence.told --seed {args.seed}",
        **describe_machine({"medrestore"}),
    }
    known = usable(every)
    report = {"setup": setup, "limits": limits(known), "rows": known, "left_out": len(every) - len(known)}
    write_page(args.out, "told", report, markdown(report))


if __name__ == "__main__":
    main()
