"""Scans for a calibration: what a scanner would have made of a truth, with noise or in thick slices."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from medrestore.engine.tasks.slice_grid import SPARE
from medrestore.geometry import Geometry
from medrestore.noise.intensity import model_units
from medrestore.options import RestoreOptions
from medrestore.physics.ct_noise import along_z
from medrestore.physics.slices import SOFTNESS, SliceStack
from medrestore.plugin import Intensity, ModelSpec
from medrestore.provenance import Step
from medrestore.training.ct_noise import FLOOR, unit_noise
from medrestore.training.recipe import CtOptions
from medrestore.training.scanner import draw_kspace
from medrestore.types import FloatArray, Task
from medrestore.volume import Volume

SPAN = (1.5, 0.8)
"""From the least noise that a model was made for to the most, drawn from this far within."""

NOISY = 0.5
"""Share of thick slices that have noise."""

Simulate = Callable[[Volume, ModelSpec, np.random.Generator], "Simulated"]


@dataclass(frozen=True, eq=False)
class Simulated:
    """A scan with its truth.

    Attributes:
        scan: What is restored.
        truth: What a perfect result would be, on the grid of the result.
        options: By which the grid of the result is that of the truth.
    """

    scan: Volume
    truth: Volume
    options: RestoreOptions


def simulate(truth: Volume, spec: ModelSpec, rng: np.random.Generator) -> Simulated:
    """Make a scan of a truth such as the model is for.

    Args:
        truth: Without noise, or with little.
        spec: The model.
        rng: Source of randomness: level, colour or kernel of the noise, or distance and profile of slices.
    """
    if spec.task is Task.SUPERRES:
        return _thick(truth, spec, rng)
    return (_ct if spec.is_ct else _magnitude)(truth, spec, rng)


def what_noise(spec: ModelSpec, noise: tuple[float, float]) -> str:
    """Return, in words, what `simulate` does to scans for a model."""
    levels = f"{noise[0]:.1%} to {noise[1]:.1%}"
    if spec.task is Task.SUPERRES:
        low, high = _factors(spec)
        return (
            f"slices of {low:g} to {high:g} planes, boxcar, SLR and Gaussian, a third with gaps or overlap; "
            f"half of them with noise up to {noise[1]:.1%}{_in_slices(spec)}"
        )
    if spec.is_ct:
        return (
            f"low dose in projections, soft, standard and sharp kernels, {levels} of the attenuation of water"
        )
    kind = "Rician" if spec.intensity is Intensity.P99 else "Gaussian"
    colour = ", white and of random windows in k-space" if spec.colour else ", white"
    return f"{kind}{colour}, {levels} of the bright level"


def _in_slices(spec: ModelSpec) -> str:
    if spec.intensity is Intensity.P99:
        return ", half of it of random windows in k-space"
    return " of a low dose"


def noise_span(spec: ModelSpec) -> tuple[float, float]:
    """Return the least and the most noise that `simulate` draws for a model."""
    low, high = spec.noise[0] * SPAN[0], spec.noise[1] * SPAN[1]
    return (low, high) if low < high else spec.noise


def _level(spec: ModelSpec, rng: np.random.Generator) -> float:
    low, high = noise_span(spec)
    return float(np.exp(rng.uniform(np.log(max(low, 1e-4)), np.log(max(high, 1e-4)))))


def _magnitude(truth: Volume, spec: ModelSpec, rng: np.random.Generator) -> Simulated:
    """Add noise to an MR scan, through a window in k-space or not; else to anything."""
    units, clean = model_units(spec.intensity, truth.array), np.asarray(truth.array, np.float32)
    sigma = np.float32(_level(spec, rng) * units.reference)
    rician = spec.intensity is Intensity.P99 and clean.min() >= 0
    if spec.colour and rng.random() < NOISY:
        window = draw_kspace(clean.shape, rng)
        clean = window.scan(clean)
        real, imaginary = window.complex_noise(rng)
    else:
        real, imaginary = rng.standard_normal((2, *clean.shape), dtype=np.float32)
    scan = clean + sigma * real
    if rician:
        scan, clean = np.hypot(scan, sigma * imaginary), np.abs(clean)
    return _on_grid(truth, scan, clean)


def _ct(truth: Volume, spec: ModelSpec, rng: np.random.Generator) -> Simulated:
    """Add the noise of a low dose, as a reconstruction leaves it."""
    clean = np.asarray(truth.array, np.float32)
    field = _low_dose(clean, truth.spacing, rng)
    return _on_grid(truth, _stored(clean + np.float32(1000 * _level(spec, rng)) * field), clean)


def _low_dose(clean: FloatArray, spacing: tuple[float, ...], rng: np.random.Generator) -> FloatArray:
    """Return noise of unit deviation in the soft tissue of (X, Y, Z) Hounsfield units, of one kernel."""
    options = CtOptions()
    options = replace(options, kernels=(str(rng.choice(options.kernels)),))
    field = unit_noise(clean / np.float32(1000) + np.float32(1), spacing, options, rng)[0].astype(np.float32)
    return along_z(field, float(rng.uniform(0, options.helical))) if rng.random() < NOISY else field


def _stored(hounsfield: FloatArray) -> FloatArray:
    """Return Hounsfield units as most scanners store them, cut off below."""
    return np.maximum(hounsfield, np.float32(1000 * FLOOR - 1000))


def _on_grid(truth: Volume, scan: np.ndarray, clean: np.ndarray) -> Simulated:
    step = Step("simulate:noise")
    made = truth.with_array(np.asarray(scan, np.float32), step)
    return Simulated(made, truth.with_array(np.asarray(clean, np.float32), step), RestoreOptions())


def _first_planes(truth: Volume, planes: int) -> Volume:
    box = (slice(None), slice(None), slice(0, planes))
    return truth.on_grid(
        truth.array[box], truth.geometry.cropped(box), Step("simulate:cut", {"planes": planes})
    )


def _factors(spec: ModelSpec) -> tuple[float, float]:
    return (2.0, 4.0) if spec.factor is None else spec.factor


def _noisy_slices(
    slices: FloatArray, planes: FloatArray, sigma: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return slices with noise of some colour, each measured in its own plane, and the planes so measured."""
    window = None
    if rng.random() < NOISY:
        window = draw_kspace((*slices.shape[:2], 1), rng)
        slices, planes = window.scan(slices), np.abs(window.scan(planes))
    draw = rng.standard_normal((2, *slices.shape), dtype=np.float32)
    real, imaginary = draw if window is None else window.complex_noise(rng, slices.shape)
    return np.hypot(slices + np.float32(sigma) * real, np.float32(sigma) * imaginary), planes


