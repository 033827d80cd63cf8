"""Blocks of 2x2x2 voxels as channels, and back."""

from __future__ import annotations

from torch import Tensor

FOLD = 2
"""Side of a block in voxels."""


def fold(x: Tensor) -> Tensor:
    """Move 2x2x2 blocks of voxels into channels: (B, C, X, Y, Z) to (B, 8C, X/2, Y/2, Z/2), channels last."""
    b, c, *size = x.shape
    nx, ny, nz = (s // FOLD for s in size)
    x = x.reshape(b, c, nx, FOLD, ny, FOLD, nz, FOLD).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return x.reshape(b, nx, ny, nz, c * FOLD**3).permute(0, 4, 1, 2, 3)


def unfold(x: Tensor) -> Tensor:
    """Invert `fold`: (B, 8C, X, Y, Z) to (B, C, 2X, 2Y, 2Z), contiguous."""
    b, c, nx, ny, nz = x.shape
    x = x.permute(0, 2, 3, 4, 1).reshape(b, nx, ny, nz, c // FOLD**3, FOLD, FOLD, FOLD)
    return x.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(b, c // FOLD**3, nx * FOLD, ny * FOLD, nz * FOLD)
