"""A network for signals: residual convolutions along one axis, two or three, told the noise levels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FREQUENCIES = tuple(2.0 ** (i / 2) for i in range(-6, 2))


class SignalNet(nn.Module):
    """Predicts the unit-variance noise in the mean of two measurements, as every network of medrestore does.

    Args:
        channels: C of the signals.
        axes: Along how many axes they run: 1 for a signal, 2 for a picture, 3 for a volume.
        width: Channels of each layer.
        dilations: Of the convolutions of each residual block; their sum is how far it sees.
    """

    def __init__(
        self, channels: int, axes: int = 1, width: int = 48, dilations: tuple[int, ...] = (1, 4, 16, 4, 1)
    ) -> None:
        super().__init__()
        self.channels, self.axes = channels, axes
        convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
        self.embed = nn.Sequential(nn.Linear(4 * len(FREQUENCIES), width), nn.SiLU())
        self.first = convolution(4 * channels, width, 5, padding=2)
        self.blocks = nn.ModuleList(Block(width, convolution, dilation) for dilation in dilations)
        self.last = convolution(width, channels, 5, padding=2)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, inputs: Tensor, levels: Tensor) -> Tensor:
        """See `medrestore.diffusion.precondition.network_inputs`: (B, 4C, ...) and (B, 2) to (B, C, ...)."""
        mean, scaled, departure, gain = inputs.split(self.channels, dim=1)
        angles = (levels[:, :, None] * levels.new_tensor(FREQUENCIES)).flatten(1)
        told = self.embed(torch.cat([angles.cos(), angles.sin()], dim=1))
        # The mean over its noise is large where the noise is weak; its difference from the neighbours is not.
        x = self.first(torch.cat([mean, scaled - neighbours(scaled, self.axes), departure, gain], dim=1))
        for block in self.blocks:
            x = block(x, told)
        noise: Tensor = self.last(F.silu(x))
        return noise


class Block(nn.Module):
    """A residual block whose channels are scaled and shifted by what the levels say (Perez et al. 2018)."""

    def __init__(self, width: int, convolution: type[nn.Module], dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.film = nn.Linear(width, 2 * width)
        self.wide = convolution(width, width, 3, padding=dilation, dilation=dilation)
        self.near = convolution(width, width, 3, padding=1)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """Take (B, width, ...) and what is told of the levels, (B, width), to (B, width, ...)."""
        normed = self.norm(x.movedim(1, -1)).movedim(-1, 1)  # over the channels of a place, never over places
        scale, shift = self.film(told).reshape(len(x), -1, *(1,) * (x.ndim - 2)).chunk(2, dim=1)
        hidden = F.silu(self.wide(normed) * (1 + scale) + shift)
        return x + self.near(hidden)


def neighbours(x: Tensor, axes: int) -> Tensor:
    """Return the mean of each place and those beside it."""
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[axes - 1]
    mean: Tensor = pool(F.pad(x, (1, 1) * axes, mode="replicate"), 3, stride=1)
    return mean


def count_weights(network: nn.Module) -> int:
    """Return how many weights it has."""
    return sum(math.prod(weight.shape) for weight in network.parameters())
