"""The log of a run: a row for each step, read and drawn at the end."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path

from medrestore.errors import OutputError
from medrestore.io import atomic_write

LOG_FIELDS = ("step", "loss", "rate", "gradient", "seconds", "validation_psnr")

Row = dict[str, str]
"""A row of the log by `LOG_FIELDS`; the last is empty where nothing was validated."""


def start_log(log: Path, step: int) -> None:
    """Begin a log, or drop the rows after the checkpoint that a run goes on from: they will be written again.

    Raises:
        OutputError: It cannot be written.
    """
    rows = [row for row in read_log(log) if int(row["step"]) <= step]
    with (
        atomic_write(log, overwrite=True) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, LOG_FIELDS)
        writer.writeheader()
        writer.writerows(rows)


def append_row(log: Path, values: Iterable[object]) -> None:
    """Write the row of a step, the values of `LOG_FIELDS`.

    Raises:
        OutputError: The system refuses: a full disk, say.
    """
    try:
        with log.open("a", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerow(values)
    except OSError as error:
        raise OutputError(f"{log}: cannot be written ({error.strerror or error})") from error


def read_log(log: Path) -> list[Row]:
    """Return the rows of a log, without those that cannot be read.

    A kill may have cut the last one, even within its step number; such a row lacks fields.
    """
    if not log.is_file():
        return []
    with log.open(newline="", encoding="utf-8", errors="replace") as stream:
        return [row for row in csv.DictReader(stream) if _is_whole(row)]


def _is_whole(row: dict[str, str]) -> bool:
    if row.keys() != set(LOG_FIELDS) or None in row.values():
        return False
    try:
        numbers = (int(row["step"]), float(row["loss"]), float(row["validation_psnr"] or 0))
    except ValueError:
        return False
    return all(map(math.isfinite, numbers))


def last_validation(log: Path) -> float | None:
    """Return the last validation score in a log, in dB."""
    scores = [row["validation_psnr"] for row in read_log(log) if row["validation_psnr"]]
    return float(scores[-1]) if scores else None


def plot_log(log: Path, picture: Path) -> None:
    """Draw the loss, as a running mean, and the validation score of a log.

    Raises:
        OSError: The picture cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - half a second that only the end of a run needs

    rows = read_log(log)
    steps = [int(row["step"]) for row in rows]
    smooth: list[float] = []
    for row in rows:
        smooth.append(float(row["loss"]) * 0.02 + (smooth[-1] if smooth else float(row["loss"])) * 0.98)
    scored = [(int(row["step"]), float(row["validation_psnr"])) for row in rows if row["validation_psnr"]]
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(steps, smooth, color="tab:blue", linewidth=1)
    axes.set(xlabel="step", ylabel="squared error / k² (running mean)")
    if scored:
        right = axes.twinx()
        right.plot(*zip(*scored, strict=True), "o-", color="tab:orange", markersize=3)
        right.set_ylabel("validation PSNR (dB)")
    figure.savefig(picture, dpi=120)
