"""Muon: momentum whose update is orthogonalised, for the convolution kernels.

Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks (2024); the scale that matches
the size of Adam's updates is from Liu et al., Muon is scalable for LLM training (2025), eq. 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Move the singular values of a wide matrix close to 1 by a quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    # In float32: on a processor without native bfloat16 that type made an update ten times as long as a step.
    x: Tensor = matrix / (matrix.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


class Muon(torch.optim.Optimizer):
    """Muon for parameters of two or more dimensions; each is a matrix of outputs by everything else.

    Args:
        params: Parameters.
        lr: Rate, on Adam's scale.
        momentum: Decay of the momentum.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 1e-3, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Update the parameters once."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group["lr"], group["momentum"])

    def _update(self, parameter: Tensor, gradient: Tensor, lr: float, momentum: float) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        average = state["momentum"].lerp_(gradient, 1 - momentum)
        direction = torch.lerp(gradient, average, momentum).flatten(1)
        tall = direction.shape[0] > direction.shape[1]
        update = orthogonalise(direction.T if tall else direction)
        update = (update.T if tall else update).reshape(parameter.shape)
        parameter.add_(update, alpha=-0.2 * lr * max(direction.shape) ** 0.5)


def make_optimisers(network: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the convolution kernels, Adam for everything else, at one rate; none for what is not there."""
    kernels = [p for p in network.parameters() if p.ndim == 5]
    rest = [p for p in network.parameters() if p.ndim != 5]
    found: list[torch.optim.Optimizer] = []
    if kernels:
        found.append(Muon(kernels, lr=rate))
    if rest:
        found.append(torch.optim.Adam(rest, lr=rate, betas=(0.9, 0.98)))
    return found
