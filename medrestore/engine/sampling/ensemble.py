"""The self-ensemble: the mean over estimates from the scan turned around and moved by a voxel.

A network is not quite the same to the left as to the right, nor, where it folds blocks of voxels, from one
voxel to the next. The difference is the network's own error, and averages out. Each view costs an evaluation.

Sources: Timofte et al., Seven ways to improve example-based single image super resolution (CVPR 2016), for
turning; Coifman and Donoho, Translation-invariant de-noising (1995), for moving ("cycle spinning").
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medrestore.options import RestoreOptions
from medrestore.plugin import ModelSpec

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class View:
    """The scan moved by one voxel towards the ends of some spatial axes, then turned around along some.

    Attributes:
        turned: Axes that are turned around.
        moved: Axes that the scan is moved along. The last plane goes out of sight; the first is seen twice.
    """

    turned: tuple[int, ...] = ()
    moved: tuple[int, ...] = ()

    def seen(self, axis: int, extent: int) -> Tensor:
        """Return the index of the scan's voxel at each place of the view along an axis."""
        index = (torch.arange(extent, device="cpu") - self._move(axis, extent)).clamp(min=0)
        return index.flip(0) if axis in self.turned else index

    def average(self, mean: Tensor, box: Box, estimate: Tensor, weight: float) -> None:
        """Draw a mean towards an estimate; where the view sees nothing, it stays.

        Args:
            mean: (B, 1, X, Y, Z), changed in place.
            box: Part of the view that the estimate covers; the box may go beyond the end.
            estimate: Voxels of that part of the view.
            weight: Weight of the estimate, 1 for the first.
        """
        spans = [self._voxels(axis, span, mean.shape[axis + 2]) for axis, span in enumerate(box)]
        (x, y, z), (i, j, k) = zip(*spans, strict=True)
        target, part = mean[..., x, y, z], estimate[..., i, j, k].to(mean.device)
        if self.turned:
            part = part.flip([axis + 2 for axis in self.turned])
        if weight == 1:
            target.copy_(part)
        else:
            target.lerp_(part, weight)

    def _move(self, axis: int, extent: int) -> int:
        """Return by how many voxels the scan is moved along an axis: a single voxel has nowhere to go."""
        return int(axis in self.moved and extent > 1)

    def _voxels(self, axis: int, span: slice, extent: int) -> tuple[slice, slice]:
        """Return which voxels of the scan are seen in a span of the view, and where in the span."""
        moved = self._move(axis, extent)
        if axis in self.turned:
            low, high = span.start, max(min(span.stop, extent - moved), span.start)
            voxels = slice(extent - moved - high, extent - moved - low)
        else:
            low = max(span.start, moved)
            high = max(min(span.stop, extent), low)
            voxels = slice(low - moved, high - moved)
        return voxels, slice(low - span.start, high - span.start)


TURNS = ((), (0, 1, 2), (0,), (1, 2), (1,), (0, 2), (2,), (0, 1))
VIEWS = tuple(View(turn, tuple(axis for axis in range(3) if (axis + 1) % 3 in turn)) for turn in TURNS)
"""Every way to turn and every way to move, once, neither foretelling the other along one axis."""

SLICE_VIEWS = tuple(replace(view, moved=tuple(axis for axis in view.moved if axis < 2)) for view in VIEWS)
"""Views of slices along the last axis, not moved along it: a network has learnt where slices lie."""


def ensemble_size(options: RestoreOptions, spec: ModelSpec) -> int:
    """Return how many views the mean is taken over: as asked for, or else as the model declares."""
    return spec.ensemble if options.ensemble is None else options.ensemble
