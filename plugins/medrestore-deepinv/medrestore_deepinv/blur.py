"""A Gaussian blur of a volume that is mirrored at its border: diagonal in cosines."""

from __future__ import annotations

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor


class Blur:
    """A symmetric operator with the cosine transform for singular vectors.

    Args:
        shape: (X, Y, Z).
        width: Standard deviation, in voxels.

    Attributes:
        values: (1, 1, X, Y, Z) its singular values, all positive.
    """

    def __init__(self, shape: tuple[int, ...], width: float) -> None:
        self.bases = [
            torch.from_numpy(dct(np.eye(n), axis=0, norm="ortho").astype(np.float32)) for n in shape
        ]
        each = [torch.exp(-0.5 * (width * torch.pi * torch.arange(n) / n) ** 2) for n in shape]
        values = each[0][:, None, None] * each[1][:, None] * each[2]
        self.values = values.to(torch.float32)[None, None]

    def spectrum(self, image: Tensor) -> Tensor:
        """Return the cosine transform of (B, 1, X, Y, Z)."""
        return self._along(image, transpose=False)

    def image(self, spectrum: Tensor) -> Tensor:
        """Return the image of a cosine transform, its inverse and its adjoint."""
        return self._along(spectrum, transpose=True)

    def forward(self, image: Tensor) -> Tensor:
        """Blur (B, 1, X, Y, Z)."""
        return self.image(self.values.to(image) * self.spectrum(image))

    def adjoint(self, measured: Tensor) -> Tensor:
        """Do the same: it is symmetric."""
        return self.forward(measured)

    def _along(self, array: Tensor, *, transpose: bool) -> Tensor:
        for axis, basis in enumerate(self.bases, start=2):
            matrix = (basis.T if transpose else basis).to(array)
            array = torch.tensordot(matrix, array, dims=([1], [axis])).movedim(0, axis)
        return array
