"""What models are tried on: computed heads as a scanner would measure them, and scans that are given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

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
from medrestore.testing.outcome import NotTriedError
from medrestore.testing.phantoms import WATER_HU, Phantom, flat, head
from medrestore.testing.shown import VOLUMES, before_noise, course, volumes
from medrestore.types import LEAST_HU, BoolArray, FloatArray, Modality, Task
from medrestore.volume import Volume

TYPICAL = {Modality.CT: 0.025, Modality.MR: 0.05}
"""Noise that is put in, as a fraction of the attenuation of water or of the 99th percentile of the scan:
25 HU, or a noisy scan of a head. A model that was not made for it gets the nearest that it was made for."""

CLEAR = 3.0
"""Noise above the floor of a magnitude from which it is Gaussian."""

LEAST_NOISE = 1e-3
"""Least of that: stands for the noise of a denoiser that declares none, and of slices that have none."""

IN_SLICES = 0.2
"""Part of that in thick slices, which have less."""

FEWEST_SLICES = 4
"""Fewer have no cubic spline, which results are compared with."""

FACTOR = 4.0
"""Distance of thick slices in voxels of the result, or the nearest that the model was made for."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What is there, and how it is measured.

    Attributes:
        name: For people.
        truth: (X, Y, Z) on the grid of the result; of a scan that is given, the scan itself, or the spline
            through its slices.
        measure: What a scanner would make of an image on the grid of the truth, in the noise of a number:
            the same noise every time.
        deep: Where lesions may lie.
        tissues: Uniform tissues, by name, away from their borders.
        regions: Where each tissue is up to its border, see `Phantom`; of a scan that is given none is known.
        sigma: Deviation of the noise, in the units of the scan; None where it is not known, as that of a scan
            which is given.
        reference: What fractions are relative to: the bright level of the scan, or that of water.
        shown: What a scan shows on the grid of the truth by itself: the spline through thick slices.
        floor: The least value that a scan can have: 0 for the magnitudes of MR.
        before_noise: What an image gives without noise, on the same grid: itself, unless the model undoes
            more than noise.
        volumes: How many scans the model is shown at once, see `course`.
        air: Where nothing is, of known value, as in a computed CT; None where none is known.
    """

    name: str
    truth: FloatArray
    measure: Callable[[FloatArray, int], Volume]
    deep: BoolArray
    tissues: Mapping[str, BoolArray] = field(default_factory=dict)
    regions: Mapping[str, BoolArray] = field(default_factory=dict)
    sigma: float | None = None
    reference: float = 1.0
    shown: Callable[[Volume], FloatArray] = lambda scan: np.asarray(scan.array)
    floor: float = 0.0
    before_noise: Callable[[FloatArray], FloatArray] = lambda image: image
    volumes: int = 1
    air: BoolArray | None = None

    @property
    def scan(self) -> Volume:
        """What a scanner would make of the truth."""
        return self.measure(self.truth, 0)

    def scans(self, image: FloatArray | None = None) -> tuple[Volume, ...]:
        """Return what the model is shown of an image, or of the truth: the scan of it lies in the middle."""
        count = self.volumes
        contents = course(self.truth, self.truth if image is None else image, count)
        return tuple(self.measure(one, (n - count // 2) % count) for n, one in enumerate(contents))


def is_ct(spec: ModelSpec) -> bool:
    """Whether a model is tried on CT."""
    return spec.modalities[0] is Modality.CT


def noise_fraction(spec: ModelSpec) -> float:
    """Return the noise that a model is tried with, see `TYPICAL`."""
    wanted = TYPICAL.get(spec.modalities[0], TYPICAL[Modality.MR])
    if spec.task is Task.SUPERRES:
        return float(np.clip(IN_SLICES * wanted, *spec.noise))
    return max(float(np.clip(wanted, *spec.noise)), LEAST_NOISE)


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

    def rng(self, number: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.seed, 105, number] if number else [self.seed, 105])


def _measured(spec: ModelSpec, phantom: Phantom, name: str, draw: _Draw) -> Scene:
    of_voxels = _of_ct if is_ct(spec) else _of_mr
    scene = (_in_slices if spec.task is Task.SUPERRES else of_voxels)(spec, phantom, name, draw)
    floor, planes = LEAST_HU if is_ct(spec) else 0.0, scene.truth.shape[2]
    regions = {name: where[..., :planes] for name, where in phantom.regions.items()}
    # The magnitudes of MR have another mean in air than what is there.
    air = phantom.air[..., :planes] if is_ct(spec) else None
    scene = replace(scene, reference=phantom.bright, floor=floor, regions=regions, air=air)
    return replace(scene, volumes=volumes(spec))


def _of_ct(spec: ModelSpec, phantom: Phantom, name: str, draw: _Draw) -> Scene:
    truth, size, kernel = phantom.voxels, spacing(spec), draw.colour or "soft"
    grid = Grid((truth.shape[0], truth.shape[1]), (size, size))
    sigma = draw.strength * noise_fraction(spec) * phantom.bright
    forward = before_noise(spec, (size,) * 3)

    @lru_cache(maxsize=VOLUMES)
    def noise(number: int) -> FloatArray:
        found = low_dose_noise(truth / WATER_HU + 1, grid, Dose(kernel=KERNELS[kernel]), draw.rng(number))
        return np.asarray(found * np.float32(sigma / found[phantom.deep].std()))

    def measure(image: FloatArray, number: int) -> Volume:
        return _volume(np.maximum(forward(image) + noise(number), LEAST_HU), spec)

    title = f"{name}, {kernel} kernel"
    return Scene(title, truth, measure, phantom.deep, phantom.tissues, sigma=sigma, before_noise=forward)


def _of_mr(spec: ModelSpec, phantom: Phantom, name: str, draw: _Draw) -> Scene:
    """Return a scene whose image and complex noise passed a window in k-space."""
    colour = COLOURS[draw.colour or "white"]
    sigma = draw.strength * noise_fraction(spec) * phantom.bright
    forward = before_noise(spec, (spacing(spec),) * 3)
    empty = np.zeros_like(phantom.voxels)

    @lru_cache(maxsize=VOLUMES)
    def noise(number: int) -> list[FloatArray]:
        rng = draw.rng(number)
        # The first draw is that of the image, whose noise is not used.
        return [simulate(empty, colour, sigma, rng).noise for _ in range(3)][1:]

    def measure(image: FloatArray, number: int) -> Volume:
        real, imaginary = noise(number)
        return _volume(np.hypot(forward(image) + real, imaginary), spec)

    truth = simulate(phantom.voxels, colour, 0.0, draw.rng()).clean
    title = f"{name}, {colour.title} noise"
    return Scene(title, truth, measure, phantom.deep, phantom.tissues, sigma=sigma, before_noise=forward)


def _volume(array: FloatArray, spec: ModelSpec, thickness: float = 1.0) -> Volume:
    size = spacing(spec)
    affine = np.diag([size, size, size * thickness, 1.0])
    return Volume.from_array(np.asarray(array, dtype=np.float32), affine, spec.modalities[0])


def _in_slices(spec: ModelSpec, phantom: Phantom, name: str, draw: _Draw) -> Scene:
    """Return a scene that is measured in thick slices along the last axis.

    Raises:
        NotTriedError: They are so thick that there are hardly any.
    """
    factor, side = slice_factor(spec), phantom.voxels.shape[2]
    slices = int(side / factor)
    if slices < FEWEST_SLICES:
        raise NotTriedError(
            f"{slices} slices {factor:g} voxels apart in {side} voxels; {FEWEST_SLICES} or more are tried"
        )
    planes = min(math.ceil(slices * factor - 1e-6), side)
    stack = SliceStack(planes, slices, factor, factor, first=(planes - 1) / 2 - factor * (slices - 1) / 2)
    sigma = draw.strength * noise_fraction(spec) * phantom.bright
    colour, rng = COLOURS[draw.colour or "white"], draw.rng()
    truth = np.ascontiguousarray(phantom.voxels[..., :planes])
    if draw.colour:
        truth = simulate(truth, colour, 0.0, rng).clean
    empty = np.zeros((side, side, slices), np.float32)
    real, imaginary = (simulate(empty, colour, sigma, rng).noise for _ in range(2))

    def measure(image: FloatArray, number: int) -> Volume:
        del number  # slices are no series
        seen = stack.forward(image) + real
        return _volume(seen if is_ct(spec) else np.hypot(seen, imaginary), spec, factor)

    return Scene(
        f"{name}, slices {factor:g} voxels apart" + (f", {colour.title} noise" if draw.colour else ""),
        truth,
        measure,
        phantom.deep[..., :planes],
        {tissue: mask[..., :planes] for tissue, mask in phantom.tissues.items()},
        sigma=sigma,
        shown=lambda scan: stack.interpolate(scan.array),
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
    if spec.task is Task.SUPERRES:
        truth, forward = _seen_through_slices(volume, array)
    else:
        truth, forward = array, before_noise(spec, volume.spacing)

    def measure(image: FloatArray, number: int) -> Volume:
        del number  # it has the noise that it has
        # What is added goes the way that the scan has gone; an operator leaves nothing where nothing is.
        return replace(volume, array=array + (forward(image) - forward(truth)))

    reference = WATER_HU if is_ct(spec) else bright_level(array)
    if reference <= 0 or array.min() == array.max():
        raise InputError(f"{name}: it holds one value alone; expected a scan")
    head = head_mask(truth)
    low, high = (-50.0, 120.0) if is_ct(spec) else (0.3 * reference, np.inf)
    calm = ndimage.gaussian_filter(truth, 1.5)
    tissue = ndimage.binary_erosion((calm > low) & (calm < high) & head, iterations=2)
    floor = LEAST_HU if is_ct(spec) else min(float(array.min()), 0.0)
    return Scene(name, truth, measure, tissue, {"tissue": tissue}, reference=reference, floor=floor)


def _seen_through_slices(
    volume: Volume, array: FloatArray
) -> tuple[FloatArray, Callable[[FloatArray], FloatArray]]:
    """Return the spline through thick slices, and what the slices measure of an image on its grid."""
    plan = plan_slices(volume, RestoreOptions())

    def forward(image: FloatArray) -> FloatArray:
        return plan.from_stack(plan.stack.forward(np.asarray(plan.to_stack(image))))

    return plan.from_stack(plan.stack.interpolate(np.asarray(plan.to_stack(array)))), forward
