"""A denoiser of medrestore as deepinv takes it."""

from __future__ import annotations

import math
from typing import Any

import torch
from deepinv.models import Denoiser as DeepinvDenoiser
from torch import Tensor

from medrestore import LoadContext
from medrestore.diffusion import Condition, Denoiser
from medrestore.errors import ModelError
from medrestore.plugin import Registry
from medrestore.plugin.host import plugins
from medrestore.types import Task

LEAST = 1e-3
"""Noise below it, in model units, is left: a network knows nothing so weak."""

KNOWN_WHITE = (0.0, 0.0, 0.0, 1.0)
"""What a model that is told the colour of the noise is told here."""


class MedrestoreDenoiser(DeepinvDenoiser):
    """A `deepinv.models.Denoiser` of volumes (B, 1, X, Y, Z), whose sizes are multiples of the model's.

    Gradients pass through it where the model is a network of medrestore; algorithms that need none take any.

    Args:
        denoiser: As `ModelSpec.load` returns it.
        colour: Whether it is told the colour of the noise; see `ModelSpec.colour`.
        scale: What deepinv's volumes have for each unit of the model's: volumes of 0 to 1 from a scan whose
            99th percentile is 0.4 have a scale of 0.4.
    """

    def __init__(self, denoiser: Denoiser, *, colour: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.details = KNOWN_WHITE if colour else ()
        self.scale = scale

    @classmethod
    def of_model(cls, name: str, *, device: str = "cpu", scale: float = 1.0) -> MedrestoreDenoiser:
        """Load a denoiser by its name.

        Raises:
            ModelError: There is none, or it is no denoiser alone.
        """
        spec = Registry(plugins()).get(name)
        if spec.task is not Task.DENOISE or spec.operator is not None:
            raise ModelError(
                f"model {name!r} does not denoise alone; expected a denoiser, such as mr-denoise"
            )
        return cls(spec.load(LoadContext(device=device)), colour=spec.colour, scale=scale)

    def forward(self, x: Tensor, sigma: float | Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """See `deepinv.models.Denoiser.forward`."""
        del args, kwargs
        levels = self._handle_sigma(sigma, batch_size=len(x), device=x.device)
        return torch.cat([self._one(x[i : i + 1], float(level)) for i, level in enumerate(levels)])

    def _one(self, x: Tensor, sigma: float) -> Tensor:
        level = sigma / self.scale
        if level < LEAST:
            return x
        image = x.to(torch.float32) / self.scale
        condition = Condition(image, level, details=self.details)
        estimate = getattr(self.denoiser, "differentiable", self.denoiser)
        return (estimate(image, math.inf, condition) * self.scale).to(x.dtype)
