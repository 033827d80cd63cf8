"""Noise estimators of plugins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from medrestore.plugin.declarations import NoiseEstimatorSpec
from medrestore.plugin.extensions.arrays import handed_out
from medrestore.plugin.extensions.lookup import Extension, find
from medrestore.types import RealArray

OTHERWISE = ("auto", "VALUE", "P%")
"""What else can be given for the noise level."""


def find_noise_estimator(name: str) -> DeclaredNoiseEstimator:
    """Return the noise estimator ``plugin/name``.

    Raises:
        ConfigError: There is none.
    """
    return DeclaredNoiseEstimator(find(NoiseEstimatorSpec, name, builtin=OTHERWISE))


@dataclass(frozen=True)
class DeclaredNoiseEstimator:
    """A noise estimator of a plugin, held to what `NoiseEstimatorSpec` says."""

    declared: Extension[NoiseEstimatorSpec]

    def __call__(self, array: RealArray, spacing: tuple[float, ...]) -> float:
        """Estimate the standard deviation of the noise, in the units of the voxels.

        Args:
            array: (X, Y, Z) voxels; the plugin is given a copy.
            spacing: Their sizes in mm.

        Raises:
            PluginError: It raises, returns what is no level, or changes what it was given.
        """
        with (
            handed_out(self.declared, "estimate", array=array) as (given,),
            self.declared.running("estimate", "a noise level"),
        ):
            sigma = self.declared.spec.estimate(given, spacing)
            level = float(sigma) if isinstance(sigma, Real) else math.nan
        if not 0 <= level < math.inf:
            raise self.declared.broken(
                f"estimate returned {sigma!r:.80}; expected a standard deviation, a finite number from 0"
            )
        return level
