"""Enumerations and array aliases that every layer shares."""

from __future__ import annotations

from enum import StrEnum
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


class Modality(StrEnum):
    """What kind of scanner the values come from; decides the units and the default model."""

    MR = "MR"
    CT = "CT"
    UNKNOWN = "unknown"


class Task(StrEnum):
    """What a model does to a scan."""

    DENOISE = "denoise"
    SUPERRES = "superres"
