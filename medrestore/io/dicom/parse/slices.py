"""One slice as its file describes it, or a file without one; no patient data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medrestore.io.dicom.parse.doubts import Doubt, Oddity
from medrestore.io.dicom.parse.rescale import Scaling
from medrestore.io.dicom.parse.sop_classes import SkipReason
from medrestore.io.dicom.parse.volume_labels import Traits
from medrestore.io.sampling import Sampling

_UNCOMPRESSED = (
    *(ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian),
    *(DeflatedExplicitVRLittleEndian, ""),
)


def is_compressed(syntax: UID) -> bool:
    """Whether the pixels of a transfer syntax go through a codec."""
    return syntax not in _UNCOMPRESSED


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """One slice, as its file describes it; lengths in mm, vectors in LPS+ as DICOM has them.

    Attributes:
        path: The file.
        frame: Number of the frame in the file, from 0.
        frames: How many frames the file has.
        series: Series UID.
        instance: SOP Instance UID.
        number: Series number.
        order: Instance number; None if none is stated.
        description: Series description.
        modality: Such as ``"MR"``.
        frame_of_reference: UID of the frame of reference; empty if the file states none.
        image_type: Values of the image type, or of the frame type.
        size: Rows and columns.
        spacing: Distance between rows and between columns.
        orientation: Unit vectors along a row and along a column, 2x3.
        position: Centre of the first pixel.
        distance: Slice distance stated in the file; 1 if none is stated.
        thickness: Slice thickness stated in the file; None if none is stated.
        traits: Values that tell the volumes of a series apart: echo, b-value, time, stack.
        hints: Values that may tell the volumes apart where traits do not.
        dtype: Type of the stored values.
        bits: How many bits of a stored value are in use, the lowest ones.
        scaling: How stored values become values.
        syntax: Transfer syntax.
        sampling: What the header states of how the slice was sampled.
        concatenation: UID of the concatenation that the file is a part of, number of the part from 1, and
            the number of parts (0 if not stated); None if the file is part of none.
        tiles: Slices along a row of the picture, if the slice is a tile of one; then `frame` and `frames`
            count tiles.
        tiles_down: Slices along a column of the picture.
        shift: How many bits lie below those in use.
        doubts: What the header leaves open of the values.
        oddities: What was odd about the file.
        otherwise: Why it is left out where other slices say what they are, as its class is not that of a
            scan; None if it is not.
    """

    path: Path
    frame: int
    frames: int
    series: str
    instance: str
    number: int | None
    order: int | None
    description: str
    modality: str
    frame_of_reference: str
    image_type: tuple[str, ...]
    size: tuple[int, int]
    spacing: tuple[float, float]
    orientation: tuple[tuple[float, ...], tuple[float, ...]]
    position: tuple[float, ...]
    distance: float
    thickness: float | None
    traits: Traits
    hints: Traits
    dtype: np.dtype[Any]
    bits: int
    scaling: Scaling
    syntax: UID
    sampling: Sampling
    concatenation: tuple[str, int, int] | None = None
    tiles: int = 1
    tiles_down: int = 1
    shift: int = 0
    doubts: tuple[Doubt, ...] = ()
    oddities: tuple[Oddity, ...] = ()
    otherwise: SkipReason | None = None

    @property
    def scale(self) -> tuple[float, float]:
        """Rescale slope and intercept."""
        return self.scaling.rescale.slope, self.scaling.rescale.inter

    @property
    def unused_bits(self) -> int:
        """Bits of a stored value above the bits in use; their content is undefined."""
        return self.dtype.itemsize * 8 - self.bits

    @property
    def compressed(self) -> bool:
        """Whether the pixels go through a codec."""
        return is_compressed(self.syntax)

    @property
    def name(self) -> str:
        """Name of the file, and the number of the frame if there are several."""
        return self.path.name if self.frames == 1 else f"{self.path.name} frame {self.frame + 1}"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file without a usable slice.

    Attributes:
        path: The file.
        why: Kind of reason.
        text: The reason in words, beginning with the path.
        series: Series UID; empty where it cannot be told.
        number: Series number.
        description: Series description.
    """

    path: Path
    why: SkipReason
    text: str
    series: str = ""
    number: int | None = None
    description: str = ""

    @classmethod
    def of(cls, head: SliceHeader, why: SkipReason, text: str) -> LeftOut:
        """Return the file of a slice as left out."""
        return cls(head.path, why, text, head.series, head.number, head.description)
