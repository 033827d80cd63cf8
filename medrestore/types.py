"""Enumerations and array aliases that every layer shares."""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
"""Voxels as the engine works on them."""

Float64Array = npt.NDArray[np.float64]
"""Coordinates and affines, in mm."""

BoolArray = npt.NDArray[np.bool_]
"""Masks: True inside."""

RealArray = npt.NDArray[Any]
"""Any real (boolean, integer or floating) array; `Volume` checks that it is real."""


class Modality(str, Enum):
    """What kind of scanner the values come from; decides the units and the default model."""

    MR = "MR"
    CT = "CT"
    UNKNOWN = "unknown"

    def __str__(self) -> str:
        """Return the bare value, the same on every Python version."""
        return self.value


class Task(str, Enum):
    """What a model does to a scan."""

    DENOISE = "denoise"
    SUPERRES = "superres"

    def __str__(self) -> str:
        """Return the bare value, the same on every Python version."""
        return self.value
