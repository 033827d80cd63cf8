"""What the images of a derived series show: the restored scan, or a map that goes with it."""

from __future__ import annotations

from dataclasses import dataclass

SCHEME = "99MEDRESTORE"
"""Designator of our own codes, where DICOM has none."""


@dataclass(frozen=True)
class Quantity:
    """What the values of a derived series are.

    Attributes:
        title: Begins the description of the series.
        number: Added to the number of the source series.
        image_type: Fourth value of ImageType in classic images of a map; empty for the scan itself.
        frame_type: Fourth value of FrameType in enhanced images of a map; empty for the scan itself.
        code: Code value and meaning of the derivation of a map.
        comment: What a viewer shows of a map, as a format of the record's ``settings``.
    """

    title: str
    number: int
    image_type: str = ""
    frame_type: str = ""
    code: tuple[str, str] = ("", "")
    comment: str = ""

    @property
    def is_map(self) -> bool:
        """Whether the values are no image of the patient."""
        return bool(self.image_type)


RESTORED = "restored"
QUANTITIES: dict[str, Quantity] = {
    RESTORED: Quantity("Restored", 1000),
    "std": Quantity(
        title="Std dev",
        number=2000,
        image_type="STD_DEV",
        frame_type="STD_DEVIATION",
        code=("posterior-std", "Standard deviation of posterior samples"),
        comment="standard deviation of {samples} posterior samples",
    ),
    "lower": Quantity(
        title="Lower end",
        number=3000,
        image_type="LOWER",
        frame_type="FILTERED",
        code=("interval-lower", "Lower end of the prediction interval"),
        comment="lower end of the {interval:.0%} interval of each voxel",
    ),
    "upper": Quantity(
        title="Upper end",
        number=4000,
        image_type="UPPER",
        frame_type="FILTERED",
        code=("interval-upper", "Upper end of the prediction interval"),
        comment="upper end of the {interval:.0%} interval of each voxel",
    ),
    "null": Quantity(
        title="Null space",
        number=5000,
        image_type="NULL_SPACE",
        frame_type="FILTERED",
        code=("null-space", "Part of the result that no slice of the source shows"),
        comment="part of the result that no slice of the source shows",
    ),
}
"""Every quantity by the name that outputs and records give it."""
