"""Training: patches with simulated degradation, the loop, the export of a model folder.

`train` is the whole of it: from a configuration to a model folder.
"""

from medrestore.training.loop import Progress
from medrestore.training.recipe import TrainConfig, load_config
from medrestore.training.train import train

__all__ = ["Progress", "TrainConfig", "load_config", "train"]
