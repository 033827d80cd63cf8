"""What a model would take out of a scan, tried on a part of the scan: noise, or anatomy too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from medrestore.diffusion import Condition, Denoiser
from medrestore.engine.evidence.residual import residual_evidence
from medrestore.engine.sampling.posterior import posterior_mean
from medrestore.findings import ANATOMY_MAY_GO, NOISE_NOT_FOUND, Finding
from medrestore.noise.intensity import FOREGROUND, bright_level
from medrestore.types import RealArray

SIDE = 96
"""Side in voxels of the part of a scan that is tried."""

LOWER, LOWEST = 0.8, 0.4
"""By how much a level is lowered where the residual held anatomy, and how far at most."""

FOUND, HARDLY = 0.5, 0.25
"""Deviation of the residual, in units of the level, below which noise is hardly what the model was told, and
below which it is not: `mr-denoise` takes out 0.47 and more of 37 levels that were read within a quarter of
the true one, and 0.33 to 0.48 of texture that was read as noise in seven stacks of slices without any."""

SMOOTH, EDGES = 0.3, -0.085
"""Correlation of the residual with itself moved by a voxel, and with edges of the result, above which noise
that is hardly there is something else: in each of those slices one of them is, in weak noise neither."""

HIGHER, HIGHEST = 1.2, 1.3
"""By how much a level that leans to the low side is raised at a time, and the factor at which that ends."""


STEADY = 0.985
"""Part of the deviation of the residual, in units of the level, that stays where a level is rightly raised;
where texture of zero-filled crops was read as twice the noise, 0.94 to 0.98 did."""


class TakenOut(NamedTuple):
    """Statistics of the residual: edges and lines in it are anatomy.

    Attributes:
        edges: Correlation of its magnitude with the gradient of the result; negative for noise alone, as a
            little less is taken out next to edges.
        kurtosis: 3 for noise, up to 4 where the level of the noise varies, more where few voxels dominate.
        deviation: In units of the level that the model was told; near 1 where there is such noise.
        neighbours: Largest correlation with itself moved by a voxel.
    """

    edges: float
    kurtosis: float
    deviation: float = 1.0
    neighbours: float = 0.0

    @property
    def has_anatomy(self) -> bool:
        """Whether more than noise was taken out."""
        return self.edges > 0.08 or self.kurtosis > 4.2

    @property
    def is_noise(self) -> bool:
        """Whether certainly nothing but noise was taken out."""
        return self.edges < -0.1 and self.kurtosis < 3.5

    @property
    def is_not_there(self) -> bool:
        """Whether the model does not find the noise that it was told of."""
        return self.deviation < (FOUND if self.edges > EDGES or self.neighbours > SMOOTH else HARDLY)

    def may_be_anatomy(self, factor: float) -> Finding:
        """Return what is said where no level avoids anatomy, at the last multiple of it that was tried."""
        text = (
            f"fine anatomy may go with the noise, or noise may stay (edge correlation {self.edges:.2f}, "
            f"kurtosis {self.kurtosis:.1f} at {factor:.0%} of the level that was read): pass the level of "
            "the noise, and look at the residual"
        )
        return ANATOMY_MAY_GO.found(text, edges=self.edges, kurtosis=self.kurtosis, share=factor)

    def not_found(self, fraction: float) -> Finding:
        """Return what is said where the noise that was read, a fraction of the bright level, is not there."""
        text = (
            f"what was read as noise of {fraction:.1%} is not what the model knows as noise (it would take "
            f"out {self.deviation:.0%} of what it was told, edge correlation {self.edges:.2f}): nothing is "
            "taken out; if noise is seen in the scan, pass its level"
        )
        return NOISE_NOT_FOUND.found(text, fraction=fraction, deviation=self.deviation, edges=self.edges)


def tried(condition: Condition, denoiser: Denoiser) -> Callable[[float], TakenOut]:
    """Return a function that tries what is taken out of the middle of a scan at a multiple of its level.

    Args:
        condition: The scan.
        denoiser: Denoiser of the whole volume.
    """
    box = middle_of_tissue(condition.image[0, 0].numpy())
    image, gain = (
        None if whole is None else whole[(..., *box)].contiguous()
        for whole in (condition.image, condition.gain)
    )
    assert image is not None
    part = replace(condition, image=image, gain=gain)

    def taken_out(factor: float) -> TakenOut:
        given_to_model = replace(part, sigma=part.sigma * factor)
        restored = posterior_mean(denoiser, given_to_model)
        sigma = given_to_model.sigma * (1 if gain is None else gain[0, 0].numpy())
        found = residual_evidence(image[0, 0].numpy(), restored[0, 0].numpy(), sigma)
        deviation = found["std_over_sigma"]
        return TakenOut(
            found["edge_correlation"] or 0.0,
            found["kurtosis"] or 3.0,
            1.0 if deviation is None else deviation,  # 0 is a model that takes nothing out
            found["neighbour_correlation"] or 0.0,
        )

    return taken_out


def settle(taken_out: Callable[[float], TakenOut], *, leans_low: bool) -> tuple[float, TakenOut]:
    """Find the multiple of a level at which noise goes and anatomy stays.

    Args:
        taken_out: See `tried`.
        leans_low: Whether the level is the least that the noise can be, so that it may be raised.

    Returns:
        The multiple, and the statistics at it; these show anatomy where no multiple avoided it.
    """
    level, found = 1.0, taken_out(1.0)
    while leans_low and found.is_noise and level < HIGHEST:
        further = taken_out(level * HIGHER)
        # Where there is more noise than the model is told, it takes out as much more as it is told.
        if not further.is_noise or further.deviation < STEADY * found.deviation:
            break
        level, found = level * HIGHER, further
    while found.has_anatomy and level > LOWEST:
        level *= LOWER
        found = taken_out(level)
    return level, found


def middle_of_tissue(image: RealArray) -> tuple[slice, slice, slice]:
    """Return a box of up to `SIDE` voxels around the middle of the tissue of an (X, Y, Z) image."""
    dark = FOREGROUND * bright_level(image)
    spans = []
    for axis, size in enumerate(image.shape):
        lit = np.mean(image > dark, axis=tuple(other for other in range(3) if other != axis))
        middle = int(np.average(np.arange(size), weights=lit + 1e-9))
        start = min(max(middle - SIDE // 2, 0), max(size - SIDE, 0))
        spans.append(slice(start, start + SIDE))
    return spans[0], spans[1], spans[2]
