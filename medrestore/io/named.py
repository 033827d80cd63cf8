"""What the name of a file says of the modality of its scan."""

from __future__ import annotations

from pathlib import Path

from medrestore.types import Modality

NAMES = {
    **dict.fromkeys(
        (
            *("t1w", "t2w", "pdw", "flair", "t2starw", "t2star", "inplanet1", "inplanet2", "unit1"),
            *("swi", "mp2rage", "bold", "cbv", "sbref", "dwi", "asl", "m0scan"),
        ),
        Modality.MR,
    ),
    **dict.fromkeys(("ct",), Modality.CT),
}
"""Ends of file names that tell the modality, as in ``sub-01_T1w.nii.gz``: the part after the last ``_``."""


def modality_of_name(path: Path) -> Modality:
    """Return the modality that a BIDS-like file name states, else UNKNOWN.

    Headers of NIfTI and its like do not know the modality, so the part after the last underscore (before the
    first dot) is looked up in `NAMES`, whatever its case. ``head_ct.nii`` is CT and in HU; ``ct_head.nii``
    says nothing.
    """
    stem = path.name.split(".", 1)[0]
    return NAMES.get(stem.rpartition("_")[2].lower(), Modality.UNKNOWN) if "_" in stem else Modality.UNKNOWN
