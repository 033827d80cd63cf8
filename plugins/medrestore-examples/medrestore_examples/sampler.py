"""A sampler: DPM-Solver++ (2M), second order for one evaluation a step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


def dpm2m(
    denoise: Callable[[Tensor, float], Tensor],
    x: Tensor,
    levels: Sequence[float],
    draw: Callable[[int], Tensor],
    on_step: Callable[[object], None] | None,
) -> Tensor:
    """Integrate the probability flow by the multistep method of Lu et al. (2022), algorithm 2.

    The estimate is continued to the middle of a step, in the logarithm of the level, by the one before.
    """
    from medrestore.diffusion import SamplerStep

    del draw  # the flow is deterministic
    before: Tensor | None = None
    last = 0.0
    for index, (sigma, lower) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        estimate = denoise(x, sigma)
        step = math.log(sigma / lower) if lower > 0 else math.inf
        target = estimate
        if before is not None and lower > 0:
            target = estimate + step / (2 * last) * (estimate - before)
        x = target + (lower / sigma) * (x - target)
        before, last = estimate, step
        if on_step is not None:
            on_step(SamplerStep(index, sigma, x, estimate))
    return x
