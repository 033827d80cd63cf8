"""What a population looks like on a coarse grid, as a Gaussian: mean, principal components, and the rest.

Its posterior mean given a noisy volume is a Wiener filter, which no training can get wrong where there is
much noise; a network knows better where there is little. The denoiser of the first stage has both.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medrestore.diffusion import Condition
from medrestore.diffusion.precondition import network_inputs
from medrestore.networks.voxelnet import VoxelNet

DEPARTURE = 2
"""Channel of the network's inputs that the linear estimate takes."""


def typical(deviation: Tensor) -> float:
    """Return the level that a map of deviations is told as: its root mean square."""
    return float(deviation.square().mean().sqrt())


class Population(nn.Module):
    """A Gaussian on a grid of (X, Y, Z).

    Args:
        parts: `mean` and `deviation`, (1, X, Y, Z); `inside`, (X Y Z) bool, the voxels that vary; `basis`
            (R, N) of these N voxels, orthonormal; `power` (R,), variance along each; `rest` (N,), variance of
            each voxel beside them.
    """

    mean: Tensor
    deviation: Tensor
    inside: Tensor
    basis: Tensor
    power: Tensor
    rest: Tensor

    def __init__(self, parts: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name in ("mean", "deviation", "inside", "basis", "power", "rest"):
            self.register_buffer(name, parts[name])
        self.typical = typical(self.deviation)
        self.widest = float(self.power.max().sqrt())

    def condition(self) -> Condition:
        """Return the mean as a measurement that is off by the deviation."""
        return Condition(self.mean[None], self.typical, self.deviation[None] / self.typical)

    def expected(self, x: Tensor, sigma: Tensor, *, beside: bool = True) -> Tensor:
        """Return the posterior mean given a state of levels.

        Args:
            x: (B, 1, X, Y, Z).
            sigma: (B,).
            beside: Whether voxels vary beside the components, each for itself. So they do, and training is
                told so; but what is drawn with it has grain, where people have fine anatomy.
        """
        flat, variance = (x - self.mean).flatten(1)[:, self.inside], sigma.square()[:, None]
        along = flat @ self.basis.T
        departure = (along / (1 + variance / self.power)) @ self.basis
        if beside:
            departure += (flat - along @ self.basis) / (1 + variance / self.rest)
        found = self.mean.expand_as(x).flatten(1).clone()
        found[:, self.inside] += departure
        return found.reshape(x.shape)


class FirstNetwork(nn.Module):
    """A network that is given the linear estimate, and trusts it the more the more noise there is.

    Args:
        autocast: Type for the network's matrix work, or None for float32.
    """

    def __init__(self, autocast: torch.dtype | None = None) -> None:
        super().__init__()
        self.autocast = autocast
        self.net = VoxelNet((64, 128), (2, 3), (2,))
        self.trust = nn.Parameter(torch.tensor([0.0, 2.0]))

    def forward(
        self, x: Tensor, sigma: Tensor, population: Population, *, beside: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Return the expected volume, and k, the unit that its error is measured in; see `Population`."""
        whom = population.condition()
        image, gain = whom.image.expand_as(x), whom.gain
        level = torch.full_like(sigma, whom.sigma)
        mean, k, inputs, levels = network_inputs(x, sigma, image, level, gain)
        linear = (population.expected(x, sigma, beside=beside) - mean) / k
        inputs[:, DEPARTURE] = linear[:, 0]
        ratio = (sigma / whom.sigma).clamp(1e-4, 1e4).log()
        trust = torch.sigmoid(self.trust[0] + self.trust[1] * ratio).reshape(-1, 1, 1, 1, 1)
        with torch.autocast(x.device.type, self.autocast, enabled=self.autocast is not None):
            predicted = self.net(inputs, levels).float()
        return mean + k * torch.lerp(predicted, linear, trust), k


class PopulationDenoiser:
    """The network as a `Denoiser` of volumes of one population."""

    def __init__(self, network: FirstNetwork, population: Population) -> None:
        self.network, self.population = network, population

    @torch.inference_mode()
    def __call__(self, x: Tensor, sigma: float, condition: Condition) -> Tensor:
        """See `Denoiser`; the condition is that of the population."""
        estimate, _ = self.network(x, x.new_full((len(x),), sigma), self.population, beside=False)
        return estimate
