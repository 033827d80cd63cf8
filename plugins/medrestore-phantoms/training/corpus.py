"""Aligned heads and brains, bent at random, with what a coarser scan shows of them.

Arrays are float32 tensors of axis order (X, Y, Z); positions are in mm from the middle of the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

FIELD_MM = (192.0, 224.0, 192.0)
MIDDLE_MM = (0, 8, 16)
"""Where the middle of the field lies in an aligned volume."""

PLANE_MM = ((95.0, -26.0), (-95.0, -70.0))
"""Y and Z, from the middle of an aligned volume, of two points of the plane below which heads are cut: faces,
and what some scans do not show, lie there."""

BLUR_MM = {1.0: 0.7, 2.0: 1.6, 4.0: 3.2}
"""Deviation of the Gaussian that a volume is blurred by before it is kept at 1, 2 and 4 mm: 0.4 of the voxels
of twice the size (0.4 of 1.75 mm for the first), which are read off it."""

CELL_MM, REACH_MM, BEND_MM = 8.0, 20.0, 4.0
"""Voxel, correlation length and largest deviation of the field that bends a subject."""

AIR = 0.15
ROUGHEST = 0.06
"""Most noise of a coarser scan that the finer network is trained on."""


@dataclass(frozen=True)
class Subject:
    """A head or a brain.

    Attributes:
        kind: ``"head"`` or ``"brain"``.
        finest: Smallest voxels in mm that it is sampled at.
        levels: (1, X, Y, Z) float16 by voxel size.
        inside: (N, 3) positions that are no air.
    """

    kind: str
    finest: float
    levels: dict[float, Tensor]
    inside: np.ndarray


def load(folder: Path) -> list[Subject]:
    """Read what `align.py` wrote."""
    found = []
    for path in sorted(folder.glob("*.npy")):
        kind, name = path.stem.split("-", 1)
        volume = _to_field(np.load(path).astype(np.float32), kind)
        levels = {spacing: _kept(volume, spacing) for spacing in BLUR_MM}
        rough = levels[4.0][0].numpy()
        inside = (np.argwhere(rough > AIR) - (np.array(rough.shape) - 1) / 2) * 4.0
        inside = inside[(np.abs(inside) < np.array(FIELD_MM) / 2).all(axis=1)]
        # The slices of ds002748 are 2 mm thick: below that it shows nothing.
        thick = kind == "brain" and name.startswith("b")
        found.append(Subject(kind, 2.0 if thick else 1.5, levels, inside))
    return found


def _to_field(volume: np.ndarray, kind: str) -> np.ndarray:
    """Cut what lies below the plane, and put the middle of the field into the middle."""
    if kind == "head":
        y, z = (np.arange(n) - (n - 1) / 2 for n in volume.shape[1:])
        (y0, z0), (y1, z1) = PLANE_MM
        plane = z1 + (y - y1) * (z0 - z1) / (y0 - y1)
        volume = volume * np.clip(z[None] - plane[:, None], 0, 1)[None].astype(np.float32)
    moved = np.pad(volume, [(0, mm) for mm in MIDDLE_MM])
    return moved[MIDDLE_MM[0] :, MIDDLE_MM[1] :, MIDDLE_MM[2] :]


def _kept(volume: np.ndarray, spacing: float) -> Tensor:
    step, blurred = int(spacing), ndimage.gaussian_filter(volume, BLUR_MM[spacing])
    parts = [size for n in volume.shape for size in (n // step, step)]
    return torch.from_numpy(blurred.reshape(parts).mean(axis=(1, 3, 5)).astype(np.float16))[None]


def positions(shape: tuple[int, ...], spacing: float, start: list[int], whole: list[int]) -> Tensor:
    """Return (X, Y, Z, 3) mm of the voxels of a part of a grid, which begins at `start`."""
    axes = [
        (torch.arange(n, dtype=torch.float32) + a - (size - 1) / 2) * spacing
        for n, a, size in zip(shape, start, whole, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def look_up(volume: Tensor, spacing: float, where: Tensor) -> Tensor:
    """Interpolate (C, X, Y, Z), its middle at 0, at (..., 3) mm; zero outside."""
    size = torch.tensor(volume.shape[1:])
    index = where / spacing + (size - 1) / 2
    low = index.reshape(-1, 3).amin(0).floor().long().clamp(min=0)
    high = index.reshape(-1, 3).amax(0).ceil().long() + 2
    high = torch.minimum(torch.maximum(high, low + 2), size)
    low = torch.minimum(low, high - 2)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    part = volume[(slice(None), *box)].float()
    grid = ((index - low) * 2 / (high - low - 1) - 1).flip(-1)
    return F.grid_sample(part[None], grid[None], align_corners=True)[0]


class Bend:
    """A random change of a subject: turned, scaled, sheared, mirrored, bent, brighter or flatter."""

    def __init__(self, rng: np.random.Generator) -> None:
        turn = np.eye(3)
        for axis, angle in enumerate(np.radians(rng.normal(0, 3.0, 3))):
            j, k = (one for one in range(3) if one != axis)
            once = np.eye(3)
            once[j, j] = once[k, k] = np.cos(angle)
            once[j, k], once[k, j] = -np.sin(angle), np.sin(angle)
            turn = turn @ once
        scale = np.exp(rng.normal(0, 0.04, 3) + rng.normal(0, 0.02))
        shear = np.eye(3) + np.triu(rng.normal(0, 0.02, (3, 3)), 1)
        if rng.random() < 0.5:
            scale[0] *= -1
        self._matrix = torch.from_numpy((turn @ shear @ np.diag(scale)).astype(np.float32))
        self._shift = torch.from_numpy(rng.normal(0, 2.0, 3).astype(np.float32))
        extent = [n + 2 * 16 for n in map(int, FIELD_MM)]
        shape = (1, 3, *(int(n / REACH_MM) + 2 for n in extent))
        coarse = torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
        field = F.interpolate(coarse, [int(n / CELL_MM) for n in extent], mode="trilinear")
        field = F.avg_pool3d(F.pad(field, (2,) * 6, mode="replicate"), 5, 1)
        self._field = field[0] * (rng.uniform(0.2, 1) * BEND_MM / field.std())
        self._gain = float(np.exp(rng.normal(0, 0.04)))
        self._gamma = float(np.exp(rng.normal(0, 0.06)))

    def seen(self, subject: Subject, kept: float, where: Tensor) -> Tensor:
        """Return the changed subject at (X, Y, Z, 3) mm as (1, X, Y, Z), of what is kept at a voxel size."""
        moved = where @ self._matrix.T + self._shift
        moved = moved + look_up(self._field, CELL_MM, where).permute(1, 2, 3, 0)
        return self._gain * look_up(subject.levels[kept], kept, moved).clamp(min=0) ** self._gamma


def whole(subject: Subject, spacing: float, rng: np.random.Generator) -> Tensor:
    """Return the whole field of a changed subject at a voxel size, (1, X, Y, Z)."""
    shape = [int(n / spacing) for n in FIELD_MM]
    return Bend(rng).seen(subject, spacing / 2, positions(tuple(shape), spacing, [0, 0, 0], shape))


@dataclass(frozen=True)
class Patch:
    """A patch of a changed subject.

    Attributes:
        clean: (1, S, S, S).
        baseline: The same of a scan of coarser voxels, with noise, brought to the same grid.
        where: (S, S, S, 3) mm of its voxels.
        spacing: Of its voxels in mm.
        noise: Deviation of that noise.
    """

    clean: Tensor
    baseline: Tensor
    where: Tensor
    spacing: float
    noise: float


def patch(subject: Subject, side: int, rng: np.random.Generator, *, coarse: bool) -> Patch:
    """Cut a patch of 4 mm out of one of 8 mm, or one of 1.5 to 2 mm out of one of 4 mm."""
    spacing = 4.0 if coarse else float(rng.uniform(subject.finest, 2.0))
    full = [int(np.ceil(n / spacing)) for n in FIELD_MM]
    start = _start(subject, side, spacing, full, rng)
    return _seen(subject, positions((side,) * 3, spacing, start, full), spacing, rng)


def whole_patch(subject: Subject, rng: np.random.Generator, *, coarse: bool) -> Patch:
    """Return the whole field as one patch, of 4 mm or of 2."""
    spacing = 4.0 if coarse else 2.0
    full = [int(n / spacing) for n in FIELD_MM]
    return _seen(subject, positions(tuple(full), spacing, [0, 0, 0], full), spacing, rng)


def _seen(subject: Subject, where: Tensor, spacing: float, rng: np.random.Generator) -> Patch:
    bend = Bend(rng)
    kept, above = (2.0, 8.0) if spacing > 2 else (1.0, 4.0)
    clean = bend.seen(subject, kept, where)
    around = [int(n / above) for n in FIELD_MM]
    ends = [corner / above + (torch.tensor(around) - 1) / 2 for corner in (where[0, 0, 0], where[-1, -1, -1])]
    low = [max(int(np.floor(v)), 0) for v in ends[0]]
    high = [min(int(np.ceil(v)) + 1, n) for v, n in zip(ends[1], around, strict=True)]
    part = tuple(b - a for a, b in zip(low, high, strict=True))
    rough = bend.seen(subject, above / 2, positions(part, above, low, around))
    noise = float(rng.uniform(0, ROUGHEST))
    rough = rough + noise * torch.from_numpy(rng.standard_normal(rough.shape).astype(np.float32))
    index = where / above + (torch.tensor(around) - 1) / 2 - torch.tensor(low)
    grid = (index * 2 / (torch.tensor(part) - 1).clamp(min=1) - 1).flip(-1)
    baseline = F.grid_sample(rough[None], grid[None], padding_mode="border", align_corners=True)[0]
    return Patch(clean, baseline, where, spacing, noise)


def _start(
    subject: Subject, side: int, spacing: float, full: list[int], rng: np.random.Generator
) -> list[int]:
    """Return where a patch begins: nine in ten in the head, as most of the field is air."""
    if rng.random() >= 0.9:
        return [int(rng.integers(0, max(n - side, 0) + 1)) for n in full]
    middle = subject.inside[rng.integers(len(subject.inside))]
    return [
        int(np.clip(c / spacing + (n - 1) / 2 - side / 2 + rng.uniform(-side / 4, side / 4), 0, n - side))
        for c, n in zip(middle, full, strict=True)
    ]
