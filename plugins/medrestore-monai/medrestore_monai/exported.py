"""What bundles of medrestore's models are made of, when MONAI's own tools load and run them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medrestore.diffusion.precondition import network_inputs
from medrestore.networks import build

LEAST_NOISE = 1e-6
"""Where a map says that there is none; the denoiser needs a finite logarithm of it."""


class ScanDenoiser(nn.Module):
    """A denoiser of medrestore as a plain network: the posterior mean of a scan whose noise it is given.

    Args:
        name: Of the network, in `medrestore.networks`.
        options: Its keyword arguments.
    """

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = build(name, options)
        self.details = int(options.get("details", 0))

    def forward(self, scan: Tensor) -> Tensor:
        """Restore.

        Args:
            scan: (B, 2, X, Y, Z), sizes multiples of the model's: the scan in model units, and the standard
                deviation of its noise at each voxel in the same units.

        Returns:
            (B, 1, X, Y, Z) in model units.
        """
        plain = scan.as_subclass(torch.Tensor)  # no bookkeeping of MONAI in every layer
        image, noise = plain[:, :1], plain[:, 1:].clamp(min=LEAST_NOISE)
        reference = noise.square().mean(dim=(1, 2, 3, 4)).sqrt()
        gain = noise / reference[:, None, None, None, None]
        # The colour of the noise is told by `details`; zeros say that it is not known.
        details = image.new_zeros(len(image), self.details) if self.details else None
        state = torch.full_like(reference, torch.inf)
        mean, k, inputs, levels = network_inputs(image, state, image, reference, gain, details)
        estimate: Tensor = mean + k * self.network(inputs, levels).float()
        return estimate


def with_weights(network: nn.Module, path: str) -> nn.Module:
    """Return a network with the weights of a file, ready to be run."""
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval().requires_grad_(False)


class ToModelUnits:
    """Bring a scan (1, X, Y, Z) to model units, with a map of its noise: (2, X, Y, Z).

    Args:
        intensity: As in `model.toml`, ``"p99"`` or ``"attenuation"``.
        sigma: Deviation of the noise, as a fraction of the bright level or of the attenuation of water.
    """

    def __init__(self, intensity: str, sigma: float) -> None:
        self.intensity, self.sigma = intensity, sigma

    def __call__(self, scan: Any) -> Any:
        """Do it; the scan stays what it was, a `MetaTensor` with its place."""
        image = scan / 1000 + 1 if self.intensity == "attenuation" else scan / self.bright(scan)
        return torch.cat([image, torch.full_like(image, self.sigma)])

    def back(self, image: Any, scan: Any) -> Any:
        """Undo it for a result (1, X, Y, Z), given the scan that it was made of."""
        return (image - 1) * 1000 if self.intensity == "attenuation" else image * self.bright(scan)

    @staticmethod
    def bright(scan: Any) -> float:
        """Return the 99th percentile."""
        return float(np.percentile(np.asarray(scan), 99))
