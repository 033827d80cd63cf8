"""What a model may be given: scans whole and in part, acquired otherwise, and what is no such scan.

A change takes a scan and a source of randomness, and returns what it becomes. What `SAME` makes of a scan a
model for its modality knows; what `changes` make of it, it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from medrestore.geometry import Geometry
from medrestore.noise.intensity import bright_level
from medrestore.physics.ct_noise import COARSE_MM, WATER, Beam, bins_for, line_integrals
from medrestore.physics.ct_reconstruction import KERNELS, Grid, back_project, filter_views
from medrestore.physics.mr_noise import add_rician
from medrestore.training.contrast import random_bias_field, random_tone_curve

CROP, SLAB = 96, 20
CROPS = 3
Scan = tuple[np.ndarray, Geometry]
Change = Callable[[Scan, np.random.Generator], Scan]

PICTURES = {
    "fit": ("coins", "page", "moon", "coffee", "brick", "grass", "clock", "cell", "retina", "horse"),
    "test": ("camera", "astronaut", "chelsea", "text", "gravel", "rocket", "hubble_deep_field"),
}
"""Pictures of scikit-image: limits are set with some, and counted with others."""


def _values(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda scan, _: (change(scan[0].astype(np.float32)), scan[1])


def _lie(factor: float, *axes: int) -> Change:
    def apply(scan: Scan, _: np.random.Generator) -> Scan:
        affine = scan[1].affine.copy()
        affine[:3, list(axes)] *= factor
        return scan[0], Geometry(scan[0].shape, affine)

    return apply


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _phase(scan: Scan, rng: np.random.Generator) -> Scan:
    phase = np.zeros(scan[0].shape, np.float32)
    for axis, side in enumerate(phase.shape):
        ramp = np.linspace(0, rng.uniform(2, 20), side, dtype=np.float32)
        phase += ramp.reshape(-1, *(1,) * (2 - axis))
    air = scan[0] < 0.1 * bright_level(scan[0])
    phase[air] = rng.uniform(0, 2 * np.pi, int(air.sum()))
    return np.mod(phase, np.float32(2 * np.pi)) - np.float32(np.pi), scan[1]


def _statistics(scan: Scan, rng: np.random.Generator) -> Scan:
    block = gaussian_filter(_normal((64, 64, 64), rng), rng.uniform(1.5, 4), mode="wrap")
    repeats = [-(-side // 64) for side in scan[0].shape]
    smooth = np.tile(block / block.std(), repeats)[tuple(slice(side) for side in scan[0].shape)]
    return np.where(scan[0] > 0.15 * bright_level(scan[0]), smooth, np.float32(0)), scan[1]


def _thresholded(scan: Scan, rng: np.random.Generator) -> Scan:
    """Make what is shown of a statistical map: what is above a threshold, 0 elsewhere."""
    array, grid = _statistics(scan, rng)
    return np.where(array > 1.0, array, np.float32(0)), grid


def _moved(scan: Scan, rng: np.random.Generator) -> Scan:
    noise = 0.03 * bright_level(scan[0]) * _normal(scan[0].shape, rng)
    return scan[0] - np.roll(scan[0], 3, axis=1).astype(np.float32) + noise, scan[1]


def _shuffled(scan: Scan, rng: np.random.Generator) -> Scan:
    return scan[0][:, :, rng.permutation(scan[0].shape[2])], scan[1]


def _noise(scan: Scan, rng: np.random.Generator) -> Scan:
    return 100 * np.abs(_normal(scan[0].shape, rng)), scan[1]


def _coloured_noise(scan: Scan, rng: np.random.Generator) -> Scan:
    block = gaussian_filter(_normal((96, 96, 64), rng), rng.uniform(0.7, 2.0), mode="wrap")
    return np.abs(block), Geometry(block.shape, np.diag([1.0, 1.0, 1.0, 1.0]))


def _picture(name: str, rng: np.random.Generator) -> np.ndarray:
    """Return a grey picture of 0 to 255, a part of it where it is large."""
    from skimage import color, data, transform  # noqa: PLC0415

    loaded = getattr(data, name)()
    grey = color.rgb2gray(loaded[..., :3]) if loaded.ndim == 3 else loaded
    resized = transform.resize(np.asarray(grey, np.float32), (192, 192), anti_aliasing=True)
    return np.asarray(resized / resized.max() * 255, np.float32)


def natural(kind: str, split: str) -> Change:
    """Return what makes a volume of pictures: one repeated, several in turn, or one that moves on."""

    def apply(scan: Scan, rng: np.random.Generator) -> Scan:
        names = rng.permutation(PICTURES[split])
        first = _picture(str(names[0]), rng)
        if kind == "repeated":
            planes = [first[:128, :128]] * 64
        elif kind == "in turn":
            pictures = [_picture(str(name), rng)[:128, :128] for name in names[:6]]
            planes = [pictures[index] for index in rng.integers(len(pictures), size=64)]
        else:
            planes = [first[at : at + 128, at : at + 128] for at in range(64)]
        array = np.stack(planes, axis=-1)
        return array, Geometry(array.shape, np.eye(4))

    return apply


def _coarse(scan: Scan, _: np.random.Generator) -> Scan:
    """Average to voxels of 3 mm, as those of functional and perfusion series."""
    return _resampled(scan, (3.0, 3.0, 3.0))


def _resampled(scan: Scan, spacing: tuple[float, float, float]) -> Scan:
    sizes = [max(new, 1e-3) for new in spacing]
    widths = [max(0.0, new / old - 1) / 2 for new, old in zip(sizes, scan[1].spacing, strict=True)]
    factors = [old / new for new, old in zip(sizes, scan[1].spacing, strict=True)]
    array = zoom(gaussian_filter(scan[0].astype(np.float32), widths), factors, order=1)
    affine = scan[1].affine.copy()
    affine[:3, :3] = affine[:3, :3] / np.asarray(factors)
    return array, Geometry(array.shape, affine)


def _spikes(scan: Scan, rng: np.random.Generator) -> Scan:
    """Add the stripes of one to three spikes in k-space."""
    array = scan[0].astype(np.float32)
    for _ in range(int(rng.integers(1, 4))):
        phase = np.float32(rng.uniform(0, 2 * np.pi))
        for axis, side in enumerate(array.shape):
            cycles = rng.uniform(0.1, 0.9) * rng.choice((-1, 1)) * np.pi if axis < 2 else 0.0
            ramp = np.arange(side, dtype=np.float32) * np.float32(
                np.rint(cycles * side / 2 / np.pi) * 2 * np.pi / side
            )
            phase = phase + ramp.reshape(-1, *(1,) * (2 - axis))
        array = array + np.float32(rng.uniform(0.03, 0.15) * bright_level(scan[0])) * np.cos(phase)
    return np.abs(array), scan[1]


def _metal(scan: Scan, rng: np.random.Generator) -> Scan:
    """Put rods of metal into a CT, with the streaks of rays that nothing passes."""
    array, grid = scan[0].astype(np.float32), scan[1]
    axis = int(np.argmax(grid.spacing)) if max(grid.spacing) > 1.2 * min(grid.spacing) else 2
    slices = np.moveaxis(array, axis, 2)[..., :24]
    sizes = [grid.spacing[other] for other in range(3) if other != axis]
    plane = Grid((slices.shape[0], slices.shape[1]), (sizes[0], sizes[1]))
    x, y = plane.axes()
    body = np.argwhere(slices[..., slices.shape[2] // 2] > 0)
    metal = np.zeros(slices.shape[:2], bool)
    for _ in range(int(rng.integers(1, 4))):
        at = body[int(rng.integers(len(body)))] if len(body) else np.array([len(x) // 2, len(y) // 2])
        metal |= (x[:, None] - x[at[0]]) ** 2 + (y[None] - y[at[1]]) ** 2 < rng.uniform(3, 8) ** 2
    changed = slices.copy()
    changed[metal] = 8000.0
    beam = Beam(bin_mm=2 * COARSE_MM / 8, views=180)
    bins = bins_for(plane, beam)
    rays = line_integrals(changed / 1000 + 1, plane, beam, bins)
    most = float(np.percentile(rays[rays > 0], 97)) if (rays > 0).any() else 1.0
    seen = np.minimum(rays, most) + rng.normal(0, 0.3, rays.shape) * (rays > most)
    streaks = back_project(
        filter_views((seen - rays).astype(np.float32), KERNELS["soft"], beam.bin_mm), plane, beam.bin_mm
    )
    made = np.clip(changed + 1000 / np.float32(WATER) * streaks, -1500, 8000)
    affine = grid.affine.copy()
    whole = np.moveaxis(made, 2, axis)
    return whole, Geometry(whole.shape, affine)


def as_mr_of_a_body(scan: Scan, rng: np.random.Generator) -> Scan:
    """Give a CT of a body the brightness of MR: another organ than the head."""
    array = np.clip((scan[0].astype(np.float32) + 1000) / 1000, 0, 2.0)
    fat = np.exp(-(((array - 0.9) / 0.04) ** 2))
    made = array * np.float32(rng.uniform(0.2, 0.6)) + np.float32(rng.uniform(0, 1.0)) * fat
    made = np.where(array > 1.3, made * np.float32(rng.uniform(0.1, 0.5)), made) * np.float32(
        rng.uniform(100, 2000)
    )
    noisy = add_rician(made.astype(np.float32), np.float32(0.03 * bright_level(made)), rng)
    return noisy, scan[1]


def _noisy(scan: Scan, rng: np.random.Generator) -> Scan:
    level = rng.uniform(0.01, 0.1) * bright_level(scan[0])
    return add_rician(scan[0].astype(np.float32), np.float32(level), rng), scan[1]


def _other_contrast(scan: Scan, rng: np.random.Generator) -> Scan:
    bright = np.float32(bright_level(scan[0]))
    array = random_tone_curve(np.clip(scan[0].astype(np.float32) / bright, 0, 3), rng)
    return array * random_bias_field(array.shape, rng) * bright, scan[1]


def thick(scan: Scan, rng: np.random.Generator) -> Scan:
    """Return slices of 2.5 to 5 mm across an axis, averaged, fine in the plane."""
    spacing = list(scan[1].spacing)
    axis = int(rng.integers(3))
    spacing[axis] = max(spacing[axis], float(rng.uniform(2.5, 5.0)))
    return _resampled(scan, (spacing[0], spacing[1], spacing[2]))


def coarser(scan: Scan, rng: np.random.Generator) -> Scan:
    """Return the scan as one of larger voxels, 1.2 to 2 mm, and larger where they were."""
    x, y, z = np.maximum(scan[1].spacing, rng.uniform(1.2, 2.0)).tolist()
    return _resampled(scan, (x, y, z))


def _integers(scan: Scan, rng: np.random.Generator) -> Scan:
    top = np.float32(rng.choice((255, 1000, 4095)) / max(float(scan[0].max()), 1e-6))
    return np.rint(scan[0].astype(np.float32) * top), scan[1]


def _quieter(scan: Scan, rng: np.random.Generator) -> Scan:
    widths = [0.0 if size > 2 else 0.6 for size in scan[1].spacing]
    return gaussian_filter(scan[0].astype(np.float32), widths), scan[1]


def _ct_noisy(scan: Scan, rng: np.random.Generator) -> Scan:
    return scan[0] + np.float32(rng.uniform(10, 60)) * _normal(scan[0].shape, rng), scan[1]


SAME: dict[str, dict[str, Change]] = {
    "MR": {
        "noisy": _noisy,
        "other contrast": _other_contrast,
        "thick slices": thick,
        "whole numbers": _integers,
        "smoother": _quieter,
    },
    "CT": {"noisy": _ct_noisy, "thick slices": thick, "smoother": _quieter},
}
LIES: dict[str, Change] = {
    f"voxel size x {name}, {where}": _lie(factor, *axes)
    for name, factor in (("2", 2), ("3", 3), ("1/2", 1 / 2), ("1/3", 1 / 3))
    for where, axes in (("i", (0,)), ("j", (1,)), ("k", (2,)), ("all axes", (0, 1, 2)))
}


def _both(split: str) -> dict[str, Change]:
    return {
        "shuffled slices": _shuffled,
        "noise alone": _noise,
        "noise alone, coloured": _coloured_noise,
        "natural pictures, one repeated": natural("repeated", split),
        "natural pictures, several in turn": natural("in turn", split),
        "natural pictures, one that moves": natural("moving", split),
        **LIES,
    }


def changes(modality: str, split: str = "test") -> dict[str, Change]:
    """Return what makes of a scan of a modality what a model for it does not know, by kind."""
    if modality == "MR":
        return {
            "inverted": _values(lambda array: array.max() - array),
            "z-scored": _values(lambda array: (array - array.mean()) / array.std()),
            "statistical map": _statistics,
            "statistical map, thresholded": _thresholded,
            "phase": _phase,
            "difference of two scans": _moved,
            "averaged to voxels of 3 mm": _coarse,
            "spikes in k-space": _spikes,
            **_both(split),
        }
    return {
        "stored as HU + 1024": _values(lambda array: np.maximum(array + 1024, 0)),
        "inverted": _values(lambda array: -array),
        "metal streaks": _metal,
        **_both(split),
    }


def parts(scan: Scan, rng: np.random.Generator) -> Iterator[tuple[str, Scan]]:
    """Yield a scan whole, some crops with a body in them, and slabs across its coarsest and its last axis."""
    array, grid = scan
    yield "whole", scan
    low, high = np.percentile(array[::4, ::4, ::2], (10, 75))
    crops = 0
    for _ in range(40):
        size = [min(CROP, side) for side in array.shape]
        start = [int(rng.integers(side - cut + 1)) for side, cut in zip(array.shape, size, strict=True)]
        box = tuple(slice(at, at + cut) for at, cut in zip(start, size, strict=True))
        if np.mean(array[box] > (low + high) / 2) > 0.2 and crops < CROPS:
            crops += 1
            yield "crop", (array[box], grid.cropped(box))
    for axis in {int(np.argmax(grid.spacing)), 2}:
        side = array.shape[axis]
        if side > SLAB:
            for start in {(side - SLAB) // 2, (side - SLAB) // 3}:
                cut = [slice(None)] * 3
                cut[axis] = slice(start, start + SLAB)
                yield "slab", (array[tuple(cut)], grid.cropped(cut))
