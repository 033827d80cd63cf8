"""Thick slices of a finer volume: what a 2-D acquisition measures, as a linear operator along one axis.

A plane is one voxel layer of the fine grid, and the unit of length here; a slice is a weighted mean of
planes. Arrays have the slice axis last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import interpolate, special

from medrestore.types import Float64Array, FloatArray

SOFTNESS = {"boxcar": 0.0, "slr": 0.25, "gaussian": 1.0}
"""Profiles by name: the share of a slice's width over which its edges fall off."""

FWHM = math.sqrt(8 * math.log(2))
"""Full width at half maximum of a Gaussian, in standard deviations."""


@dataclass(frozen=True)
class SliceStack:
    """Parallel slices across a stack of planes.

    The profile is a box convolved with a Gaussian, box of ``width * sqrt(1 - softness**2)`` and Gaussian of a
    full width at half maximum of ``width * softness``: a boxcar at 0, a Gaussian at 1, and between them what
    a Shinnar-Le Roux pulse excites (Pauly et al., IEEE Trans Med Imaging 10, 1991), ripples left out.

    Attributes:
        planes: Number of planes.
        slices: Number of slices.
        spacing: Distance of slice centres, in planes.
        width: Full width of a slice at half maximum, in planes, where it is a boxcar or a Gaussian; between
            them that is up to 13 % less. Less than `spacing` where there is a gap.
        softness: 0 to 1, see above and `SOFTNESS`.
        first: Position of the first slice's centre, in planes from the centre of the first plane.
    """

    planes: int
    slices: int
    spacing: float
    width: float
    softness: float = 0.0
    first: float = 0.0

    @cached_property
    def centres(self) -> Float64Array:
        """(slices,) positions of the slice centres, in planes."""
        return self.first + self.spacing * np.arange(self.slices, dtype=np.float64)

    @cached_property
    def matrix(self) -> Float64Array:
        """(slices, planes) weights; each row sums to one, at the ends of the stack too."""
        edges = np.arange(self.planes + 1) - 0.5
        weights = np.diff(self._integral(edges - self.centres[:, None]), axis=1)
        return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)

    def _integral(self, u: Float64Array) -> Float64Array:
        """Return the integral of the profile up to `u` planes from its centre."""
        box = max(self.width * math.sqrt(1 - self.softness**2), 1e-3)
        sigma = max(self.width * self.softness / FWHM, 1e-6)

        def ramp(x: Float64Array) -> Float64Array:
            z = x / sigma
            return np.asarray(x * special.ndtr(z) + sigma * np.exp(-z * z / 2) / math.sqrt(2 * math.pi))

        return np.asarray((ramp(u + box / 2) - ramp(u - box / 2)) / box, dtype=np.float64)

    @cached_property
    def spline(self) -> Float64Array:
        """(slices, planes) cubic spline interpolation: slices @ spline are planes. Constant past the ends."""
        positions = (np.arange(self.planes) - self.first) / self.spacing
        order = min(3, self.slices - 1)
        knots = np.arange(self.slices)
        spline = interpolate.make_interp_spline(knots, np.eye(self.slices), k=order)
        return np.asarray(spline(positions.clip(0, self.slices - 1))).T

    def forward(self, planes: FloatArray) -> FloatArray:
        """Measure: (..., planes) to (..., slices)."""
        return np.asarray(planes @ self.matrix.T.astype(np.float32))

    def adjoint(self, slices: FloatArray) -> FloatArray:
        """Apply the transpose of `forward`: (..., slices) to (..., planes)."""
        return np.asarray(slices @ self.matrix.astype(np.float32))

    def correction(self, ridge: float = 0.0) -> FloatArray:
        """Return the (slices, planes) matrix that turns a misfit of the slices into a change of the planes.

        ``x + (y - forward(x)) @ correction()`` is the volume nearest to x that reproduces y: the range-null-
        space projection (Schwab et al., Inverse Problems 35, 2019, eq. 6).

        Args:
            ridge: Noise variance of a slice over the variance of what is unknown; above 0 the step is the
                proximal one, which does not fit the noise.
        """
        gram = self.matrix @ self.matrix.T
        # Slices that overlap a lot make the Gram matrix nearly singular: the floor bounds what noise can do.
        gram += np.eye(self.slices) * max(ridge, 1e-4)
        return np.asarray(np.linalg.solve(gram, self.matrix), dtype=np.float32)

    def consistent(self, planes: FloatArray, slices: FloatArray, ridge: float = 0.0) -> FloatArray:
        """Return the volume nearest to `planes` that reproduces `slices`, see `correction`."""
        return np.asarray(planes + (slices - self.forward(planes)) @ self.correction(ridge))

    def unseen(self, planes: FloatArray) -> FloatArray:
        """Return the part of (..., planes) that no slice shows: their projection onto the null space."""
        determined = self.forward(planes) @ np.linalg.pinv(self.matrix, rcond=1e-3).T.astype(np.float32)
        return np.asarray(planes - determined)

    def interpolate(self, slices: FloatArray) -> FloatArray:
        """Interpolate (..., slices) to (..., planes) by a cubic spline along the axis."""
        return np.asarray(slices @ self.spline.astype(np.float32))

    @property
    def distance(self) -> FloatArray:
        """(planes,) distance of each plane to the nearest slice centre, in halves of the spacing."""
        gaps = np.abs(np.arange(self.planes)[:, None] - self.centres).min(axis=1)
        return np.asarray(2 * gaps / self.spacing, dtype=np.float32)


DETAILS = 4
"""How many numbers tell a model how slices were measured."""


@dataclass(frozen=True)
class Upsampled:
    """Slices on the fine grid, as a model is given them; the fields are the fields of a `Condition`.

    Attributes:
        image: (..., planes) interpolated, and made consistent with the slices.
        gain: (planes,) expected error of each plane over `sigma`.
        sigma: Expected error, in the units of the image.
        details: `DETAILS` numbers; see `medrestore.diffusion.Condition`.
    """

    image: FloatArray
    gain: FloatArray
    sigma: float
    details: tuple[float, ...]


def upsample(slices: FloatArray, stack: SliceStack, noise: float) -> Upsampled:
    """Put measured slices on the fine grid.

    Args:
        slices: (..., slices) in units in which bright tissue is about 1.
        stack: How they were measured.
        noise: Standard deviation of their noise, in the same units.
    """
    # What interpolation misses, as a fraction of bright tissue, in a typical head; only the order matters.
    error = 0.06 * max(1 - 1 / stack.spacing, 0.1)
    image = stack.consistent(stack.interpolate(slices), slices, ridge=(noise / error) ** 2)
    gain = 0.6 + 0.8 * np.minimum(stack.distance, 1)
    details = (math.log2(stack.spacing), stack.width / stack.spacing, stack.softness, math.log(noise + 0.002))
    return Upsampled(image, gain.astype(np.float32), math.hypot(error, noise), details)
