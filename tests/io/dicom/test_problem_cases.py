"""Series that were misread once, real or rebuilt after reports: the right answer, and dcm2niix beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from test_dicom_read_others import converted, differing

from medrestore.errors import InputError
from medrestore.io import plan_dicom, read, read_series, reading_findings
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


CT, CT24, SIX = ((48, 48, 12, 1),), ((48, 48, 24, 1),), ((48, 48, 6, 1),)
ORDER = ("volumes-by-order",)
ONE = ("attributes-vary-in-volume",)
ODD = ("malformed-elements",)
NO_CLASS = ("class-not-stated",)
JUDGED = ("hounsfield-judged",)
ROUNDED = ("positions-rounded",)
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
    "ge_b0map": Right(((128, 128, 16, 1),) * 2, 9.0, ("signed-values", *ORDER)),
    "ge_dwi_clones": Right(((256, 256, 2, 7),), 3.0),
    "canon_dti": Right(((80, 80, 40, 3),), 3.0),
    "coil_0051_100f": Right(((48, 48, 8, 4),), 2.0),
    "pet_dynamic_frametime_only": Right(((48, 48, 8, 4),), 2.0),
    # dcm2niix stacks all 29 images into one volume.
    "interrupted_acqnumber": Right(((48, 48, 8, 3),), 2.0, ("volume-interrupted",), judged=False),
    # dcm2niix takes the distance of the first two slices: 0.6 mm where it is 0.625, and writes no others.
    "round_0.625_to_1dec": Right(CT24, 0.625, ROUNDED, judged=False),
    "round_0.75_to_1dec": Right(CT24, 0.75, ROUNDED, judged=False),
    "round_1.25_to_1dec": Right(CT24, 1.25, ROUNDED, judged=False),
    "mosaic_reversed": Right(((64, 64, 36, 6),), 3.6),
    "mosaic_sagittal": Right(((64, 64, 36, 6),), 3.6),
    "enhanced_says_mosaic": Right(((64, 64, 33, 3),), 3.4),
    # dcm2niix writes 17 pictures of 320 x 256.
    "uih_vframe": Right(((64, 64, 20, 17),), 4.2, judged=False),
    "badvr_PixelSpacing_1,0x1,0": Right(SIX, 2.0, ODD),
    "badvr_RescaleSlope_1,0": Right(SIX, 2.0, ODD),
    "badvr_SeriesNumber_A": Right(SIX, 2.0, ODD),
    "badvr_SliceThickness_2,0": Right(SIX, 2.0, ODD),
    "badvr_SpacingBetweenSlices_?": Right(SIX, 2.0, ODD),
    "ct_no_rescale": Right(CT, 2.0, JUDGED),
    "rescaletype_Unspecified": Right(CT, 2.0, JUDGED),
    "mr_slope0": Right(CT, 2.0, ("scale-not-believed",)),
    "highbit15_stored12": Right(CT, 2.0, ("bits-judged",)),
    # dcm2niix does not invert.
    "monochrome1": Right(CT, 2.0, ("grey-inverted",), judged=False),
    "no_sop_class": Right(CT, 2.0, NO_CLASS),
    "sc_class_with_geometry": Right(CT, 2.0, NO_CLASS),
    "mr_as_ct_cbct_xray3d": Right(CT, 2.0, NO_CLASS),
    "pre_none_starts_0008_0060": Right(CT, 2.0, NO_CLASS, judged=False),
    "pixelpadding0_is_water": Right(CT, 2.0, ("padding-not-believed",)),
    "study_one_junk_file": Right(CT, 2.0),
    # dcm2niix takes the folder of a file.
    "deflated_ct.dcm": Right(((128, 128, 1, 1),), 5.0, judged=False),
}
REFUSED = {
    "cut_last_slice": "s4.dcm: the file ends within its header",
    "bytes_length": "damaged",
    "name_in_message.dcm": "name_in_message.dcm: the file ends within its header",
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
    codes = {found.code for volumes in found for found in reading_findings(volumes[0])}
    assert codes == set(right.findings)


@pytest.mark.parametrize("case", REFUSED)
def test_a_case_is_refused_by_name(problem_cases, case):
    folder = problem_cases / "dicom" / case
    with pytest.raises(InputError, match=REFUSED[case]) as caught:
        read(folder)
    said = str(caught.value).replace(str(folder), "")
    assert len(said) < 400 and "^" not in said


def test_every_case_is_in_one_of_the_tables(problem_cases):
    assert {path.name for path in (problem_cases / "dicom").iterdir()} == {*RIGHT, *REFUSED}


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
