"""Preconditioning of the network: from two measurements to one denoiser.

At every step of the reverse process the clean volume x has been measured twice: by the state
x_t = x + sigma_t n_1 and by the scan y = x + sigma_y n_2. Their precision-weighted mean

    m = (sigma_t^2 y + sigma_y^2 x_t) / (sigma_t^2 + sigma_y^2)

carries Gaussian noise of standard deviation k = sigma_t sigma_y / sqrt(sigma_t^2 + sigma_y^2), and

    D(x_t, sigma_t, y) = m + k F(m, y, k, sigma_y)

gives the network F a target of unit variance at every pair of levels. This is the preconditioning of Karras
et al., Elucidating the Design Space of Diffusion-Based Generative Models (NeurIPS 2022), section 5, with
c_skip = 1 and c_out = k, extended to the second measurement. Where sigma_t is infinite m is y, and one
evaluation is the posterior mean given the scan; where sigma_y is infinite m is x_t, and D is unconditional.

Nothing here knows how many dimensions or channels an array has: scans are (B, 1, X, Y, Z), signals and
pictures are (B, C, ...) with as many channels C and axes as they have.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, starmap
from typing import Any, cast

import torch
from torch import Tensor, nn

from medrestore.diffusion.denoiser import Condition

LEVEL_RANGE = (1e-4, 1e4)
"""Levels outside are told to the network as the nearest end: it needs a finite logarithm of infinity."""


def combine(x: Tensor, sigma: Tensor, image: Tensor, sigma_image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the precision-weighted mean m of two measurements and its standard deviation k.

    Args:
        x: State, (B, C, ...) in model units.
        sigma: Its level, likewise, of a shape that broadcasts against it.
        image: Scan, as `x`.
        sigma_image: Its level, as `sigma`; either may be infinite, not both.
    """
    weight = 1 / (1 + (sigma_image / sigma) ** 2)
    return torch.lerp(x, image, weight), combined_level(sigma, sigma_image)


def combined_level(sigma: Tensor, sigma_image: Tensor) -> Tensor:
    """Return k, the standard deviation of the precision-weighted mean of measurements of two levels."""
    level: Tensor = (sigma**-2 + sigma_image**-2) ** -0.5
    return level


def network_inputs(
    x: Tensor,
    sigma: Tensor,
    image: Tensor,
    sigma_image: Tensor,
    gain: Tensor | None = None,
    details: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Prepare one network evaluation.

    Args:
        x: (B, C, ...) state: one channel and three dimensions in a scan, any number of either elsewhere.
        sigma: (B,) level of the state.
        image: Scan, of the shape of `x`.
        sigma_image: (B,) reference level of the scan.
        gain: (B, 1, ...) or (B, C, ...) relative noise map of the scan, or None.
        details: (B, D) further numbers that the network is told, or None.

    Returns:
        m and k, which broadcast to (B, C, ...), and the network's arguments, (B, 4C, ...) and (B, 2 + D).
    """
    of_each = (-1, *(1,) * (x.ndim - 1))
    sigma_map, image_map = (level.reshape(of_each) for level in (sigma, sigma_image))
    if gain is not None:
        image_map = image_map * gain
    mean, k = combine(x, sigma_map, image, image_map)
    departure = (image - mean) / image_map
    log_gain = torch.zeros_like(mean) if gain is None else gain.log().expand_as(mean)
    inputs = torch.cat([mean, mean / k, departure, log_gain], dim=1)
    k_reference = combined_level(sigma, sigma_image)
    levels = torch.stack([k_reference, sigma_image], dim=1).clamp(*LEVEL_RANGE).log()
    return mean, k, inputs, levels if details is None else torch.cat([levels, details], dim=1)


class TwoMeasurementDenoiser:
    """A network that predicts (x - m) / k, as a `Denoiser`.

    Args:
        network: Called with (B, 4C, ...) and (B, 2 + D), see `network_inputs`; returns (B, C, ...).
        autocast: Type for the network's matrix work, or None for float32.
    """

    def __init__(self, network: nn.Module, autocast: torch.dtype | None = None) -> None:
        self.network = network
        self.autocast = autocast

    @property
    def streams(self) -> bool:
        """Whether `stream` works: whether the network has one."""
        return hasattr(self.network, "stream")

    @torch.inference_mode()
    def __call__(self, x: Tensor, sigma: float, condition: Condition) -> Tensor:
        """See `Denoiser`."""
        return self.differentiable(x, sigma, condition)

    def differentiable(self, x: Tensor, sigma: float, condition: Condition) -> Tensor:
        """Do the same with a gradient, where one is asked for: of `x`, the scan and the network's weights."""
        mean, k, inputs, levels = self._inputs(x, sigma, condition)
        with self._precision(x):
            noise = self.network(inputs, levels)
        restored: Tensor = mean + k * noise.float()
        return restored

    @torch.inference_mode()
    def stream(self, parts: Iterable[tuple[Tensor, Condition]], sigma: float, total: int) -> Iterator[Tensor]:
        """See `StreamingDenoiser`."""
        parts = iter(parts)
        first = next(parts)
        levels = self._inputs(first[0], sigma, first[1])[3]
        waiting: deque[tuple[Tensor, Tensor]] = deque()

        def inputs(x: Tensor, condition: Condition) -> Tensor:
            mean, k, inputs, _ = self._inputs(x, sigma, condition)
            waiting.append((mean, k))
            return inputs

        predicted = cast(Any, self.network).stream(starmap(inputs, chain([first], parts)), levels, total)
        while True:
            with self._precision(levels):  # entered anew for each slab: it must not reach the caller
                noise = next(predicted, None)
            if noise is None:
                return
            mean, k = waiting.popleft()
            yield mean + k * noise.float()

    def _inputs(self, x: Tensor, sigma: float, condition: Condition) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if math.isinf(sigma) and math.isinf(condition.sigma):
            raise ValueError("one of the state and the scan must carry information; both levels are infinite")
        batch = x.new_ones(x.shape[0])
        details = x.new_tensor(condition.details).expand(len(x), -1) if condition.details else None
        levels = batch * sigma, batch * condition.sigma
        return network_inputs(x, levels[0], condition.image, levels[1], condition.gain, details)

    def _precision(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, dtype=self.autocast, enabled=self.autocast is not None)
