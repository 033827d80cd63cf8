"""An operator, a blur, and a model that undoes it, whose residual is measured through the operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from medrestore import LoadContext
    from medrestore.diffusion import Condition, Denoiser

WIDTH = 0.8
"""Standard deviation of the blur, in voxels."""

RADIUS = 2
"""Voxels on either side that it reaches."""

ROUNDS = 6
"""Iterations of the model: more sharpen more, and raise more noise."""

HALO = 2 * RADIUS * ROUNDS


class Blur:
    """A Gaussian blur with nothing beyond the border: symmetric, so it is its own adjoint."""

    def __init__(self) -> None:
        weights = torch.exp(-0.5 * (torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float32) / WIDTH) ** 2)
        self.weights = weights / weights.sum()

    def forward(self, image: Tensor) -> Tensor:
        """Blur along each axis: (B, 1, X, Y, Z) to the same."""
        weights = self.weights.to(image.device)
        for axis in range(3):
            shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
            shape[2 + axis], padding[axis] = -1, RADIUS
            image = F.conv3d(image, weights.reshape(shape), padding=padding)
        return image

    def adjoint(self, measured: Tensor) -> Tensor:
        """Do the same."""
        return self.forward(measured)


def load_deblur(context: LoadContext) -> Denoiser:
    """Make the model: Landweber's iteration (Am J Math 73, 1951), stopped before it raises much noise."""
    del context  # it runs wherever its input is
    blur = Blur()

    def denoise(x: Tensor, sigma: float, condition: Condition) -> Tensor:
        del x, sigma
        estimate = condition.image
        for _ in range(ROUNDS):
            estimate = estimate + blur.adjoint(condition.image - blur.forward(estimate))
        return estimate

    return denoise
