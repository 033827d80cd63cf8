"""Slices of a Gaussian random field: the best estimate of its planes, and how steep that is, by calculation.

Along the plane nothing is mixed, so each in-plane frequency is a problem of its own along the slice axis: a
stationary sequence of known covariance C, measured by the matrix A. Its posterior mean is
C A^T (A C A^T)^-1 y (Wiener), which no estimator beats on such a field.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medrestore.physics.slices import SliceStack

BINS = 60
"""Of the radial spectrum."""

RIDGE = 1e-6
"""Of the mean variance of a slice: keeps the matrix from being singular."""


@dataclass(frozen=True, eq=False)
class Field:
    """A stationary, isotropic field.

    Attributes:
        covariance: (X, Y, N) of planes at a distance of 0 to N - 1, for each frequency along the plane.
    """

    covariance: np.ndarray

    def estimate(self, slices: np.ndarray, stack: SliceStack) -> np.ndarray:
        """Return the posterior mean, (X, Y, planes), of a field without its mean."""
        measured = np.fft.fft2(slices, axes=(0, 1))
        found = np.empty((*slices.shape[:2], stack.planes), dtype=complex)
        for x, rows in enumerate(measured):
            _, cross, gram = self._row(x, stack)
            found[x] = np.einsum("ynm,ym->yn", cross, np.linalg.solve(gram, rows[..., None])[..., 0])
        return np.fft.ifft2(found, axes=(0, 1)).real.astype(np.float32)

    def steepness(self, stack: SliceStack) -> np.ndarray:
        """Return the expected gradient of the posterior mean over the field's, for each pair of planes."""
        planes = stack.planes
        steps = np.diff(np.eye(planes), axis=0)
        of_mean, of_field = np.zeros((planes, planes)), np.zeros((planes, planes))
        for x in range(len(self.covariance)):
            covariance, cross, gram = self._row(x, stack)
            of_mean += (cross @ np.linalg.solve(gram, cross.transpose(0, 2, 1))).sum(0)
            of_field += covariance.sum(0)
        squares = [np.einsum("ij,jk,ik->i", steps, matrix, steps) for matrix in (of_mean, of_field)]
        return np.asarray(np.sqrt(squares[0] / squares[1]))

    def _row(self, x: int, stack: SliceStack) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return C, C A^T and A C A^T for a row of frequencies."""
        apart = np.abs(np.arange(stack.planes)[:, None] - np.arange(stack.planes))
        covariance = self.covariance[x][:, apart]
        cross = covariance @ stack.matrix.T
        gram = stack.matrix @ cross
        mean = np.trace(gram, axis1=1, axis2=2) / stack.slices
        return covariance, cross, gram + RIDGE * mean[:, None, None] * np.eye(stack.slices)


def field_like(voxels: np.ndarray) -> Field:
    """Return the isotropic field that has the radial power spectrum of a volume, (X, Y, Z)."""
    windowed = voxels - voxels.mean()
    for axis, size in enumerate(voxels.shape):
        windowed = windowed * np.expand_dims(np.hanning(size + 2)[1:-1], [n for n in range(3) if n != axis])
    power = np.abs(np.fft.fftn(windowed)).ravel() ** 2
    edges = np.linspace(0, 0.87, BINS)
    ring = np.digitize(_radius(voxels.shape).ravel(), edges)
    counts = np.bincount(ring, minlength=BINS + 1)
    profile = np.bincount(ring, power, minlength=BINS + 1) / np.maximum(counts, 1)
    centres = np.concatenate([[0.0], (edges[:-1] + edges[1:]) / 2, edges[-1:]])
    seen = profile > 0
    # Twice as long along the slices: planes at both ends are no neighbours.
    radius = _radius((*voxels.shape[:2], 2 * voxels.shape[2]))
    spectrum = np.exp(np.interp(radius, centres[seen], np.log(profile[seen])))
    return Field(np.fft.ifft(spectrum, axis=2).real[:, :, : voxels.shape[2]])


def _radius(shape: tuple[int, ...]) -> np.ndarray:
    """Return the distance of every frequency from zero, in cycles a voxel."""
    axes = np.meshgrid(*(np.fft.fftfreq(size) for size in shape), indexing="ij", sparse=True)
    return np.sqrt(sum(np.square(axis) for axis in axes))
