"""Stacks of thick slices of one body in several orientations: what one lacks, another measured.

A stack is resolved, the fine volume is brought to the voxels of another stack and averaged over its slices,
and compared with what that one measured. The truth has noise and a body that moved, so figures are
correlations: they rank methods and say nothing of decibels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  its own name for itself
from scipy import ndimage

import medrestore
from benchmarks.harness.common import run_method
from benchmarks.superres.methods import METHODS, Scan

CHOSEN = ("linear", "cubic", "ours")
GUIDE = "cubic"
"""Stacks are registered with its volume, and its agreement says where they show the same body."""

ACROSS = 5  # points over the width of a slice
WINDOW_MM = 6.0  # standard deviation of the window of local correlations
AGREES = 0.7  # local correlation from which both stacks show the same place
MARGIN_MM = 8.0  # left out at the ends of the resolved stack


@dataclass(frozen=True, eq=False)
class Stack:
    """A stack of slices; (X, Y, Z) voxels with the slices along the last axis."""

    name: str
    voxels: np.ndarray
    affine: np.ndarray

    @property
    def steps(self) -> np.ndarray:
        """Voxel sizes, in mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def as_scan(self, model: str) -> Scan:
        """What a method is given: contiguous slices, to be resolved to the size of their pixels."""
        factor = float(self.steps[2] / self.steps[0])
        planes = int(self.voxels.shape[2] * factor)
        return Scan(self.voxels, self.affine, 2, planes, factor, factor, "boxcar", 0.0, model)


def read_stack(path: Path) -> Stack:
    """Read a stack, its slices along the last axis."""
    volume = medrestore.read(path)
    return Stack(path.name, np.asarray(volume.array, dtype=np.float32), np.asarray(volume.geometry.affine))


def fine_affine(scan: Scan) -> np.ndarray:
    """Return the affine of the planes; the first slice begins with the first plane."""
    affine = scan.affine.copy()
    affine[:3, 2] /= scan.factor
    affine[:3, 3] -= affine[:3, 2] * (scan.factor - 1) / 2
    return affine


def measure(paths: list[Path], model: str) -> list[dict[str, Any]]:
    """Resolve every stack by every method, and compare with every other stack."""
    stacks = [read_stack(path) for path in paths]
    runs: list[dict[str, Any]] = []
    for one in stacks:
        scan = one.as_scan(model)
        given = {key: value for key, value in asdict(scan).items() if key != "notes"}
        fine = {method: run_method("superres", method, given)[0] for method in CHOSEN}
        for other in (two for first, two in permutations(stacks, 2) if first is one):
            runs += compare(one, other, fine, fine_affine(scan))
    return runs


def compare(
    one: Stack, other: Stack, fine: dict[str, np.ndarray], affine: np.ndarray
) -> list[dict[str, Any]]:
    """Compare the resolved volumes of `one` with what `other` measured."""
    moved = register(fine[GUIDE], affine, other)
    seen = {method: sliced(volume, affine, other, moved) for method, volume in fine.items()}
    where = shared(seen[GUIDE], other, covered(fine[GUIDE].shape, affine, other, moved))
    axis = int(np.argmax(abs(other.affine[:3, :2].T / other.steps[:2, None] @ affine[:3, 2])))
    width = float(one.steps[2] / other.steps[axis])
    runs = []
    for method, image in seen.items():
        detail, truth = (finer(array, axis, width) for array in (image, other.voxels))
        runs.append(
            {
                "stack": one.name,
                "measured": other.name,
                "title": METHODS[method].title,
                "voxels": int(where.sum()),
                "correlation": float(np.corrcoef(image[where], other.voxels[where])[0, 1]),
                "detail": float(np.corrcoef(detail[where], truth[where])[0, 1]),
                "strength": float(detail[where].std() / truth[where].std()),
            }
        )
    return runs


def finer(image: np.ndarray, axis: int, width: float) -> np.ndarray:
    """What of an image is finer along an axis than slices of so many voxels: all but their moving average."""
    size = max(round(width) // 2 * 2 + 1, 3)
    return image - ndimage.uniform_filter1d(image, size, axis=axis)


def register(volume: np.ndarray, affine: np.ndarray, other: Stack) -> np.ndarray:
    """Return the (4, 4) rigid motion in RAS+ mm from points of `other` to points of the volume."""
    fixed, moving = as_image(other.voxels, other.affine), as_image(volume, affine)
    start = sitk.Euler3DTransform()
    start.SetCenter(fixed.TransformContinuousIndexToPhysicalPoint([n / 2 for n in fixed.GetSize()]))
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(48)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, 200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([4, 1])
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)
    points = np.vstack([np.zeros(3), np.eye(3)])
    ends = np.array([start.TransformPoint((point * [-1, -1, 1]).tolist()) for point in points]) * [-1, -1, 1]
    motion = np.eye(4)
    motion[:3, 3] = ends[0]
    motion[:3, :3] = (ends[1:] - ends[0]).T
    return motion


def as_image(voxels: np.ndarray, affine: np.ndarray) -> sitk.Image:
    """Turn an array and its affine into an image of SimpleITK, which knows LPS+ mm."""
    return medrestore.Volume.from_array(voxels, affine).to_sitk()


def sliced(volume: np.ndarray, affine: np.ndarray, other: Stack, motion: np.ndarray) -> np.ndarray:
    """Measure the slices of `other` in a volume: the mean over the width of each."""
    total = np.zeros(other.voxels.shape, dtype=np.float32)
    for shift in (np.arange(ACROSS) - (ACROSS - 1) / 2) / ACROSS:
        at = places(affine, other, motion, shift)
        total += ndimage.map_coordinates(volume, at, order=3, mode="nearest")
    return total / ACROSS


def places(affine: np.ndarray, other: Stack, motion: np.ndarray, shift: float = 0.0) -> np.ndarray:
    """Return (3, X, Y, Z): where the voxels of `other`, moved by a part of a slice, lie in the volume."""
    grid = np.indices(other.voxels.shape, dtype=np.float64)
    grid[2] += shift
    way = np.linalg.inv(affine) @ motion @ other.affine
    return np.einsum("ij,jxyz->ixyz", way[:3, :3], grid) + way[:3, 3, None, None, None]


def covered(shape: tuple[int, ...], affine: np.ndarray, other: Stack, motion: np.ndarray) -> np.ndarray:
    """Tell which voxels of `other` lie within the volume, away from its borders."""
    at, steps = places(affine, other, motion), np.linalg.norm(affine[:3, :3], axis=0)
    inside = np.ones(other.voxels.shape, dtype=bool)
    for axis, size in enumerate(shape):
        margin = MARGIN_MM / steps[axis]
        inside &= (at[axis] > margin) & (at[axis] < size - 1 - margin)
    return inside


def shared(image: np.ndarray, other: Stack, inside: np.ndarray) -> np.ndarray:
    """Tell where two stacks show the same tissue at the same place: their local correlation says so."""
    width = WINDOW_MM / other.steps

    def smooth(array: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(array, width)

    one, two = image.astype(np.float64), other.voxels.astype(np.float64)
    means = smooth(one), smooth(two)
    both = smooth(one * two) - means[0] * means[1]
    spread = [np.maximum(smooth(a**2) - m**2, 1e-6) for a, m in zip((one, two), means, strict=True)]
    tissue = means[1] > 0.2 * np.percentile(two, 99)
    return inside & tissue & (both / np.sqrt(spread[0] * spread[1]) > AGREES)
