"""A generator whose denoiser is known in closed form: clouds, Gaussian fields with a power-law spectrum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from medrestore.diffusion import Condition
from medrestore.plugin import Stage

if TYPE_CHECKING:
    from torch import Tensor

EXPONENT = 3.0
"""The power falls with this power of the frequency."""


def power(shape: tuple[int, ...]) -> Tensor:
    """Return the mean squared amplitude of each frequency of a cloud of (X, Y, Z), as rfftn orders them.

    The deviation of a voxel is 1, and its mean 0.
    """
    axes = [torch.fft.fftfreq(n) for n in shape[:-1]] + [torch.fft.rfftfreq(shape[-1])]
    frequency = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt()
    spectrum = frequency.clamp(min=1 / max(shape)) ** -EXPONENT
    spectrum[0, 0, 0] = 0.0
    whole = torch.fft.irfftn(spectrum, s=shape)[0, 0, 0]
    return spectrum / whole


def clouds() -> tuple[Stage, ...]:
    """Return one stage: the expected cloud given a noisy one is its Wiener filter."""

    def wiener(x: Tensor, sigma: float, condition: Condition) -> Tensor:
        shape = tuple(x.shape[2:])
        spectrum = power(shape).to(x.device)
        gain = spectrum / (spectrum + sigma**2)
        return torch.fft.irfftn(gain * torch.fft.rfftn(x, dim=(2, 3, 4)), s=shape, dim=(2, 3, 4))

    return (
        Stage(
            denoiser=wiener,
            condition=lambda baseline, spacing: Condition(baseline, 1.0),
            levels=(50.0, 0.01),
        ),
    )
