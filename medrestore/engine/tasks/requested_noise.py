"""The noise level that is asked for: as it is written, or as a plugin's estimator finds it in the scan."""

from __future__ import annotations

from medrestore.noise.level import Estimate
from medrestore.options import RestoreOptions, names_a_plugin
from medrestore.plugin.extensions.noise_estimators import find_noise_estimator
from medrestore.volume import Volume


def requested_noise(scan: Volume, options: RestoreOptions) -> float | str | Estimate:
    """Return what `noise_level` is to be asked.

    Raises:
        ConfigError: No plugin has the estimator that is named.
        PluginError: It breaks its contract.
    """
    requested = options.noise
    if not isinstance(requested, str) or not names_a_plugin(requested):
        return requested
    return Estimate(find_noise_estimator(requested)(scan.array, scan.spacing), requested)
