"""Measure what denoisers lose of scans that they know, and of what is none.

    python -m benchmarks.evidence.explained ../shared/data UNPACKED

Limits are set with some people, and others are counted. Writes
`medrestore/engine/evidence/explained.toml`, to be remade whenever weights are replaced, and explained.md and
explained.json to the folder given with --out. Rows are kept in the file given with --rows; those of the same
weights are not measured again.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from benchmarks.evidence import inputs
from benchmarks.evidence.inputs import Scan
from benchmarks.evidence.rows import computed, computed_mr, other_objects, source_of, subjects
from benchmarks.harness.common import write_page
from medrestore.engine import LoadedModel, RestoreOptions, load_model
from medrestore.engine.evidence.explained import KNOWN, KnownRange, explained
from medrestore.metrics.observer import area_under_curve
from medrestore.plugin.spec import DOMAINS
from medrestore.toml import read_toml
from medrestore.volume import Volume

MODELS = ("mr-denoise", "ct-denoise")
MIDDLE = 128  # voxels along each axis of a scan that changes are made of, for time's sake
UNUSUAL, REFUSED = (
    2.33,
    4.0,
)  # deviations of the logarithm above its mean: 1 %, and next to none, were it normal
ELSEWHERE = {"natural pictures, one repeated", "natural pictures, several in turn", "noise alone", "z-scored"}
ELSEWHERE |= {"statistical map", "statistical map, thresholded", "phase", "averaged to voxels of 3 mm"}
"""Kinds that rules and features tell for sure, and a model need not be run for."""
TEXT = (
    "Noise is added to the 40 voxels cubed with the most tissue, and what the model loses of the scan "
    "itself, over that noise, is the score. Scans that the model knows: whole, a crop, noisy, of thick "
    "slices, smoother and, of MR, of other contrast. Other kinds are made of the middle 128 voxels cubed of "
    "the same scans, or are scans of something else. AUROC: the probability that less is lost of a known "
    "scan. Limits rest on the people called *fit*; the others count."
)
Input = tuple[str, str, str, Scan]
"""Truth, kind, part, and the scan."""
Who = tuple[str, str]
"""Subject and split."""


@dataclass(frozen=True)
class Row:
    """What a model, of weights with a hash, loses of one input at each level."""

    model: str
    sha256: str
    truth: str
    kind: str
    part: str
    subject: str
    split: str
    errors: list[float]
    lost: list[float]


def middle(scan: Scan) -> Scan:
    """Return the middle of a scan."""
    array, grid = scan
    box = tuple(slice(max(0, (side - MIDDLE) // 2), (side + MIDDLE) // 2) for side in array.shape)
    return array[box], grid.cropped(box)


def variants(
    scan: Scan, modality: str, split: str, rng: np.random.Generator
) -> Iterator[tuple[str, str, str, Scan]]:
    """Yield truth, kind, part and scan of what is made of a scan; the header alone is not lied about."""
    pieces = list(inputs.parts(scan, rng))
    yield "known", "scan", "whole", scan
    for part, piece in pieces[1:2]:
        yield "known", "scan", part, piece
    scan = middle(scan)
    for kind, change in inputs.SAME[modality].items():
        if kind != "whole numbers":
            yield "known", kind, "middle", change(scan, rng)
    for kind, change in inputs.changes(modality, split).items():
        if kind not in inputs.LIES and kind not in ELSEWHERE:
            yield "neither", kind, "middle", change(scan, rng)


def of_people(domain: str, data: Path, dicom: Path) -> Iterator[tuple[Input, Who]]:
    """Yield what is made of the scans of people."""
    done = set[str]()
    for number, one in enumerate(subjects(data, dicom)):
        # Of people of one data set that limits are set with, a fifth will do, and of a patient one scan.
        if one.split == "fit" and one.name.startswith("sub-") and int(one.name[4:]) % 5:
            continue
        if one.name.startswith("patient") and one.name in done:
            continue
        done.add(one.name)
        rng, who = np.random.default_rng([31, number]), (one.name, one.split)
        if one.domain == domain:
            for made in variants(one.load(), DOMAINS[domain].value, one.split, rng):
                yield made, who
        elif domain == "mr-head":
            body = inputs.as_mr_of_a_body(middle(one.load()), rng)
            yield ("neither", "a body, as MR", "middle", body), who


def of_others(domain: str, data: Path, dicom: Path) -> Iterator[tuple[Input, Who]]:
    """Yield what is made of computed people, and scans of something else."""
    if domain == "ct":
        for number, (name, scan) in enumerate(computed(data / "labels")):
            for made in variants(scan, "CT", "fit", np.random.default_rng([32, number])):
                yield made, (name, "fit")
        return
    for name, scan in computed_mr(data / "labels"):
        if name.endswith(".0"):
            yield ("known", "computed", "whole", scan), (name, "fit")
    for number, (kind, name, scan) in enumerate(other_objects(data, dicom)):
        for part, piece in inputs.parts(scan, np.random.default_rng([33, number])):
            yield ("neither", kind, part, piece), (name, "test")


def measured(model: LoadedModel, data: Path, dicom: Path) -> Iterator[Row]:
    """Yield a row for each input that has enough tissue."""
    domain = model.spec.domain
    assert domain is not None
    everything = chain(of_people(domain, data, dicom), of_others(domain, data, dicom))
    for (truth, kind, part, scan), (subject, split) in everything:
        volume = Volume(np.asarray(scan[0], dtype=np.float32), scan[1], DOMAINS[domain])
        seen = explained(volume, model.spec, model.denoiser, model.device)
        if seen is not None:
            who = (truth, kind, part, subject, split)
            yield Row(model.spec.name, model.spec.sha256 or "", *who, list(seen.errors), list(seen.lost))


def limits(rows: Sequence[Row], sha256: str | None) -> dict[str, Any]:
    """Return what is lost of known scans at most: so many spreads of the logarithm above its median.

    The spread is the root mean square of what lies above the median; data sets count alike.
    """
    of_source = defaultdict(list)
    for row in rows:
        of_source[source_of(row.subject)].append(math.log(max(row.lost[-1], 0.01)))
    weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in of_source.values()])
    values = np.concatenate(list(of_source.values()))
    order = np.argsort(values)
    middle_at = values[order][np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)]
    above = values > middle_at
    spread = math.sqrt(np.average((values[above] - middle_at) ** 2, weights=weights[above]))
    unusual, refused = (float(math.exp(middle_at + far * spread)) for far in (UNUSUAL, REFUSED))
    subjects_seen = len({row.subject for row in rows})
    return asdict(KnownRange(sha256 or "", round(unusual, 4), round(refused, 4), subjects_seen, len(rows)))


def table(rows: Sequence[Row], known: KnownRange) -> Iterator[dict[str, Any]]:
    """Yield for each kind and split how far what is lost of it lies from what is lost of known scans."""
    own = {
        split: [row.lost[-1] for row in rows if (row.truth, row.split) == ("known", split)]
        for split in ("fit", "test")
    }
    groups = defaultdict(list)
    for row in rows:
        groups[row.kind if row.truth == "neither" else "known scans", row.split].append(row)
    for (kind, split), mine in sorted(
        groups.items(), key=lambda pair: (pair[0][0] != "known scans", pair[0])
    ):
        lost = np.array([row.lost[-1] for row in mine])
        yield {
            "kind": kind,
            "split": split,
            "inputs": len(mine),
            "subjects": len({row.subject for row in mine}),
            "lost": np.quantile(lost, (0, 0.5, 1)).round(3).tolist(),
            "auroc": None if kind == "known scans" else area_under_curve(-np.array(own[split]), -lost),
            "unusual": int((lost > known.unusual).sum()),
            "refused": int((lost > known.refused).sum()),
        }


def page(report: dict[str, Any]) -> str:
    """Return the page."""
    lines = [
        "# What denoisers lose of scans",
        "",
        "Made by `python -m benchmarks.evidence.explained`. " + TEXT,
    ]
    for model, one in report.items():
        known = one["known"]
        lines += ["", f"## {model}", ""]
        lines += [
            f"Unusual above {known['unusual']:.2f}, refused above {known['refused']:.2f}: set with "
            f"{known['inputs']} inputs of {known['subjects']} people, computed ones among them.",
            "",
            "| kind | people | inputs | subjects | lost: least, median, most | AUROC | unusual | refused |",
            "|---|---|---:|---:|---:|---:|---:|---:|",
        ]
        for row in one["rows"]:
            lost = ", ".join(f"{value:.2f}" for value in row["lost"])
            area = "" if row["auroc"] is None else f"{row['auroc']:.3f}"
            cells = (row["kind"], row["split"], row["inputs"], row["subjects"], lost, area)
            lines.append(f"| {' | '.join(map(str, (*cells, row['unusual'], row['refused'])))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, set limits, count and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("dicom", type=Path)
    parser.add_argument("--rows", type=Path, default=Path("explained.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    stored = arguments.rows.read_text().splitlines() if arguments.rows.exists() else []
    rows = [Row(**json.loads(line)) for line in stored]
    known, report = read_toml(KNOWN), {}
    for name in MODELS:
        model = load_model(RestoreOptions(model=name))
        mine = [row for row in rows if (row.model, row.sha256) == (name, model.spec.sha256)]
        if not mine:
            with arguments.rows.open("a") as out:
                for row in measured(model, arguments.data, arguments.dicom):
                    out.write(json.dumps(asdict(row)) + "\n")
                    out.flush()
                    mine.append(row)
        fitted = [row for row in mine if (row.truth, row.split) == ("known", "fit")]
        known[name] = limits(fitted, model.spec.sha256)
        report[name] = {"known": known[name], "rows": list(table(mine, KnownRange(**known[name])))}
    KNOWN.write_text(tomli_w.dumps(known))
    made = page(report)
    print(made)
    write_page(arguments.out, "explained", report, made)


if __name__ == "__main__":
    main()
