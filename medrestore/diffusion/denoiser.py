"""What a denoiser is: a callable, and the condition it is given.

Arrays are (B, C, ...): (B, 1, X, Y, Z) for a scan, which is all that the engine and its models know; any
channels and dimensions for whoever uses preconditioning and samplers for something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """What was measured.

    Attributes:
        image: (B, C, ...) the scan in model units, on the grid of the result.
        sigma: Reference standard deviation of its noise in model units; `math.inf` says that the scan is
            not to be used, which makes the denoiser an unconditional one.
        gain: (B, C, ...) map of the noise relative to `sigma`, or None where the noise is constant.
        details: Further numbers that the model is told, in the order that its task defines. For
            super-resolution: the binary logarithm of the distance of the slices in voxels, the width of a
            slice over that distance, the softness of its profile from 0 (boxcar) to 1 (Gaussian), and the
            natural logarithm of the noise of the slices in model units plus 0.002. For a denoiser that is
            told the colour of the noise: four times the correlation of neighbours along each axis, and 1; or
            four zeros where it is not known.
    """

    image: Tensor
    sigma: float
    gain: Tensor | None = None
    details: tuple[float, ...] = ()


class Denoiser(Protocol):
    """The expected clean volume given a noisy state and a condition."""

    def __call__(self, x: Tensor, sigma: float, condition: Condition) -> Tensor:
        """Estimate the clean volume.

        Args:
            x: (B, C, ...) the clean volume plus Gaussian noise of standard deviation `sigma`.
            sigma: Noise of the state in model units; `math.inf` says that the state carries no information
                and the result is the posterior mean given the scan alone.
            condition: The scan.

        Returns:
            (B, C, ...) estimate in model units.
        """
        ...


class StreamingDenoiser(Denoiser, Protocol):
    """A denoiser that can also take a volume slab by slab, in the memory of some planes."""

    @property
    def streams(self) -> bool:
        """Whether it can after all; a wrapper may not know before."""
        ...

    def stream(self, parts: Iterable[tuple[Tensor, Condition]], sigma: float, total: int) -> Iterator[Tensor]:
        """Estimate the clean volume.

        Args:
            parts: State and scan, cut along X into pieces of even thickness, in order.
            sigma: As for the denoiser.
            total: Size of the volume along X.

        Yields:
            For each part, what the denoiser returns there for the whole volume, but for rounding.
        """
        ...
