"""Count what is refused of scans that are a model's own, and of what is none, on subjects that set no limit.

    python -m benchmarks.evidence.rows ../shared/data UNPACKED rows.jsonl
    python -m benchmarks.evidence.domain rows.jsonl

No model is run. Writes domain.md and domain.json to the folder given with --out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence.inputs import LIES
from benchmarks.evidence.rows import Row
from benchmarks.harness.common import write_page
from medrestore.engine.models.domain import REFUSING
from medrestore.engine.models.recognise import NEITHER, Fitted, Recognition, fitted
from medrestore.metrics.observer import area_under_curve
from medrestore.plugin.spec import DOMAINS

NAMES = {"mr-head": "Models for MR of heads", "ct": "Models for CT"}
AS_MR = {"labels", "a mask", "another organ", "a phantom", "a body, as MR"}
"""Kinds that are made of no scan of a head, and given as MR."""

TITLE = "# What is refused for its content\n"
TEXT = (
    "no weight and no limit: whole, as crops of 96 voxels of each axis and as slabs of 20 slices; as "
    "they are, and with noise, other contrast, thick slices, whole numbers, blur and larger voxels. What is "
    "no such scan is made of them, whole and in part, or is a scan of something else. AUROC: the probability "
    "that a scan of the model's own has a better score than one of the kind, a broken rule being the "
    "worst score; in brackets that of the features alone. Warned of: by rules, which refuse or only "
    "warn. Raw numbers, and what was refused wrongly, are in the JSON file beside this page."
)
HEAD = ("| kind | inputs | subjects | AUROC | refused | warned of |", "|---|---:|---:|---:|---:|---:|")


def read_rows(path: Path, split: str) -> list[Row]:
    """Return the rows of a split."""
    rows = [Row(**json.loads(line)) for line in path.read_text().splitlines()]
    return [row for row in rows if row.split == split]


def log_odds(model: Fitted, rows: Sequence[Row], domain: str) -> np.ndarray:
    """Return for each row the logarithm of the odds that it is of a domain."""
    shares = np.array([model.of(row.features)[domain] for row in rows])
    return np.log(np.clip(shares, 1e-12, 1)) - np.log(np.clip(1 - shares, 1e-12, 1))


def ruled_out(row: Row, domain: str) -> bool:
    """Whether a rule that refuses is broken."""
    return bool(REFUSING & set(row.codes[domain]))


def kind_of(row: Row, domain: str) -> str:
    """Return what a row is for a model of a domain."""
    if row.truth == domain:
        return "its own"
    if row.truth != NEITHER:
        return "the other modality"
    if row.kind not in LIES:
        return row.kind
    return "voxel size x 2 or 1/2" if "2" in row.kind else "voxel size x 3 or 1/3"


def table(rows: Sequence[Row], domain: str) -> Iterator[dict[str, Any]]:
    """Yield how many of every kind are refused, and how well the score parts them from the domain's own."""
    scores = log_odds(fitted(), rows, domain)
    least = fitted().least[domain]
    low = scores < np.log(least / (1 - least))
    kinds = [kind_of(row, domain) for row in rows]
    # A rule that is broken is worse than any score: both together are what decides.
    ruled = np.array([ruled_out(row, domain) for row in rows])
    both = np.where(ruled, -1e3, scores)
    own = np.array([kind == "its own" for kind in kinds])
    for kind in sorted(set(kinds), key=lambda one: (one != "its own", one)):
        mine = np.array([one == kind for one in kinds])
        warned = [bool(row.codes[domain]) for row, here in zip(rows, mine, strict=True) if here]
        yield {
            "kind": kind,
            "of": int(mine.sum()),
            "subjects": len({row.subject for row, here in zip(rows, mine, strict=True) if here}),
            "auroc": None if kind == "its own" else area_under_curve(both[own], both[mine]),
            "auroc of the score alone": None
            if kind == "its own"
            else area_under_curve(scores[own], scores[mine]),
            "refused": int((low | ruled)[mine].sum()),
            "warned": int(sum(warned)),
            "refused ones": sorted(
                f"{row.subject}, {row.kind}, {row.part}"
                for row, here, out in zip(rows, mine, low | ruled, strict=True)
                if here and out and kind == "its own"
            ),
        }


def relevant(rows: Sequence[Row], domain: str) -> list[Row]:
    """Return the rows that count for a domain: scans, and what is made of its own or given as such."""
    own = {row.subject for row in rows if row.truth == domain}
    return [
        row
        for row in rows
        if row.truth != NEITHER
        or (row.kind in AS_MR and domain == "mr-head")
        or (row.kind not in AS_MR and row.subject in own)
    ]


def recognised(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Return what scans that say nothing are taken for, by what they are; ``unsure`` is refused."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        seen = Recognition(fitted().of(row.features))
        counts = found.setdefault(row.truth, dict.fromkeys((*DOMAINS, "unsure"), 0))
        counts[seen.best if seen.names else "unsure"] += 1
    return found


def page(report: dict[str, Any], command: str) -> str:
    """Return the page."""
    lines = [TITLE, f"Made by `{command}`. Scans of {report['subjects']} subjects that set {TEXT}"]
    for domain, rows in report["domains"].items():
        lines += ["", f"## {NAMES[domain]}", "", *HEAD]
        for row in rows:
            parted = (row["auroc"], row["auroc of the score alone"])
            area = "" if None in parted else "{:.3f} ({:.3f})".format(*parted)
            refused = f"{row['refused']} ({row['refused'] / row['of']:.1%})"
            cells = (row["kind"], row["of"], row["subjects"], area, refused, row["warned"])
            lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", "## Scans that do not say what they are", ""]
    lines += [
        "| what they are | taken for MR of a head | for CT | refused as unsure |",
        "|---|---:|---:|---:|",
    ]
    for truth, counts in report["recognised"].items():
        cells = " | ".join(str(counts[name]) for name in (*DOMAINS, "unsure"))
        lines.append(f"| {truth} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("rows", type=Path, help="what benchmarks.evidence.rows made")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    rows = read_rows(arguments.rows, "test")
    report = {
        "subjects": len({row.subject for row in rows}),
        "least": dict(fitted().least),
        "domains": {domain: list(table(relevant(rows, domain), domain)) for domain in DOMAINS},
        "recognised": recognised(rows),
    }
    made = page(report, f"python -m benchmarks.evidence.domain {arguments.rows.name}")
    print(made)
    write_page(arguments.out, "domain", report, made)


if __name__ == "__main__":
    main()
