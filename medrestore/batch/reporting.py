"""From the ledger to the report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medrestore.batch.find.case import Case
from medrestore.batch.find.names import remove, results, temporary_files
from medrestore.batch.ledger import Entry, State, last_entries, pictures
from medrestore.report import CaseRow, write
from medrestore.report.write import PAGES

_FILES = ("summary.csv", "summary.json", "report.html")
_BOUND = ("psnr", "ssim", "level")
_HALF_A_PAGE = re.compile(r"\.[0-9a-f]{8}\.([0-9a-f]{12}\.html|niivue-[0-9a-f]{8}\.js)")


def write_report(out: Path, cases: Sequence[Case], task: str, *, single_files: bool = False) -> Path:
    """Write the report of all cases that any shard has brought to an end, into the folder of results.

    Files that a killed run left of an earlier report are removed: nobody else may write at the same time.

    Raises:
        OutputError: The report cannot be written.
    """
    entries = last_entries(out)
    rows = [_row(out, case, entries[case.id], task) for case in cases if case.id in entries]
    for name in _FILES:
        for left in temporary_files(out / name):
            remove(left)
    for page in (out / PAGES).glob(".*"):
        if _HALF_A_PAGE.fullmatch(page.name):
            remove(page)
    return write(out, rows, "medrestore batch", single_files=single_files)


def _row(out: Path, case: Case, entry: Entry, task: str) -> CaseRow:
    done, facts = entry.state is State.DONE, entry.facts
    kept, stated = pictures(out, case.id), facts.get("predicted")
    predicted: dict[str, Any] = stated if isinstance(stated, dict) else {}
    return CaseRow(
        case=case.id,
        name=str(case.output),
        status="done" if done else "failed",
        cause=entry.cause or None,
        stage=entry.stage or None,
        model=_text(facts.get("model")) or (case.model and Path(case.model).name),
        task=_text(facts.get("task")) or task,
        modality=_text(facts.get("modality")) or str(case.modality),
        shape=_three(facts.get("shape"), int),
        spacing_mm=_three(facts.get("spacing_mm"), float),
        noise=_number(facts.get("noise")),
        sigma=_number(facts.get("sigma")),
        psnr=_score(facts, "psnr"),
        ssim=_score(facts, "ssim"),
        further=_further(facts),
        seconds=_number(facts.get("seconds")),
        peak_bytes=int(_number(facts.get("peak_bytes")) or 0) or None,
        predicted_seconds=_times(_number(predicted.get("seconds")), _number(facts.get("volumes"))),
        predicted_peak_bytes=int(1e6 * (_number(predicted.get("peak_memory_mb")) or 0)) or None,
        findings=_codes(facts) if done else None,
        verdict=_text(facts.get("verdict")) if done else None,
        bound=_bound(facts) if done else {},
        attempts=entry.attempts,
        output=_output(out, case) if done else None,
        pictures=kept if done and kept.is_file() else None,
    )


def _output(out: Path, case: Case) -> str | None:
    """The image, or the folder of the series, relative to the folder of results."""
    found = [path for path in results(out / case.output) if path.suffix != ".json"]
    return found[0].relative_to(out).as_posix() if found else None


def _score(facts: dict[str, Any], name: str) -> float | None:
    scores = facts.get("scores")
    score = scores.get(name) if isinstance(scores, dict) else None
    return _number(score.get("value")) if isinstance(score, dict) else None


def _further(facts: dict[str, Any]) -> dict[str, float]:
    """The metrics of plugins, whose names are those of a plugin and a metric, that have a value."""
    scores = facts.get("scores")
    names = [name for name in scores if "/" in name] if isinstance(scores, dict) else []
    return {name: value for name in names if (value := _score(facts, name)) is not None}


def _bound(facts: dict[str, Any]) -> dict[str, float]:
    """The least PSNR and SSIM, and with what probability; of a 4-D series those of the first volume."""
    stated = facts.get("bound")
    found = {name: _number(stated.get(name)) for name in _BOUND} if isinstance(stated, dict) else {}
    known = {name: value for name, value in found.items() if value is not None}
    return known if len(known) == len(_BOUND) else {}


def _codes(facts: dict[str, Any]) -> tuple[str, ...]:
    """The codes of findings; a ledger of an earlier version has only the number of findings."""
    codes = facts.get("findings")
    return tuple(map(str, codes)) if isinstance(codes, list) else ()


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _times(seconds: float | None, volumes: float | None) -> float | None:
    """Return the time predicted for one volume, for all volumes of a case."""
    return None if seconds is None else seconds * (volumes or 1)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _three(value: object, kind: Any) -> Any:
    return tuple(kind(one) for one in value) if isinstance(value, list) and len(value) == 3 else None
