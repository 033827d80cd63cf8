"""The engine: joins models, samplers, noise estimates and tiles into `restore`."""

from medrestore.engine.evidence.restoration import Restoration
from medrestore.engine.models.load import LoadedModel, load_model
from medrestore.engine.restore import Known, restore
from medrestore.engine.run import Observers, TrajectoryPoint
from medrestore.engine.series import restore_series
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
