"""The scans that a calibration is made of, by subject."""

from __future__ import annotations

import pytest

from medrestore.training.truths import find_truths


def subjects(folder, *names: str) -> dict[str, str]:
    """Write files, and return whose each is."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return {path.relative_to(folder).as_posix(): who for path, who in find_truths(folder).subjects.items()}


def test_a_subject_is_found_in_any_folder_of_the_path_nearest_first(tmp_path):
    found = subjects(
        tmp_path, "sub-01/ses-1/anat/T1w.nii", "sub-01/ses-1/anat/T2w.nii", "sub-02/sub-03_T1w.nii.gz"
    )
    assert list(found.values()) == ["sub-01", "sub-01", "sub-03"]


def test_a_folder_of_one_subject_has_one(tmp_path):
    assert set(subjects(tmp_path / "sub-04", "T1w.nii", "T2w.nii").values()) == {"sub-04"}


def test_files_of_one_name_in_other_folders_are_of_other_subjects(tmp_path):
    found = subjects(tmp_path, *(f"patient{number}/t1.nii" for number in range(8)), "t1.nii.gz")
    assert len(set(found.values())) == 9
    assert found["t1.nii.gz"] == "t1"  # as the draws of its noise depend on


@pytest.mark.parametrize("layout", ["sub-{0}/anat/T1w.nii", "sub-{0}_T1w.nii", "patient{0}/t1.nii"])
def test_no_subject_is_held_out_and_tuned_on(tmp_path, layout):
    subjects(tmp_path, *(layout.format(number) for number in range(6)))
    truths = find_truths(tmp_path)
    held_out, tuning = ({truths.subjects[path] for path in part} for part in truths.split())
    assert (len(held_out), len(tuning)) == (4, 2)
    assert not held_out & tuning
