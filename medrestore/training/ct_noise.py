"""Low-dose noise for training in CT: reconstructed once for whole scans, cut and scaled for each patch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medrestore.noise.ct import commonest, local_deviation, soft_tissue
from medrestore.physics.ct_noise import Beam, Dose, along_z, low_dose_noise
from medrestore.physics.ct_reconstruction import KERNELS, Grid
from medrestore.training.degrade import Degraded
from medrestore.training.place import Place
from medrestore.training.recipe import CtOptions
from medrestore.types import AIR_HU, FloatArray

FLOOR = -0.024
"""The least that many scanners store, -1024 HU, in units of the attenuation of water."""

SHIFT = 5
"""Slices that noise may be moved by: its deviation changes little over so many."""

EVERY = 4
"""Of so many slices, one is looked at to find the level of the noise."""


@dataclass(frozen=True)
class NoiseBank:
    """Noise of unit level in soft tissue.

    Attributes:
        fields: For each scan of a corpus, (K, X, Y, Z) float16: one field for each reconstruction kernel,
            independent from slice to slice.
        own: For each scan, the level of the noise that it was measured with.
    """

    fields: list[FloatArray]
    own: list[float]

    def draw(self, place: Place, size: int, options: CtOptions, rng: np.random.Generator) -> FloatArray:
        """Draw noise for a patch: of one kernel, or of a mixture of two, correlated along the slices.

        Noise from some slices further is as good, and a mixture of Gaussian fields is Gaussian; so a single
        reconstruction gives many independent draws.
        """
        fields = self.fields[place.scan]
        first, second = rng.integers(len(fields), size=2)
        angle = 0.0 if rng.random() < options.single else rng.uniform(0, math.pi / 2)
        planes = fields[first].shape[2]
        noise, shift = self._cut(fields[first], place, size, rng)
        if angle:
            other, moved = self._cut(fields[second], place, size, rng)
            # The same slices of one field twice are no mixture: they would add up, or cancel.
            if first != second or (moved - shift) % planes:
                noise = np.float32(math.cos(angle)) * noise + np.float32(math.sin(angle)) * other
        width = rng.uniform(0, options.helical) if rng.random() < 0.7 else 0.0
        noise = along_z(noise, width, planes)
        if rng.random() < options.smoothed:
            noise = smoothed(noise, rng.uniform(0.3, 1.0), rng.uniform(0, 0.8))
        return noise

    def _cut(
        self, field: FloatArray, place: Place, size: int, rng: np.random.Generator
    ) -> tuple[FloatArray, int]:
        """Cut a patch from some slices further, and return it with how many."""
        shift = int(rng.integers(-SHIFT, SHIFT + 1))
        return place.cut(field, size, shift) * np.float32(rng.choice((-1, 1))), shift


def smoothed(noise: FloatArray, in_plane: float, across: float) -> FloatArray:
    """Blur noise as resampling and iterative reconstruction do, and keep its deviation.

    Args:
        noise: (X, Y, Z).
        in_plane: Standard deviation of the kernel in the plane, in voxels.
        across: The same along the slices.
    """
    blurred = ndimage.gaussian_filter(noise, (in_plane, in_plane, across), mode="wrap")
    return np.asarray(blurred * (noise.std() / max(float(blurred.std()), 1e-6)), dtype=np.float32)


def with_ct_noise(
    clean: FloatArray, place: Place, bank: NoiseBank, options: CtOptions, rng: np.random.Generator
) -> Degraded:
    """Add the noise of a low dose to a patch; the model is told its global level, about as estimated.

    A scan gets no weaker noise than it was measured with: what is left of that counts as anatomy, and beside
    weaker noise it would teach a network to keep noise.
    """
    least = np.clip(bank.own[place.scan], *options.noise)
    sigma = float(np.exp(rng.uniform(np.log(least), np.log(options.noise[1]))))
    scan = clean + np.float32(sigma) * bank.draw(place, clean.shape[0], options, rng)
    if rng.random() < options.clipped:
        scan = np.maximum(scan, np.float32(FLOOR))
    given_to_model = sigma * math.exp(rng.normal(0, options.estimate_error))
    return Degraded(scan.astype(np.float32), np.ones_like(clean), given_to_model)


def unit_noise(
    scan: FloatArray, spacing: tuple[float, ...], options: CtOptions, rng: np.random.Generator
) -> FloatArray:
    """Reconstruct noise for a scan with every kernel of the options.

    Args:
        scan: (X, Y, Z) in units of the attenuation of water.
        spacing: Of its voxels in mm.
        options: Kernels, photons and electronic noise.
        rng: Source of randomness.

    Returns:
        (K, X, Y, Z) float16, of unit level in soft tissue.
    """
    grid = Grid((scan.shape[0], scan.shape[1]), (spacing[0], spacing[1]))
    fields = []
    for kernel in options.kernels:
        photons = float(np.exp(rng.uniform(*np.log(options.photons))))
        beam = Beam(photons, options.electronic, bowtie=rng.uniform(0, 1), blur=rng.choice((0.0, 0.5)))
        noise = low_dose_noise(scan, grid, Dose(beam=beam, kernel=KERNELS[kernel]), rng)
        fields.append((noise / np.float32(tissue_level(noise, scan))).astype(np.float16))
    return np.stack(fields)


def tissue_level(noise: FloatArray, scan: FloatArray) -> float:
    """Return the commonest local deviation of (X, Y, Z) noise in the soft tissue of a scan."""
    some = slice(EVERY // 2 if scan.shape[2] > EVERY else 0, None, EVERY)
    hounsfield = scan[:, :, some] * 1000 + np.float32(AIR_HU)
    deviation = local_deviation(1000 * noise[:, :, some])
    tissue = soft_tissue(hounsfield)
    chosen = deviation[tissue if tissue.sum() > 100 else hounsfield > AIR_HU / 2]
    return commonest(chosen if chosen.size else deviation.ravel()) / 1000
