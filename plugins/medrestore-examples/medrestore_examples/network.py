"""A network: a few convolutions, told the two noise levels by a shift of their channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medrestore.networks.voxelnet import INPUTS


class Cnn(nn.Module):
    """Plain convolutions of 3 x 3 x 3 voxels, without normalisation over space, so that tiles are exact.

    Args:
        width: Channels of each layer.
        depth: Layers between the first and the last.
        details: How many numbers it is told beside the two levels.
    """

    multiple = 1

    def __init__(self, width: int = 16, depth: int = 2, details: int = 0) -> None:
        super().__init__()
        self.first = nn.Conv3d(INPUTS, width, 3, padding=1)
        self.told = nn.Linear(2 + details, width)
        self.layers = nn.ModuleList(nn.Conv3d(width, width, 3, padding=1) for _ in range(depth))
        self.last = nn.Conv3d(width, 1, 3, padding=1)
        self.halo = depth + 3  # a voxel for each layer, and one for the mean that `forward` takes away

    def forward(self, inputs: Tensor, levels: Tensor) -> Tensor:
        """See `NetworkSpec`: (B, 4, X, Y, Z) and (B, 2 + D) to (B, 1, X, Y, Z)."""
        mean, scaled, departure, gain = inputs.split(1, dim=1)
        # The mean over its noise is large where the noise is weak; its difference from the neighbours is not.
        padded = F.pad(scaled, (1, 1, 1, 1, 1, 1), mode="replicate")
        detail = scaled - F.avg_pool3d(padded, 3, stride=1)
        told = self.told(levels)[:, :, None, None, None]
        x = self.first(torch.cat([mean, detail, departure, gain], dim=1)) + told
        for layer in self.layers:
            x = x + layer(F.silu(x))
        return self.last(F.silu(x))
