"""Training pairs: clean patches from scans and label maps, and the degradation that the model is to undo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medrestore.training.contrast import (
    DARK,
    random_bias_field,
    random_blur,
    random_lesions,
    random_orientation,
    random_tone_curve,
    synthesise,
)
from medrestore.training.corpus import Corpus
from medrestore.training.degrade import Degrade
from medrestore.training.place import Place
from medrestore.training.recipe import AugmentationOptions, LoopOptions
from medrestore.types import FloatArray, RealArray


class Batch(NamedTuple):
    """Training pairs, all (B, 1, X, Y, Z) float32 but `sigma`, (B,), and `details`, (B, D)."""

    clean: Tensor
    scan: Tensor
    gain: Tensor
    sigma: Tensor
    details: Tensor


class PatchSampler:
    """Draws batches from volumes in memory; a batch is a function of its seed alone.

    Args:
        data: Clean volumes and label maps.
        patch: Side of the cubic patches in voxels.
        augmentation: What is done to the clean patch.
        degrade: Makes the scan from it.
    """

    def __init__(self, data: Corpus, patch: int, augmentation: AugmentationOptions, degrade: Degrade) -> None:
        self.scans = data.scans
        self.weight = data.weights(augmentation.synthetic)
        self.labels = data.labels
        self.in_plane = data.in_plane
        self.patch = patch
        self.augmentation = augmentation
        self.degrade = degrade

    def batch(self, size: int, seed: tuple[int, ...]) -> Batch:
        """Draw `size` pairs."""
        rng = np.random.default_rng(seed)
        drawn = [self._clean(rng) for _ in range(size)]
        clean = [patch for patch, _ in drawn]
        made = [self.degrade(patch, place, rng) for patch, place in drawn]
        clean = [patch if d.clean is None else d.clean for patch, d in zip(clean, made, strict=True)]
        return Batch(
            clean=_stacked(clean),
            scan=_stacked([d.scan for d in made]),
            gain=_stacked([d.gain for d in made]),
            sigma=torch.tensor([d.sigma for d in made], dtype=torch.float32),
            details=torch.tensor([d.details for d in made], dtype=torch.float32),
        )

    def _clean(self, rng: np.random.Generator) -> tuple[FloatArray, Place]:
        options = self.augmentation
        place = Place(0, (0, 0, 0))
        if self.labels and rng.random() < options.synthetic:
            patch = synthesise(self.labels[rng.integers(len(self.labels))], self.patch, rng)
        else:
            patch, place = self._crop(rng)
            if rng.random() < options.tone_curve:
                patch = random_tone_curve(patch, rng)
            if rng.random() < options.blur:
                patch = random_blur(patch, options.blur_width, rng)
        # Nothing is drawn where there are none: the batches of a run without lesions stay what they were.
        if options.lesions and rng.random() < options.lesions:
            patch = random_lesions(patch, rng)
        turn = random_orientation(rng, self.in_plane)
        patch = turn(patch)
        if rng.random() < options.bias_field:
            patch = patch * random_bias_field(patch.shape, rng)
        patch = np.ascontiguousarray(patch * np.float32(np.exp(rng.normal(0, options.scale))))
        return patch, replace(place, turn=turn)

    def _crop(self, rng: np.random.Generator) -> tuple[FloatArray, Place]:
        """Cut a patch that is mostly head: air teaches little and there is much of it."""
        index = int(rng.choice(len(self.scans), p=self.weight))
        scan = self.scans[index]
        patch, start = self._window(scan, rng)
        for _ in range(3):
            if np.mean(patch[::4, ::4, ::4] > DARK) > 0.25:
                break
            patch, start = self._window(scan, rng)
        padding = [(0, self.patch - n) for n in patch.shape]
        if any(after for _, after in padding):
            patch = np.pad(patch, padding, mode="symmetric")
        return patch.astype(np.float32), Place(index, start)

    def _window(self, scan: RealArray, rng: np.random.Generator) -> tuple[RealArray, tuple[int, int, int]]:
        x, y, z = (int(rng.integers(0, max(n - self.patch, 0) + 1)) for n in scan.shape)
        side = self.patch
        return scan[x : x + side, y : y + side, z : z + side], (x, y, z)


def _stacked(patches: list[FloatArray]) -> Tensor:
    return torch.from_numpy(np.stack(patches)[:, None])


class _Steps(Dataset[Batch]):
    """The batches of a run, by the number of the step."""

    def __init__(self, sampler: PatchSampler, size: int, seed: int) -> None:
        self.sampler, self.size, self.seed = sampler, size, seed

    def __getitem__(self, step: int) -> Batch:
        return self.sampler.batch(self.size, (self.seed, step))


def draw_batches(
    sampler: PatchSampler, options: LoopOptions, start: int, *, pin: bool = False
) -> Iterator[Batch]:
    """Yield the batches from the step `start` on, the same whatever the number of workers.

    Args:
        sampler: Draws them.
        options: Their size and seed, and how many processes draw them ahead of time.
        start: The first step.
        pin: Put them where a GPU can fetch them while it works.
    """
    workers = options.workers
    loader = DataLoader(
        _Steps(sampler, options.batch, options.seed),
        batch_size=None,
        sampler=count(start),
        num_workers=workers,
        pin_memory=pin,
        # Forked, the workers share the corpus in memory; a closure that degrades could not be sent to others.
        multiprocessing_context="fork" if workers else None,
    )
    yield from loader
