"""The results of the reading benchmark as Markdown."""

from __future__ import annotations

import re
from collections import Counter
from itertools import groupby
from typing import Any

from benchmarks.denoise.tables import made

Rows = list[dict[str, Any]]
CLASSES = ("equal", "differ", "only here", "only there", "neither")


def markdown(report: dict[str, Any]) -> str:
    """The whole page: counts by corpus and reader, every difference, every refusal, restorations."""
    setup = report["setup"]
    found = setup["packages"].items()
    versions = ", ".join(f"{name} {version}" for name, version in found if version[0].isdigit())
    parts = ["# Reading other people's files: medrestore beside other readers", made(setup), _INTRODUCTION]
    parts += [f"Versions: {versions}.", "## Counts", _counts([*report["files"], *report["folders"]])]
    parts += ["## What differs", _differing([*report["files"], *report["folders"]])]
    parts += ["## Read by others alone", _refused([*report["files"], *report["folders"]])]
    if report["restored"]:
        parts += ["## Restored", _restored(report["restored"])]
    return "\n\n".join(parts) + "\n"


_INTRODUCTION = """\
Test files that other libraries ship, made to break readers. SimpleITK reads each file by itself (DICOM
through GDCM), nibabel each file that is no DICOM, dcm2niix each folder with DICOM series. Equal: after
both are turned upright, the same shape, voxels within 1e-5 of the largest, corners of the grid within
0.02 mm where both have one; padding of CT (below -1800 HU) is not compared. Others read images without a
place as if they lay at the origin: here they are refused."""


def _class_of(row: dict[str, Any]) -> str:
    outcome = str(row["outcome"])
    return outcome if outcome in CLASSES else "differ"


def _counts(rows: Rows) -> str:
    lines = [f"| corpus | beside | files or series | {' | '.join(CLASSES)} |", "|---|---|" + "---:|" * 6]
    for key in dict.fromkeys((row["corpus"], row["peer"]) for row in rows):
        mine = [row for row in rows if (row["corpus"], row["peer"]) == key]
        found = Counter(map(_class_of, mine))
        counts = " | ".join(str(found[name]) for name in CLASSES)
        lines.append(f"| {key[0]} | {key[1]} | {len(mine)} | {counts} |")
    return "\n".join(lines)


def _differing(rows: Rows) -> str:
    lines = ["| corpus | file or folder | beside | what |", "|---|---|---|---|"]
    for row in rows:
        if _class_of(row) == "differ":
            lines.append(f"| {row['corpus']} | `{row['path']}` | {row['peer']} | {row['outcome']} |")
    return "\n".join(lines) if len(lines) > 2 else "Nothing that both read."


def _refused(rows: Rows) -> str:
    lines = ["| why it is refused here | beside | how many | such as |", "|---|---|---:|---|"]
    groups: dict[tuple[str, str], Rows] = {}
    for row in rows:
        if row["outcome"] == "only there":
            why = str(row["ours"]).split(" (of ")[0].replace("|", "\\|").replace("\n", " ")
            groups.setdefault((re.sub(r"\d+", "n", why), row["peer"]), []).append(row | {"why": why[:200]})
    for (_, peer), mine in sorted(groups.items()):
        such = f"{mine[0]['corpus']}: `{mine[0]['path']}`"
        lines.append(f"| {mine[0]['why']} | {peer} | {len(mine)} | {such} |")
    return "\n".join(lines)


def _restored(rows: Rows) -> str:
    lines = ["| corpus | outcome | scans | such as |", "|---|---|---:|---|"]

    def key(row: dict[str, Any]) -> tuple[str, str]:
        return row["corpus"], str(row["outcome"])[:100]

    for (corpus, outcome), group in groupby(sorted(rows, key=key), key):
        mine = list(group)
        lines.append(f"| {corpus} | {outcome} | {len(mine)} | `{mine[0]['path']}` |")
    return "\n".join(lines)
