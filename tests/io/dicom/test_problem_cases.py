"""Series that were misread once, real or rebuilt after reports: the right answer, and dcm2niix beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from test_dicom_read_others import converted, differing

from medrestore.io import plan_dicom, read_series
from medrestore.volume import Volume


@dataclass(frozen=True)
class Right:
    """What a case holds.

    Attributes:
        shapes: Shape of each series, volumes last.
        distance: Of the slices, mm.
        findings: Codes.
        judged: Whether dcm2niix gets it right too.
    """

    shapes: tuple[tuple[int, ...], ...]
    distance: float
    findings: tuple[str, ...] = ()
    judged: bool = True


CT = ((48, 48, 12, 1),)
ORDER = ("volumes-by-order",)
ONE = ("attributes-vary-in-volume",)
RIGHT = {
    "frame_of_reference_each": Right(CT, 2.0, ONE),
    # dcm2niix writes three volumes of 6 mm, two of 4 mm, and three files: the cut that is mended here.
    "orientation_jitter": Right(CT, 2.0, ONE, judged=False),
    "echo_jitter": Right(CT, 2.0, ONE, judged=False),
    "imagetype_mixed_ct": Right(CT, 2.0, ONE, judged=False),
    "pixelspacing_jitter_2e-4": Right(CT, 2.0, ONE),
    "ge_fmri_10_times": Right(((64, 64, 15, 10),), 5.0, ORDER),
    "ge_fmri_small": Right(((64, 64, 4, 2),), 3.6, ORDER),
    "ge_dti": Right(((128, 128, 4, 2),), 2.0),
    "ge_b0map": Right(((128, 128, 16, 1),) * 2, 9.0, ("signed-values", *ORDER * 2)),
    "ge_dwi_clones": Right(((256, 256, 2, 7),), 3.0),
    "canon_dti": Right(((80, 80, 40, 3),), 3.0),
    "coil_0051_100f": Right(((48, 48, 8, 4),), 2.0),
    "pet_dynamic_frametime_only": Right(((48, 48, 8, 4),), 2.0),
    # dcm2niix stacks all 29 images into one volume.
    "interrupted_acqnumber": Right(((48, 48, 8, 3),), 2.0, ("volume-interrupted",), judged=False),
    # dcm2niix takes the distance of the first two slices: 0.6 mm where it is 0.625, and writes no others.
    "round_0.625_to_1dec": Right(((48, 48, 24, 1),), 0.625, ("positions-rounded",), judged=False),
    "round_0.75_to_1dec": Right(((48, 48, 24, 1),), 0.75, ("positions-rounded",), judged=False),
    "round_1.25_to_1dec": Right(((48, 48, 24, 1),), 1.25, ("positions-rounded",), judged=False),
}


def all_series(folder: Path) -> list[tuple[Volume, ...]]:
    return [read_series(folder, series=str(item.number)) for item in plan_dicom(folder).series]


@pytest.mark.parametrize("case", RIGHT)
def test_a_case_is_read_rightly(problem_cases, case):
    right = RIGHT[case]
    folder = problem_cases / "dicom" / case
    found = all_series(folder)
    assert tuple((*volumes[0].shape, len(volumes)) for volumes in found) == right.shapes
    for volumes in found:
        assert volumes[0].spacing[2] == pytest.approx(right.distance, abs=1e-3)
    notes = [note.code for item in plan_dicom(folder).series for note in item.notes]
    assert sorted(notes) == sorted(right.findings)


@pytest.mark.parametrize("case", [case for case, right in RIGHT.items() if right.judged])
def test_dcm2niix_says_the_same(problem_cases, tmp_path, case):
    images = [*converted(problem_cases / "dicom" / case, tmp_path / "out").values()]
    found = all_series(problem_cases / "dicom" / case)
    assert len(images) == len(found)
    for volumes in found:
        signed = volumes[0].array.min() < 0
        (image,) = (
            images if len(images) == 1 else [one for one in images if (one.get_fdata().min() < 0) == signed]
        )
        assert differing(volumes, image, tolerance=1e-6 * float(np.abs(image.get_fdata()).max())).size == 0
