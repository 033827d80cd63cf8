"""Enumerations, array aliases and constants that layers share."""

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

IntArray = npt.NDArray[np.intp]
"""Indices."""

RealArray = npt.NDArray[Any]
"""Any real (boolean, integer or floating) array; `Volume` checks that it is real."""


SERIES_FILES = "IM*.dcm"
"""What a folder of a derived DICOM series holds, and all that may be removed from one."""

AIR_HU = -1000.0
"""Air in CT."""

LEAST_HU = -1024.0
"""The least that scanners store of what they measure."""

UNMEASURED_HU = -1800.0
"""CT below this was not measured: nothing attenuates less than vacuum, and the noise of air is weaker.

Scanners store -2000, -3024 or -8192 HU outside the reconstruction circle. Not every image says so by its
padding value, and lossy compression leaves such values near to it.
"""


class Modality(StrEnum):
    """What kind of scanner the values come from; decides the units and the default model.

    A name is taken in any case: ``Modality("mr")`` is `MR`.
    """

    MR = "MR"
    CT = "CT"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> Modality | None:
        """Find the member that differs in case alone."""
        said = value.casefold() if isinstance(value, str) else None
        return next((member for member in cls if member.value.casefold() == said), None)


class Task(StrEnum):
    """What a model does to a scan."""

    DENOISE = "denoise"
    SUPERRES = "superres"


class Judgement(StrEnum):
    """Whether a result agrees with the scan that it was made of, from good to bad."""

    PASS = "PASS"
    """Every statistic of the residual is as those of good results are."""
    WARN = "WARN"
    """A statistic is as in few good results."""
    FAIL = "FAIL"
    """A statistic is as in next to no good result."""
