"""Computed anatomy for CT: bodies and heads in HU, free of noise. Arrays are float32 of axis order (X, Y, Z).

They teach what uniform tissue looks like without noise, which no real scan shows; not what
patients look like.
HU of tissues: Hounsfield values as tabulated in radiology text books, spread at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medrestore.types import BoolArray, Float64Array, FloatArray, RealArray

HEAD_MM = 1.25
"""Voxel of the heads that are made of label maps of 1 mm."""

BRAIN = {
    **{2: 29.0, 7: 29.0, 16: 32.0, 28: 33.0},
    **{3: 38.0, 8: 38.0, 10: 36.0, 11: 40.0, 12: 38.0, 13: 37.0, 17: 37.0, 18: 37.0, 26: 38.0},
    **{4: 6.0, 5: 6.0, 14: 6.0, 15: 6.0, 31: 45.0},
}
"""HU by the labels of FreeSurfer: white matter, grey matter, fluid."""


@dataclass(frozen=True)
class Phantom:
    """A volume.

    Attributes:
        hu: (X, Y, Z) in HU.
        spacing: Voxel sizes in mm.
    """

    hu: FloatArray
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class Canvas:
    """A volume that is painted on, with the warped position of each voxel in mm."""

    hu: FloatArray
    position: tuple[FloatArray, FloatArray, FloatArray]
    spacing: tuple[float, float, float]
    rng: np.random.Generator

    def ellipsoid(self, centre: tuple[float, ...], radii: tuple[float, ...]) -> BoolArray:
        """Tell which voxels are within an ellipsoid, in warped space."""
        parts = [np.square((axis - c) / r) for axis, c, r in zip(self.position, centre, radii, strict=True)]
        return np.asarray(parts[0] + parts[1] + parts[2] < 1)

    def blob(
        self,
        centre: tuple[float, ...],
        radii: tuple[float, ...],
        value: float,
        within: BoolArray | None = None,
    ) -> None:
        """Paint a small ellipsoid; the box around it is all that is looked at."""
        box = tuple(
            slice(max(int((c - r - WARP) / d + n / 2), 0), max(int((c + r + WARP) / d + n / 2) + 2, 0))
            for c, r, d, n in zip(centre, radii, self.spacing, self.hu.shape, strict=True)
        )
        parts = [
            np.square((axis[box] - c) / r) for axis, c, r in zip(self.position, centre, radii, strict=True)
        ]
        inside = parts[0] + parts[1] + parts[2] < 1
        if within is not None:
            inside &= within[box]
        self.hu[box][inside] = value

    def tube(self, start: Float64Array, radius: float, value: float, within: BoolArray, length: int) -> None:
        """Paint a vessel that wanders and thins."""
        direction = self.rng.normal(size=3)
        at = np.array(start, dtype=np.float64)
        for _ in range(length):
            direction += self.rng.normal(0, 0.25, 3)
            direction /= np.linalg.norm(direction)
            at += direction * max(radius, 1.0)
            radius *= 0.985
            self.blob(tuple(at), (radius, radius, max(radius, self.spacing[2] / 2)), value, within)


WARP = 12.0
"""Largest displacement in mm that positions are warped by."""


def smooth_noise(shape: tuple[int, ...], width: tuple[float, ...], rng: np.random.Generator) -> FloatArray:
    """Return a random field of unit deviation and of a Gaussian correlation of `width` voxels."""
    coarse = [max(int(n / max(w / 2, 1)) + 2, 4) for n, w in zip(shape, width, strict=True)]
    field = rng.standard_normal(coarse).astype(np.float32)
    field = ndimage.gaussian_filter(field, [min(w, 2.0) for w in width], mode="wrap")
    field = ndimage.zoom(
        field, [n / c for n, c in zip(shape, coarse, strict=True)], order=1, grid_mode=True, mode="nearest"
    )
    return np.asarray(field / field.std(), dtype=np.float32)


def canvas(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], rng: np.random.Generator
) -> Canvas:
    """Return an empty canvas, air all over, its middle at 0."""
    grids = np.meshgrid(
        *((np.arange(n, dtype=np.float32) - n / 2) * d for n, d in zip(shape, spacing, strict=True)),
        indexing="ij",
    )
    width = tuple(35 / d for d in spacing)
    x, y, z = (
        grid + np.clip(4 * smooth_noise(shape, width, rng), -WARP, WARP).astype(np.float32) for grid in grids
    )
    return Canvas(np.full(shape, -1000, dtype=np.float32), (x, y, z), spacing, rng)


def torso(rng: np.random.Generator) -> Phantom:
    """Make a slab of a chest or an abdomen."""
    pixel, thickness = float(rng.uniform(0.9, 1.6)), float(rng.choice((1.25, 2.0, 3.0, 5.0)))
    half = (float(rng.uniform(130, 180)), float(rng.uniform(90, 125)))
    shape = (int(2 * half[0] / pixel) + 12, int(2 * half[1] / pixel) + 30, 56)
    art = canvas(shape, (pixel, pixel, thickness), rng)
    fat, muscle = rng.normal(-100, 8), rng.normal(55, 6)
    rind = float(rng.uniform(6, 30))
    long = 1e4
    body = art.ellipsoid((0, 0, 0), (half[0] - 8, half[1] - 8, long))
    wall = art.ellipsoid((0, 0, 0), (half[0] - 8 - rind, half[1] - 8 - rind, long))
    inner = (half[0] - 26 - rind, half[1] - 24 - rind)
    cavity = art.ellipsoid((0, -4, 0), (*inner, long))
    art.hu[body] = 40
    skin = 2.5
    art.hu[art.ellipsoid((0, 0, 0), (half[0] - 8 - skin, half[1] - 8 - skin, long))] = fat
    art.hu[wall] = muscle
    for _ in range(30):  # fat between the muscles
        art.blob(_near(rng, (half[0], half[1], 200)), tuple(rng.uniform(2, 25, 3)), fat, wall & ~cavity)
    contrast = float(rng.choice((0.0, rng.uniform(60, 350))))
    (_chest if rng.random() < 0.45 else _abdomen)(art, cavity, inner, contrast)
    _ribs(art, (half[0] - 14 - rind, half[1] - 14 - rind))
    _spine(art, (0.0, -inner[1] + 8), contrast)
    return finished(art, body)


def _near(rng: np.random.Generator, extent: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(rng.uniform(-e, e)) for e in extent)


def _chest(art: Canvas, cavity: BoolArray, inner: tuple[float, float], contrast: float) -> None:
    """Paint lungs, heart and vessels."""
    rng = art.rng
    art.hu[cavity] = rng.normal(-95, 10)
    lung = np.zeros_like(cavity)
    for side in (-1, 1):
        lung |= art.ellipsoid((side * inner[0] * 0.52, 0, 0), (inner[0] * 0.5, inner[1] * 0.9, 260))
    lung &= cavity
    texture = smooth_noise(art.hu.shape, (1.2, 1.2, 1.0), rng)
    art.hu[lung] = rng.normal(-850, 30) + 18 * texture[lung]
    for _ in range(60):
        start = np.array([*_near(rng, (inner[0] * 0.8, inner[1] * 0.6, 80))])
        art.tube(start, float(rng.uniform(0.8, 4)), 40 + contrast * rng.uniform(0.3, 1), lung, 45)
    heart = art.ellipsoid((0.1 * inner[0], 12, -20), (inner[0] * 0.36, inner[1] * 0.5, 70)) & cavity
    art.hu[heart] = rng.normal(55, 5) + 0.35 * contrast
    for _ in range(4):
        blood = 45 + contrast * rng.uniform(0.6, 1.1)
        art.blob(_near(rng, (30, 25, 50)), tuple(rng.uniform(12, 24, 3)), blood, heart)
    art.blob((15, -inner[1] + 38, 0), (13, 13, 1e3), 45 + contrast)
    lesions(art, lung, 12, (-700, 80))


def _abdomen(art: Canvas, cavity: BoolArray, inner: tuple[float, float], contrast: float) -> None:
    """Paint liver, spleen, kidneys, bowel and vessels in fat."""
    rng = art.rng
    art.hu[cavity] = rng.normal(-102, 8)
    liver = art.ellipsoid((-0.45 * inner[0], 8, 0), (0.6 * inner[0], 0.8 * inner[1], 110)) & cavity
    spleen = art.ellipsoid((0.7 * inner[0], -18, 0), (0.25 * inner[0], 0.4 * inner[1], 60)) & cavity
    art.hu[liver] = rng.normal(58, 10) + 0.25 * contrast
    art.hu[spleen] = rng.normal(48, 5) + 0.3 * contrast
    for _ in range(14):
        start = np.array([-0.45 * inner[0], 8, 0]) + rng.normal(0, 20, 3)
        art.tube(start, float(rng.uniform(1.5, 6)), 40 + 0.5 * contrast, liver, 40)
    lesions(art, liver | spleen, 25, (-60, 60))
    for side in (-1, 1):
        place, size = (side * 0.42 * inner[0], -0.45 * inner[1], 0.0), (26.0, 22.0, 55.0)
        art.blob(place, size, rng.normal(34, 4) + 0.7 * contrast, cavity)
        art.blob((place[0] - side * 8, *place[1:]), (12, 10, 40), -60, cavity)
    for _ in range(14):  # bowel: a wall, and within it fluid, gas or an oral agent
        at = (float(rng.uniform(-0.3, 0.8) * inner[0]), float(rng.uniform(-0.2, 0.8) * inner[1]), 0.0)
        at = (*at[:2], float(rng.uniform(-70, 70)))
        size = tuple(rng.uniform(8, 26, 3))
        art.blob(at, size, rng.normal(45, 6) + 0.3 * contrast, cavity & ~liver & ~spleen)
        content = float(rng.choice((12.0, 30.0, -850.0, rng.uniform(100, 350))))
        art.blob(at, tuple(s - 3 for s in size), content, cavity & ~liver & ~spleen)
    art.blob((8, -inner[1] + 34, 0), (10, 10, 1e3), 45 + contrast)
    art.blob((-14, -inner[1] + 34, 0), (11, 8, 1e3), 42 + 0.5 * contrast)


def lesions(art: Canvas, within: BoolArray, count: int, contrast: tuple[float, float]) -> None:
    """Paint small ellipsoids that are brighter or darker than what is there."""
    where = np.argwhere(within)
    if not len(where):
        return
    for _ in range(count):
        index = where[art.rng.integers(len(where))]
        centre = tuple(float(axis[tuple(index)]) for axis in art.position)
        size = float(np.exp(art.rng.uniform(np.log(1.5), np.log(12))))
        value = float(art.hu[tuple(index)] + art.rng.uniform(*contrast))
        art.blob(centre, tuple(size * art.rng.uniform(0.7, 1.4, 3)), value, within)


def _spine(art: Canvas, at: tuple[float, float], contrast: float) -> None:
    """Paint vertebrae, discs between them, the canal and the arch."""
    rng = art.rng
    column = art.ellipsoid((*at, 0), (21, 16, 1e4))
    level = (art.position[2] + rng.uniform(0, 30)) % 32
    bone = column & (level > 6)
    art.hu[column] = 80
    trabeculae = smooth_noise(art.hu.shape, (1.0, 1.0, 1.0), rng)
    art.hu[bone] = rng.uniform(120, 280) + 45 * trabeculae[bone] + 0.1 * contrast
    shell = column & ~art.ellipsoid((*at, 0), (19.3, 14.3, 1e4))
    art.hu[shell & (level > 6)] = rng.uniform(450, 900)
    art.hu[column & (level > 6) & (level < 8)] = rng.uniform(300, 600)
    arch = art.ellipsoid((at[0], at[1] - 26, 0), (22, 14, 1e4)) & (level > 12)
    art.hu[arch] = rng.uniform(350, 800)
    art.hu[art.ellipsoid((at[0], at[1] - 23, 0), (10, 8, 1e4))] = 25
    for side in (-1, 1):
        art.blob((at[0] + side * 36, at[1] - 20, 0), (22, 20, 1e3), rng.normal(58, 5))


def _ribs(art: Canvas, radii: tuple[float, float]) -> None:
    """Paint slanted ribs along the wall."""
    rng = art.rng
    _, y, z = art.position
    outer = art.ellipsoid((0, 0, 0), (radii[0], radii[1], 1e4))
    inner = art.ellipsoid((0, 0, 0), (radii[0] - 9, radii[1] - 9, 1e4))
    phase = (z + 0.5 * y + rng.uniform(0, 30)) % 27
    rib = outer & ~inner & (phase < 12)
    art.hu[rib] = rng.uniform(500, 1000)
    core = art.ellipsoid((0, 0, 0), (radii[0] - 2, radii[1] - 2, 1e4))
    core &= ~art.ellipsoid((0, 0, 0), (radii[0] - 7, radii[1] - 7, 1e4))
    art.hu[core & (phase > 2) & (phase < 10)] = rng.uniform(150, 350)


def head(labels: RealArray, rng: np.random.Generator) -> Phantom:
    """Make a head around a brain.

    Args:
        labels: (X, Y, Z) labels of FreeSurfer at 1 mm, as in `BRAIN`; others are made like grey matter.
        rng: Source of randomness.
    """
    index = [np.arange(0, n + 40, HEAD_MM).astype(int) for n in labels.shape]
    maps = np.pad(labels, 20)[np.ix_(*index)]
    art = canvas(maps.shape, (HEAD_MM,) * 3, rng)
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(maps > 0, iterations=5))
    depth = ndimage.distance_transform_edt(~brain) * HEAD_MM + smooth_noise(maps.shape, (12, 12, 12), rng)
    fluid, inner = rng.uniform(1, 4), rng.uniform(5, 9)
    scalp = fluid + inner + rng.uniform(5, 10)
    bone = rng.uniform(900, 1500)
    diploe = 120 * smooth_noise(maps.shape, (1, 1, 1), rng) + rng.uniform(300, 700)
    art.hu[depth < scalp] = rng.normal(40, 8)
    art.hu[depth < scalp - 2] = rng.normal(-95, 8)
    art.hu[depth < fluid + inner + rng.uniform(0, 3)] = rng.normal(55, 6)
    art.hu[depth < fluid + inner] = bone
    marrow = (depth > fluid + 2) & (depth < fluid + inner - 2)
    art.hu[marrow] = diploe[marrow]
    art.hu[depth < fluid] = 8
    contrast = rng.uniform(0.7, 1.3)
    for label in np.unique(maps[maps > 0]):
        art.hu[maps == label] = 30 + contrast * (BRAIN.get(int(label), 38.0) - 30) + rng.normal(0, 1)
    lesions(art, brain & (maps > 0), 20, (-25, 45))
    for _ in range(8):  # sinuses
        art.blob(
            _near(rng, (25, 80, 80)),
            tuple(rng.uniform(4, 14, 3)),
            -1000,
            (depth > fluid + 1) & (depth < scalp),
        )
    return finished(art, depth < scalp)


def finished(art: Canvas, body: BoolArray) -> Phantom:
    """Add the faint texture that tissue has, a table beneath, and the blur of a scanner."""
    rng = art.rng
    texture = smooth_noise(art.hu.shape, (2, 2, 1.5), rng) * rng.uniform(0, 4)
    texture *= ndimage.gaussian_filter(rng.integers(0, 2, art.hu.shape).astype(np.float32), 6) > 0.5
    art.hu[body] += texture[body]
    width = rng.uniform(0.35, 0.75)
    blurred = ndimage.gaussian_filter(art.hu, (width, width, rng.uniform(0, 0.6)))
    return Phantom(np.asarray(blurred, dtype=np.float32), art.spacing)
