"""Slices side by side: the truth and every result, with the error below."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.harness.common import Truth
from medrestore.geometry import Geometry

MIDDLE = 0.62  # part of the field of view that is shown: the brain


@dataclass(frozen=True)
class Row:
    """One truth and what the methods made of it, all (rows, columns) as they are shown.

    Attributes:
        name: Written beside it.
        truth: What is aimed at.
        results: Images by the title of their method.
        window: Values that are black and white.
        worst: Error that is white.
    """

    name: str
    truth: np.ndarray
    results: dict[str, np.ndarray]
    window: tuple[float, float]
    worst: float


def side_by_side(rows: list[Row], path: Path) -> None:
    """Draw rows of slices, each with a row of errors below."""
    columns = 1 + max(len(row.results) for row in rows)
    size = (2.3 * columns, 4.9 * len(rows))
    figure, axes = plt.subplots(2 * len(rows), columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    for number, row in enumerate(rows):
        shown = {f"truth\n{row.name}" if len(rows) > 1 else "truth": row.truth, **row.results}
        for column, (title, image) in enumerate(shown.items()):
            above, below = axes[2 * number, column], axes[2 * number + 1, column]
            above.imshow(image, cmap="gray", vmin=row.window[0], vmax=row.window[1])
            above.set_title(title, fontsize="small")
            if column:
                below.imshow(np.abs(image - row.truth), cmap="gray", vmin=0, vmax=row.worst)
    figure.savefig(path, dpi=110 if len(rows) == 1 else 80)
    plt.close(figure)


def row_of(truth: Truth, images: dict[str, np.ndarray], up: int, worst: float) -> Row:
    """Show the middle of a head.

    Args:
        truth: Its clean volume, for the orientation and the window.
        images: (X, Y, Z) by title, that of the clean volume among them as `truth`.
        up: Axis that runs upwards.
        worst: Error that is white, as a fraction of the data range.
    """
    plane = _plane(truth, up)
    shown = {title: _middle(image, plane, up) for title, image in images.items()}
    return Row(truth.name, shown.pop("truth"), shown, (0, truth.p99), worst * truth.data_range)


def _plane(truth: Truth, up: int) -> int:
    """Axis to look along: front to back, which shows no face, or the way up where `up` is that axis."""
    codes = Geometry(truth.voxels.shape, truth.affine).axis_codes
    order = [next(n for n in range(3) if codes[n] in pair) for pair in ("AP", "SI")]
    return order[0] if order[0] != up else order[1]


def _middle(image: np.ndarray, plane: int, up: int) -> np.ndarray:
    """Cut the middle of the middle plane."""
    cut = np.take(image, image.shape[plane] // 2, axis=plane)
    across = [n for n in range(3) if n != plane].index(up)
    cut = cut if across == 0 else cut.T
    margins = [round(n * (1 - MIDDLE) / 2) for n in cut.shape]
    cut = cut[margins[0] : cut.shape[0] - margins[0], margins[1] : cut.shape[1] - margins[1]]
    return cut[::-1]
