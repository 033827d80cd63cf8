"""What models are tried on: computed heads as a scanner would measure them, and scans that are given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage

from medrestore.engine.tasks.slice_grid import plan_slices
from medrestore.errors import InputError
from medrestore.metrics import head_mask
from medrestore.noise.intensity import bright_level
from medrestore.options import RestoreOptions
from medrestore.physics.ct_noise import Dose, low_dose_noise
from medrestore.physics.ct_reconstruction import KERNELS, Grid
from medrestore.physics.mr_colour import COLOURS, simulate
from medrestore.physics.slices import SliceStack
from medrestore.plugin import ModelSpec
from medrestore.testing.phantoms import WATER_HU, Phantom, flat, head
from medrestore.types import LEAST_HU, BoolArray, FloatArray, Modality, Task
from medrestore.volume import Volume

TYPICAL = {Modality.CT: 0.025, Modality.MR: 0.05}
"""Noise that is put in, as a fraction of the attenuation of water or of the 99th percentile of the scan:
25 HU, or a noisy scan of a head. A model that was not made for it gets the nearest that it was made for."""

IN_SLICES = 0.2
"""Part of that in thick slices, which have less."""

FACTOR = 4.0
"""Distance of thick slices in voxels of the result, or the nearest that the model was made for."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What is there, and how it is measured.

    Attributes:
        name: For people.
        truth: (X, Y, Z) on the grid of the result; of a scan that is given, the scan itself, or the spline
            through its slices.
        measure: What a scanner would make of an image on the grid of the truth; every time with the same
            noise.
        deep: Where lesions may lie.
        tissues: Uniform tissues, by name.
        sigma: Deviation of the noise, in the units of the scan; None where it is not known, as that of a scan
            which is given.
        reference: What fractions are relative to: the bright level of the scan, or that of water.
        shown: What a scan shows on the grid of the truth by itself: the spline through thick slices.
        floor: The least value that a scan can have: 0 for the magnitudes of MR.
    """

    name: str
    truth: FloatArray
    measure: Callable[[FloatArray], Volume]
    deep: BoolArray
    tissues: Mapping[str, BoolArray] = field(default_factory=dict)
    sigma: float | None = None
    reference: float = 1.0
    shown: Callable[[Volume], FloatArray] = lambda scan: np.asarray(scan.array)
    floor: float = 0.0

    @property
    def scan(self) -> Volume:
        """What a scanner would make of the truth."""
        return self.measure(self.truth)


def is_ct(spec: ModelSpec) -> bool:
    """Whether a model is tried on CT."""
    return spec.modalities[0] is Modality.CT


def noise_fraction(spec: ModelSpec) -> float:
    """Return the noise that a model is tried with, see `TYPICAL`."""
    wanted = TYPICAL.get(spec.modalities[0], TYPICAL[Modality.MR])
    return float(np.clip(wanted * (IN_SLICES if spec.task is Task.SUPERRES else 1), *spec.noise))


def slice_factor(spec: ModelSpec) -> float:
    """Return the distance of slices that a model is tried with, in voxels of the result."""
    return float(np.clip(FACTOR, *(spec.factor or (FACTOR, FACTOR))))


def spacing(spec: ModelSpec) -> float:
    """Return the voxel size of computed scenes in mm: 1, or the nearest that the model was made for."""
    return float(np.clip(1.0, *spec.spacing_mm))


def computed(spec: ModelSpec, side: int, seed: int, colour: str = "", strength: float = 1.0) -> Scene:
    """Return a computed head.

    Args:
        spec: The model that it is for.
        side: Voxels along each axis of the result.
        seed: Of anatomy and noise.
        colour: Of the noise of MR, in `COLOURS`, of its slices one that has a window in their plane alone; or
            a kernel of CT, in `KERNELS`; the first of them where it is not given.
        strength: Of the noise, relative to `noise_fraction`.
    """
    return _measured(spec, head(side, is_ct(spec), seed), "computed head", _Draw(seed, colour, strength))


def nothing(spec: ModelSpec, side: int, seed: int, content: str) -> Scene:
    """Return a scene in which nothing but ``"tissue"`` or ``"air"`` is; other arguments as for `computed`."""
    return _measured(spec, flat(side, is_ct(spec), content), content, _Draw(seed))


@dataclass(frozen=True)
class _Draw:
    """Which noise."""

    seed: int
    colour: str = ""
    strength: float = 1.0

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, 105])


def _measured(spec: ModelSpec, phantom: Phantom, name: str, draw: _Draw) -> Scene:
    if spec.task is Task.SUPERRES:
        return _in_slices(spec, phantom, name, draw)
    return (_of_ct if is_ct(spec) else _of_mr)(spec, phantom, name, draw)


def _of_ct(spec: ModelSpec, phantom: Phantom, name: str, draw: _Draw) -> Scene:
    truth, size, kernel = phantom.voxels, spacing(spec), draw.colour or "soft"
    grid = Grid((truth.shape[0], truth.shape[1]), (size, size))
    noise = low_dose_noise(truth / WATER_HU + 1, grid, Dose(kernel=KERNELS[kernel]), draw.rng)
    sigma = draw.strength * noise_fraction(spec) * phantom.bright
    noise *= np.float32(sigma / noise[phantom.deep].std())

    def measure(image: FloatArray) -> Volume:
        return _volume(np.maximum(image + noise, LEAST_HU), spec)

    title = f"{name}, {kernel} kernel"
    return Scene(title, truth, measure, phantom.deep, phantom.tissues, sigma, phantom.bright, floor=LEAST_HU)


def _of_mr(spec: ModelSpec, phantom: Phantom, name: str, draw: _Draw) -> Scene:
    """Return a scene whose image and complex noise passed a window in k-space."""
    colour, rng = COLOURS[draw.colour or "white"], draw.rng
    truth = simulate(phantom.voxels, colour, 0.0, rng).clean
    sigma = draw.strength * noise_fraction(spec) * phantom.bright
    empty = np.zeros_like(truth)
    real, imaginary = (simulate(empty, colour, sigma, rng).noise for _ in range(2))

    def measure(image: FloatArray) -> Volume:
        return _volume(np.hypot(image + real, imaginary), spec)

    title = f"{name}, {colour.title} noise"
    return Scene(title, truth, measure, phantom.deep, phantom.tissues, sigma, phantom.bright)


def _volume(array: FloatArray, spec: ModelSpec, thickness: float = 1.0) -> Volume:
    size = spacing(spec)
    affine = np.diag([size, size, size * thickness, 1.0])
    return Volume.from_array(np.asarray(array, dtype=np.float32), affine, spec.modalities[0])


def _in_slices(spec: ModelSpec, phantom: Phantom, name: str, draw: _Draw) -> Scene:
    """Return a scene that is measured in thick slices along the last axis."""
    factor, side = slice_factor(spec), phantom.voxels.shape[2]
    slices = int(side / factor)
    planes = min(math.ceil(slices * factor - 1e-6), side)
    stack = SliceStack(planes, slices, factor, factor, first=(planes - 1) / 2 - factor * (slices - 1) / 2)
    sigma = draw.strength * noise_fraction(spec) * phantom.bright
    colour, rng = COLOURS[draw.colour or "white"], draw.rng
    truth = np.ascontiguousarray(phantom.voxels[..., :planes])
    if draw.colour:
        truth = simulate(truth, colour, 0.0, rng).clean
    empty = np.zeros((side, side, slices), np.float32)
    real, imaginary = (simulate(empty, colour, sigma, rng).noise for _ in range(2))

    def measure(image: FloatArray) -> Volume:
        seen = stack.forward(image) + real
        return _volume(seen if is_ct(spec) else np.hypot(seen, imaginary), spec, factor)

    return Scene(
        f"{name}, slices {factor:g} voxels apart" + (f", {colour.title} noise" if draw.colour else ""),
        truth,
        measure,
        phantom.deep[..., :planes],
        {tissue: mask[..., :planes] for tissue, mask in phantom.tissues.items()},
        sigma,
        phantom.bright,
        lambda scan: stack.interpolate(scan.array),
        LEAST_HU if is_ct(spec) else 0.0,
    )


def given(volume: Volume, spec: ModelSpec, name: str) -> Scene:
    """Return a scan that is given, with the noise that it has: it is its own truth.

    Args:
        volume: The scan.
        spec: The model that is tried on it.
        name: For people; no path, which may hold a person's name.

    Raises:
        InputError: It holds nothing but one value.
        GeometryError: It has no slices to resolve, and the model resolves slices.
    """
    array = np.asarray(volume.array, dtype=np.float32)
    truth, forward = _seen_through_slices(volume, array) if spec.task is Task.SUPERRES else (array, None)

    def measure(image: FloatArray) -> Volume:
        added = image - truth
        return replace(volume, array=array + (added if forward is None else forward(added)))

    reference = WATER_HU if is_ct(spec) else bright_level(array)
    if reference <= 0 or array.min() == array.max():
        raise InputError(f"{name}: it holds one value alone; expected a scan")
    head = head_mask(truth)
    low, high = (-50.0, 120.0) if is_ct(spec) else (0.3 * reference, np.inf)
    calm = ndimage.gaussian_filter(truth, 1.5)
    tissue = ndimage.binary_erosion((calm > low) & (calm < high) & head, iterations=2)
    floor = LEAST_HU if is_ct(spec) else min(float(array.min()), 0.0)
    return Scene(name, truth, measure, tissue, {"tissue": tissue}, None, reference, floor=floor)


def _seen_through_slices(
    volume: Volume, array: FloatArray
) -> tuple[FloatArray, Callable[[FloatArray], FloatArray]]:
    """Return the spline through thick slices, and what the slices measure of an image on its grid."""
    plan = plan_slices(volume, RestoreOptions())

    def forward(image: FloatArray) -> FloatArray:
        return plan.from_stack(plan.stack.forward(np.asarray(plan.to_stack(image))))

    return plan.from_stack(plan.stack.interpolate(np.asarray(plan.to_stack(array)))), forward
