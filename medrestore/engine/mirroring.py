"""The mean over mirror images of a scan: a network is not quite the same to the left as to the right."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from medrestore.diffusion import Condition, Denoiser
from medrestore.engine.options import RestoreOptions
from medrestore.plugin import MIRRORS, ModelSpec

AXES = ((), (0, 1, 2), (0,), (1, 2), (1,), (0, 2), (2,), (0, 1))
"""Axes that are turned around for each mirror image, the first ones unlike each other along every axis."""

assert len(AXES) == max(MIRRORS)


class MirroredDenoiser:
    """Averages the posterior mean over mirror images; itself a `Denoiser` of the whole volume.

    Each costs an evaluation. Estimates at a finite level of the state, those of a sampler, stay single ones.
    Source: Timofte et al., Seven ways to improve example-based single image super resolution (CVPR 2016),
    which averages over flips and quarter turns; quarter turns would change voxel sizes here.

    Args:
        denoiser: Of the whole volume.
        count: How many images, that of the scan itself included.
    """

    def __init__(self, denoiser: Denoiser, count: int) -> None:
        self.denoiser = denoiser
        self.count = count

    def __call__(self, x: Tensor, sigma: float, condition: Condition) -> Tensor:
        """See `Denoiser`."""
        total = self.denoiser(x, sigma, condition)
        if math.isinf(sigma) and self.count > 1:
            for axes in AXES[1 : self.count]:
                total += self._mirrored([axis + 2 for axis in axes], sigma, condition)
            total /= self.count
        return total

    def _mirrored(self, axes: list[int], sigma: float, condition: Condition) -> Tensor:
        """Estimate from a mirror image, and turn the estimate back."""
        image = condition.image.flip(axes)
        gain = None if condition.gain is None else condition.gain.flip(axes)
        # At an infinite level the state is not looked at.
        return self.denoiser(image, sigma, replace(condition, image=image, gain=gain)).flip(axes)


def mirrors(options: RestoreOptions, spec: ModelSpec) -> int:
    """Return how many mirror images the mean is taken over: as asked for, or else as the model has it."""
    return spec.mirrors if options.mirrors is None else options.mirrors