def _thick(truth: Volume, spec: ModelSpec, rng: np.random.Generator) -> Simulated:
    """Average planes along the last axis to thick slices, with noise or without."""
    low, high = _factors(spec)
    profile, factor = str(rng.choice(sorted(SOFTNESS))), float(rng.uniform(low, high))
    width = factor * (float(rng.uniform(0.8, 1.2)) if rng.random() < 1 / 3 else 1.0)
    slices = max(math.floor(truth.shape[2] / factor), 2)
    planes = math.ceil(slices * factor - SPARE)
    truth = _first_planes(truth, planes)
    stack = SliceStack(
        planes, slices, factor, width, SOFTNESS[profile], (planes - 1) / 2 - factor * (slices - 1) / 2
    )
    units = model_units(spec.intensity, truth.array)
    clean = np.asarray(truth.array, np.float32)
    array = stack.forward(clean)
    if rng.random() < NOISY:
        sigma = float(np.exp(rng.uniform(np.log(0.005), np.log(noise_span(spec)[1])))) * units.reference
        if spec.intensity is Intensity.P99:
            array, clean = _noisy_slices(array, clean, sigma, rng)
        else:
            spacing = (*truth.spacing[:2], truth.spacing[2] * factor)
            array = _stored(array + np.float32(sigma) * _low_dose(array, spacing, rng))
    truth = truth.with_array(clean, Step("simulate:noise"))
    affine = truth.geometry.affine.copy()
    affine[:3, 3] += affine[:3, 2] * stack.first
    affine[:3, 2] *= factor
    scan = truth.on_grid(
        np.asarray(array, np.float32), Geometry(array.shape, affine), Step("simulate:slices")
    )
    size = truth.spacing[2]
    options = RestoreOptions(
        task=Task.SUPERRES,
        spacing=size,
        slice_axis="k",
        slice_profile=profile,  # type: ignore[arg-type]
        slice_thickness=width * size,
    )
    return Simulated(scan, truth, options)
