"""The self-ensemble: the mean over estimates from the scan turned around and moved by a voxel.

A network is not quite the same to the left as to the right, nor, where it folds blocks of voxels, from one
voxel to the next. What differs is its own error, and averages out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medrestore.diffusion import Condition, Denoiser
from medrestore.engine.options import RestoreOptions
from medrestore.plugin import ModelSpec


@dataclass(frozen=True)
class View:
    """The scan moved by one voxel towards the ends of some spatial axes, then turned around along some.

    Attributes:
        turned: Axes that are turned around.
        moved: Axes that it is moved along. The last plane goes out of sight; the first is seen twice.
    """

    turned: tuple[int, ...] = ()
    moved: tuple[int, ...] = ()

    def of(self, volume: Tensor) -> Tensor:
        """Return what is seen of a (B, 1, X, Y, Z) volume."""
        return self._taken(volume, self._seen)

    def back(self, estimate: Tensor, mean: Tensor) -> Tensor:
        """Return an estimate in its place; planes that were out of sight are those of `mean`."""
        found = self._taken(estimate, self._place)
        for axis in self.moved:
            found.select(axis + 2, -1).copy_(mean.select(axis + 2, -1))
        return found

    def _taken(self, volume: Tensor, index_of: Callable[[int, int], Tensor]) -> Tensor:
        for axis in sorted({*self.turned, *self.moved}):
            index = index_of(axis, volume.shape[axis + 2]).to(volume.device)
            volume = volume.index_select(axis + 2, index)
        return volume

    def _seen(self, axis: int, extent: int) -> Tensor:
        """Return the voxel of the scan that is at each place of the view."""
        index = (torch.arange(extent) - int(axis in self.moved)).clamp(min=0)
        return index.flip(0) if axis in self.turned else index

    def _place(self, axis: int, extent: int) -> Tensor:
        """Return the place in the view of each voxel of the scan, the nearest for the one out of sight."""
        index = (torch.arange(extent) + int(axis in self.moved)).clamp(max=extent - 1)
        return extent - 1 - index if axis in self.turned else index


TURNS = ((), (0, 1, 2), (0,), (1, 2), (1,), (0, 2), (2,), (0, 1))
VIEWS = tuple(View(turn, tuple(axis for axis in range(3) if (axis + 1) % 3 in turn)) for turn in TURNS)
"""Every way to turn and every way to move, once, neither foretelling the other along one axis."""

SLICE_VIEWS = tuple(replace(view, moved=tuple(axis for axis in view.moved if axis < 2)) for view in VIEWS)
"""The same for slices along the last axis, not moved along it: a network has learnt where slices lie."""


class SelfEnsemble:
    """Averages the posterior mean over views of the scan; itself a `Denoiser` of the whole volume.

    Each costs an evaluation. Estimates at a finite level of the state, those of a sampler, stay single ones.
    Sources: Timofte et al., Seven ways to improve example-based single image super resolution (CVPR 2016),
    for turning; Coifman and Donoho, Translation-invariant de-noising (1995), for moving ("cycle spinning").

    Args:
        denoiser: Of the whole volume.
        views: Of the scan, the first the scan as it is.
    """

    def __init__(self, denoiser: Denoiser, views: Sequence[View]) -> None:
        self.denoiser = denoiser
        self.views = views

    def __call__(self, x: Tensor, sigma: float, condition: Condition) -> Tensor:
        """See `Denoiser`."""
        mean = self.denoiser(x, sigma, condition)
        if math.isinf(sigma):
            for done, view in enumerate(self.views[1:], start=1):
                mean.lerp_(view.back(self._seen(view, sigma, condition), mean), 1 / (done + 1))
        return mean

    def _seen(self, view: View, sigma: float, condition: Condition) -> Tensor:
        image = view.of(condition.image)
        gain = None if condition.gain is None else view.of(condition.gain)
        # At an infinite level the state is not looked at.
        return self.denoiser(image, sigma, replace(condition, image=image, gain=gain))


def ensemble_size(options: RestoreOptions, spec: ModelSpec) -> int:
    """Return how many views the mean is taken over: as asked for, or else as the model has it."""
    return spec.ensemble if options.ensemble is None else options.ensemble
