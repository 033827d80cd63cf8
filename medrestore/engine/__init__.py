"""The engine: joins models, samplers, noise estimates and tiles into `restore`.

The names below are loaded on first use: what looks a model up, or asks for memory, pays for no torch.
"""

from typing import TYPE_CHECKING

from medrestore.lazy import on_first_use

if TYPE_CHECKING:
    from medrestore.engine.evidence.restoration import Restoration
    from medrestore.engine.models.load import LoadedModel, load_model
    from medrestore.engine.run import Observers, TrajectoryPoint
    from medrestore.engine.series import restore_series
    from medrestore.engine.single import Known, restore
    from medrestore.noise.wavelet import estimate_noise
    from medrestore.options import RestoreOptions

__all__ = [
    "Known",
    "LoadedModel",
    "Observers",
    "Restoration",
    "RestoreOptions",
    "TrajectoryPoint",
    "estimate_noise",
    "load_model",
    "restore",
    "restore_series",
]

# A module of this folder may have none of these names: once loaded, it would be found in their place.
_HOMES = {
    "Known": "medrestore.engine.single",
    "LoadedModel": "medrestore.engine.models.load",
    "Observers": "medrestore.engine.run",
    "Restoration": "medrestore.engine.evidence.restoration",
    "RestoreOptions": "medrestore.options",
    "TrajectoryPoint": "medrestore.engine.run",
    "estimate_noise": "medrestore.noise.wavelet",
    "load_model": "medrestore.engine.models.load",
    "restore": "medrestore.engine.single",
    "restore_series": "medrestore.engine.series",
}


__getattr__ = on_first_use(__name__, _HOMES)
