"""Small bright and dark spheres put into a scan, and what a method leaves of their contrast."""

from __future__ import annotations

from typing import Any

import numpy as np

DIAMETERS = (3, 4, 5, 6)


def ball(diameter: int, side: int = 9) -> np.ndarray:
    """Fraction of each voxel of a (side, side, side) cube that is inside a ball in its middle."""
    fine = 5
    at = (np.arange(side * fine) + 0.5) / fine - side / 2
    inside = sum(a**2 for a in np.meshgrid(at, at, at, indexing="ij", sparse=True)) <= (diameter / 2) ** 2
    return inside.reshape(side, fine, side, fine, side, fine).mean(axis=(1, 3, 5)).astype(np.float32)


def place(
    clean: np.ndarray, contrast: float, where: list[tuple[int, int, int]], least: float
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Put spheres around voxels, every other one dark where it stays above the least value."""
    scan, placed = clean.copy(), []
    for number, centre in enumerate(where):
        box = tuple(slice(at - 4, at + 5) for at in centre)
        diameter = DIAMETERS[number // 2 % len(DIAMETERS)]
        sign = -1 if number % 2 and clean[box].min() > contrast + least else 1
        shape = ball(diameter)
        scan[box] += sign * contrast * shape
        placed.append({"box": box, "diameter": diameter, "sign": sign, "core": shape > 0.99})
    return scan, placed


def contrast_kept(
    with_them: np.ndarray, without: np.ndarray, contrast: float, placed: list[Any]
) -> list[float]:
    """For each sphere, the mean difference over its core as a fraction of the contrast that was put in."""
    difference = with_them - without
    return [float(difference[one["box"]][one["core"]].mean() * one["sign"] / contrast) for one in placed]


def by_diameter(kept: np.ndarray, placed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Contrast that spheres keep, for each diameter."""
    rows = []
    sizes, signs = (np.array([one[key] for one in placed]) for key in ("diameter", "sign"))
    for diameter in DIAMETERS:
        here = kept[sizes == diameter]
        rows.append(
            {
                "diameter": diameter,
                "count": len(here),
                "mean": _mean(here),
                "p10": float(np.percentile(here, 10)) if here.size else None,
                "bright": _mean(kept[(sizes == diameter) & (signs > 0)]),
                "dark": _mean(kept[(sizes == diameter) & (signs < 0)]),
            }
        )
    return rows


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None
