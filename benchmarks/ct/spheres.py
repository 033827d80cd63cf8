"""Small bright and dark spheres of all diameters in a scan, and a table of what is left of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from medrestore.metrics.lesions import Lesion, with_lesions

DIAMETERS = (3, 4, 5, 6)
AROUND = 4  # voxels on each side of a centre of which none may become negative


def place(
    clean: np.ndarray, contrast: float, where: list[tuple[int, int, int]], least: float
) -> tuple[np.ndarray, list[Lesion]]:
    """Put spheres around voxels, every other one dark where it stays above the least value."""
    placed = []
    for number, centre in enumerate(where):
        box = tuple(slice(at - AROUND, at + AROUND + 1) for at in centre)
        dark = number % 2 == 1 and clean[box].min() > contrast + least
        diameter = DIAMETERS[number // 2 % len(DIAMETERS)]
        placed.append(Lesion(centre, diameter, -contrast if dark else contrast))
    return with_lesions(clean, placed), placed


def by_diameter(kept: np.ndarray, placed: list[Lesion]) -> list[dict[str, Any]]:
    """Contrast that spheres keep, for each diameter."""
    rows = []
    sizes, contrasts = (np.array([getattr(one, key) for one in placed]) for key in ("diameter", "contrast"))
    for diameter in DIAMETERS:
        here = kept[sizes == diameter]
        rows.append(
            {
                "diameter": diameter,
                "count": len(here),
                "mean": _mean(here),
                "p10": float(np.percentile(here, 10)) if here.size else None,
                "bright": _mean(kept[(sizes == diameter) & (contrasts > 0)]),
                "dark": _mean(kept[(sizes == diameter) & (contrasts < 0)]),
            }
        )
    return rows


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None
