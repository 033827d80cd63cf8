"""Training pairs: clean patches from scans and label maps, and the degradation that the model is to undo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, signal

from medrestore.training.config import AugmentationOptions
from medrestore.training.contrast import (
    random_bias_field,
    random_blur,
    random_orientation,
    random_tone_curve,
    synthesise,
)
from medrestore.training.degrade import Degrade
from medrestore.types import FloatArray, RealArray


@dataclass(frozen=True)
class Batch:
    """Training pairs, all (B, 1, X, Y, Z) float32 but `sigma`, (B,), and `details`, (B, D)."""

    clean: FloatArray
    scan: FloatArray
    gain: FloatArray
    sigma: FloatArray
    details: FloatArray


class PatchSampler:
    """Draws batches from volumes in memory; a batch is a function of its seed alone.

    Args:
        scans: Clean volumes (X, Y, Z) in units of their 99th percentile.
        labels: Label maps (X, Y, Z).
        patch: Side of the cubic patches in voxels.
        augmentation: What is done to the clean patch.
        degrade: Makes the scan from it.
    """

    def __init__(
        self,
        scans: list[FloatArray],
        labels: list[RealArray],
        patch: int,
        augmentation: AugmentationOptions,
        degrade: Degrade,
    ) -> None:
        self.scans = [scan.astype(np.float16) for scan in scans]
        # Less than in proportion: large scans are seen more often, many small ones keep their variety.
        weight = np.array([scan.size for scan in scans]) ** 0.75
        self.weight = weight / weight.sum()
        self.labels = labels
        self.patch = patch
        self.augmentation = augmentation
        self.degrade = degrade

    def batch(self, size: int, seed: tuple[int, ...]) -> Batch:
        """Draw `size` pairs."""
        rng = np.random.default_rng(seed)
        clean = [self._clean(rng) for _ in range(size)]
        made = [self.degrade(patch, rng) for patch in clean]
        return Batch(
            clean=np.stack(clean)[:, None],
            scan=np.stack([d.scan for d in made])[:, None],
            gain=np.stack([d.gain for d in made])[:, None],
            sigma=np.array([d.sigma for d in made], dtype=np.float32),
            details=np.array([d.details for d in made], dtype=np.float32),
        )

    def _clean(self, rng: np.random.Generator) -> FloatArray:
        options = self.augmentation
        if self.labels and rng.random() < options.synthetic:
            patch = synthesise(self.labels[rng.integers(len(self.labels))], self.patch, rng)
        else:
            patch = self._crop(rng)
            if rng.random() < options.tone_curve:
                patch = random_tone_curve(patch, rng)
            if rng.random() < options.blur:
                patch = random_blur(patch, rng)
        patch = random_orientation(patch, rng)
        if rng.random() < options.bias_field:
            patch = patch * random_bias_field(patch.shape, rng)
        return np.ascontiguousarray(patch * np.float32(np.exp(rng.normal(0, options.scale))))

    def _crop(self, rng: np.random.Generator) -> FloatArray:
        """Cut a patch that is mostly head: air teaches little and there is much of it."""
        scan = self.scans[rng.choice(len(self.scans), p=self.weight)]
        patch = self._window(scan, rng)
        for _ in range(3):
            if np.mean(patch[::4, ::4, ::4] > 0.12) > 0.25:
                break
            patch = self._window(scan, rng)
        padding = [(0, self.patch - n) for n in patch.shape]
        if any(after for _, after in padding):
            patch = np.pad(patch, padding, mode="symmetric")
        return patch.astype(np.float32)

    def _window(self, scan: RealArray, rng: np.random.Generator) -> RealArray:
        start = [int(rng.integers(0, max(n - self.patch, 0) + 1)) for n in scan.shape]
        return scan[tuple(slice(a, a + self.patch) for a in start)]


def at_spacing(volume: FloatArray, spacing: tuple[float, ...], target: float) -> FloatArray:
    """Lower the resolution of the axes that are finer than `target` mm by cropping their spectrum.

    This is what a scanner with a coarser matrix would have measured, and it keeps the noise white.
    """
    for axis, step in enumerate(spacing):
        size = round(volume.shape[axis] * step / target)
        if size < 0.97 * volume.shape[axis]:
            volume = np.asarray(signal.resample(volume, size, axis=axis), dtype=np.float32)
    return np.maximum(volume, 0)


def in_slices(volume: FloatArray, spacing: tuple[float, ...], thickness: float, axis: int) -> FloatArray:
    """Average neighbouring planes along an axis into slices of about `thickness` mm."""
    count = round(thickness / spacing[axis])
    planes = np.moveaxis(volume, axis, 0)
    planes = planes[: len(planes) // count * count]
    slices = planes.reshape(-1, count, *planes.shape[1:]).mean(axis=1)
    return np.ascontiguousarray(np.moveaxis(slices, 0, axis))


def trim_air(volume: FloatArray, margin: int = 8, threshold: float = 0.08) -> FloatArray:
    """Cut the volume to the box of what is brighter than `threshold`, plus a margin in voxels."""
    inside = ndimage.binary_opening(volume > threshold, iterations=2)
    if not inside.any():
        return volume
    box = ndimage.find_objects(inside.astype(np.uint8))[0]
    return volume[tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in box)]
