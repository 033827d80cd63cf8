"""Set the limits of the verdict on good outputs; count what it says of good and bad ones of other subjects.

    python -m benchmarks.evidence.verdict --limits     # writes medrestore/engine/evidence/limits.toml
    python -m benchmarks.evidence.verdict              # writes verdict.md and verdict.json

Scans are read from ../shared/data and from Debian's mricron-data and invesalius-examples;
`benchmarks.evidence.cases` names them.
With --keep, restorations are kept in a folder and read from there when it is run again.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence.cases import SUBJECTS, Case, cases
from benchmarks.evidence.outcomes import Change, Outcome, kept, outcome
from benchmarks.evidence.spoilt import IN_NULL_SPACE, SPOILT
from benchmarks.harness.common import DOCS, describe_machine, weights, write_page
from medrestore.engine import RestoreOptions
from medrestore.engine.evidence.consistency import Consistency, consistency
from medrestore.engine.evidence.verdict import LIMITS, judge, limits_of
from medrestore.engine.models.load import load_model
from medrestore.engine.tasks.measurement import Measurement
from medrestore.types import Judgement, Modality, Task

WARNED, FAILED = 0.05, 0.01
"""Share of good outputs that is to be outside the limits of WARN and of FAIL."""

LOWEST = {"edges": -1.0, **dict.fromkeys(("drift", "excursion", "step", "stripes", "unevenness"), 0.0)}
"""Statistics that cannot be too small, and the least that they can be."""

REPRODUCED = {**LOWEST, "deviation": 0.0, "balance": 0.0}
"""The same where slices are resolved: they may be reproduced, and leave nothing."""

POSITIVE = ("deviation", "balance")
"""Statistics that are above 0 by their nature, whose limits are no lower."""

LEAST_SPREAD = 0.015
"""Spread below which a statistic is no better known: in units of the noise, and of a correlation."""

OTHER = {"MR": "CT", "CT": "MR"}
Values = dict[str, float]


def measured(one: Outcome) -> Consistency:
    """Return the statistics of an outcome."""
    return consistency(one.scan, one.remeasured(one.result), one.expected)


def options(task: str, case: Case, modality: str | None = None, **more: Any) -> RestoreOptions:
    """Return how a case is restored, by the shipped model of a modality."""
    own, kind = task.split()
    if kind == "superres":
        profile = next(name for name in ("boxcar", "gaussian", "slr") if name in case.name)
        more |= {"slice_axis": "k", "slice_profile": profile}
    return RestoreOptions(model=f"{(modality or own).lower()}-{kind}", **more)


def good(task: str, role: str, keep: Path) -> Iterator[tuple[Case, Outcome]]:
    """Yield the restorations of a task."""
    modality, kind = task.split()
    model = load_model(RestoreOptions(model=f"{modality.lower()}-{kind}"), Modality(modality))
    for case in cases(task, role):
        print(task, role, case.name, file=sys.stderr, flush=True)
        found = kept(_file(keep, task, role, case.name), lambda: outcome(case, model, options(task, case)))  # noqa: B023
        if found is not None:
            yield case, found


def _file(keep: Path, *words: str) -> Path:
    return keep / f"{re.sub('[^A-Za-z0-9]+', '_', '_'.join(words))}.npz"


def _ramp(measurement: Measurement) -> Measurement:
    """Tell the model that the noise rises along the first axis."""
    image = measurement.condition.image
    ramp = np.geomspace(0.5, 2, image.shape[2], dtype=np.float32)[:, None, None]
    gain = image.new_tensor(np.broadcast_to(ramp, image.shape[2:])[None, None].copy())
    return replace(measurement, condition=replace(measurement.condition, gain=gain))


def mistaken(task: str, case: Case, found: Outcome, keep: Path) -> Iterator[tuple[str, Outcome]]:
    """Yield outputs of a model that is told something false, or is the wrong one."""
    own, kind = task.split()
    level = float(np.median(found.expected.sigma))
    told: dict[str, tuple[RestoreOptions, Change | None, str]] = {
        "model of the other modality": (options(task, case, OTHER[own], force=True), None, OTHER[own])
    }
    if kind == "denoise":
        for factor in (0.5, 2.0):
            told[f"noise told {factor} times"] = (options(task, case, noise=factor * level), None, own)
    if task == "MR denoise":
        told["noise map false, 0.5 to 2 along an axis"] = (options(task, case), _ramp, own)
    for name, (asked, change, modality) in told.items():
        model = load_model(asked, Modality(modality))
        made = kept(
            _file(keep, task, "test", case.name, name),
            lambda: outcome(case, model, asked, change),  # noqa: B023
        )
        if made is not None:
            yield name, made


def spread_of(rows: Sequence[Values]) -> dict[str, tuple[float, float, float]]:
    """Return the median of each statistic and its spread to either side: 95th percentile over 1.645."""
    found = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows if row[name] is not None], dtype=float)
        if values.size:
            low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
            below, above = (max(d / 1.645, LEAST_SPREAD) for d in (middle - low, high - middle))
            found[name] = (float(middle), float(below), float(above))
    return found


def lowest(task: str) -> dict[str, float]:
    """Return the statistics of a task that cannot be too small, and the least that they can be."""
    return REPRODUCED if task.endswith(Task.SUPERRES) else LOWEST


def farthest(row: Values, spread: dict[str, tuple[float, float, float]], task: str) -> float:
    """Return by how many spreads the statistic that lies farthest out does so."""
    out = [0.0]
    for name, (middle, below, above) in spread.items():
        value = row.get(name)
        if value is not None and value > middle:
            out.append((value - middle) / above)
        elif value is not None and name not in lowest(task):
            out.append((middle - value) / below)
    return max(out)


def good_statistics(keep: Path) -> tuple[dict[str, list[Values]], dict[str, set[str]]]:
    """Return by task the statistics of the good outputs that set the limits, and whom they show."""
    rows: dict[str, list[Values]] = defaultdict(list)
    subjects: dict[str, set[str]] = defaultdict(set)
    for task in SUBJECTS:
        for case, one in good(task, "limits", keep):
            found = measured(one)
            if found.statistics:
                rows[task].append(dict(found.statistics))
                subjects[task].add(case.subject)
    return rows, subjects


def limits_text(rows: dict[str, list[Values]], subjects: dict[str, set[str]]) -> str:
    """Return the file of limits: as many spreads from the median as leave the stated shares outside."""
    spreads = {task: spread_of(found) for task, found in rows.items()}
    out = np.sort([farthest(row, spreads[task], task) for task, found in rows.items() for row in found])
    reach = {
        level: float(out[min(int(np.ceil((1 - share) * (len(out) + 1))), len(out)) - 1])
        for level, share in (("warn", WARNED), ("fail", FAILED))
    }
    lines = [
        "# Made by `python -m benchmarks.evidence.verdict --limits`: the median of each statistic over good",
        f"# outputs, and {reach['warn']:.3g} (warn) and {reach['fail']:.3g} (fail) spreads from there.",
    ]
    for task, spread in spreads.items():
        lines += ["", f'["{task}"]', f"outputs = {len(rows[task])}", f"subjects = {len(subjects[task])}"]
        for name, (middle, below, above) in spread.items():
            lines += ["", f'["{task}".limits.{name}]']
            for level, far in reach.items():
                low = max(middle - far * below, 0.0) if name in POSITIVE else middle - far * below
                lines.append(f"{level} = [{lowest(task).get(name, low):.4g}, {middle + far * above:.4g}]")
    return "\n".join(lines) + "\n"


def count(task: str, keep: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the verdicts on good and bad outputs of the subjects that set no limits, by kind."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    seen: Counter[str] = Counter()
    limits = limits_of(task)
    assert limits is not None
    for case, one in good(task, "test", keep):
        kinds = {**SPOILT, **(IN_NULL_SPACE if one.stack is not None else {})}
        made = [("good", one)]
        # Every other kind of spoiling, in turn: each is tried on half of the outputs, of every subject.
        for name, spoil in list(kinds.items())[seen.total() % 2 :: 2]:
            rng = np.random.default_rng(zlib.crc32(f"{case.name} {name}".encode()))
            made.append((name, spoil(one, rng)))
        seen[case.subject] += 1
        if seen[case.subject] == 1:
            made += mistaken(task, case, one, keep)
        for name, output in made:
            statistics = measured(output)
            if statistics.statistics:
                judgement, causes = judge(statistics, limits)
                row = {"case": case.name, "subject": case.subject, "verdict": str(judgement)}
                told = {key: value and round(value, 4) for key, value in statistics.statistics.items()}
                found[name].append({**row, "causes": causes, "statistics": told})
    return found


def page(found: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """Return the confusion tables."""
    lines = [
        "# What the verdict says of good and of bad outputs",
        "",
        "Made by `python -m benchmarks.evidence.verdict`. Limits were set on other subjects, so that of",
        f"their good outputs {WARNED:.0%} get a WARN or FAIL and {FAILED:.0%} a FAIL;",
        "[what it means](../explanation/evidence.md#the-verdict). Bad outputs are made of the good ones; a",
        "sphere lies at a random place, its contrast in units of the noise, or of the level that counts as",
        "none. The cause is the most frequent. Each kind is made of half of the good outputs; for the last",
        "ones the model ran anew on a part of each subject. Slices of CT are judged by limits that slices of",
        "MR set, and in unevenness by those of denoised CT; slices of more than 5 mm get no verdict.",
    ]
    for task, kinds in found.items():
        subjects = {row["subject"] for row in kinds["good"]}
        lines += ["", f"## {task}", "", f"{len(kinds['good'])} good outputs of {len(subjects)} subjects.", ""]
        lines += ["| output | of | PASS | WARN | FAIL | cause |", "|---|---:|---:|---:|---:|---|"]
        known = ["good", *SPOILT, *IN_NULL_SPACE]
        for name in sorted(kinds, key=lambda one: known.index(one) if one in known else len(known)):
            rows = kinds[name]
            said = Counter(row["verdict"] for row in rows)
            causes = Counter(row["causes"][0] for row in rows if row["causes"]).most_common(1)
            shares = " | ".join(f"{said[one] / len(rows):.0%}" for one in Judgement)
            lines.append(f"| {name} | {len(rows)} | {shares} | {causes[0][0] if causes else ''} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    """Set limits, or count and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--limits", action="store_true", help="set the limits")
    parser.add_argument("--keep", type=Path, help="folder that restorations are kept in")
    parser.add_argument("--out", type=Path, default=DOCS)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        keep = arguments.keep or Path(folder)
        keep.mkdir(parents=True, exist_ok=True)
        if arguments.limits:
            LIMITS.write_text(limits_text(*good_statistics(keep)), encoding="utf-8")
            return
        models = weights("", "MR", *Task) | weights("", "CT", *Task)
        made = {**describe_machine({"medrestore"}), "weights": models, "subjects": SUBJECTS}
        found = {}
        for task in SUBJECTS:
            found[task] = count(task, keep)
            write_page(arguments.out, "verdict", {**made, "outputs": found}, page(found), indent=None)


if __name__ == "__main__":
    main()
