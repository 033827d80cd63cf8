"""A small data set of BIDS, and models to restore it with."""

from __future__ import annotations

import pytest
from bids_data import CANARY, write
from tiny import SUPERRES, model_folder, noisy, phantom, save

from medrestore.types import Task


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        Task.DENOISE: model_folder(root / "tiny"),
        Task.SUPERRES: model_folder(root / "tiny-superres", **SUPERRES),
    }


@pytest.fixture
def raw(tmp_path):
    """Two subjects, one of them with sessions, and much that is no case."""
    root = tmp_path / "raw"
    scan = noisy(phantom(16), 0.05)
    for name in (
        "sub-01/ses-a/anat/sub-01_ses-a_run-01_T1w.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_T2w.nii.gz",
        "sub-02/anat/sub-02_FLAIR.nii.gz",
        "sub-02/anat/sub-02_part-phase_T1w.nii.gz",
        "sub-02/anat/sub-02_desc-brain_mask.nii.gz",
        "sub-02/func/sub-02_task-rest_bold.nii.gz",
        "derivatives/other/sub-02/anat/sub-02_desc-smooth_T1w.nii.gz",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        save(root / name, scan)
    write(root / "dataset_description.json", {"Name": CANARY, "BIDSVersion": "1.10.0", "Authors": [CANARY]})
    private = ("InstitutionName", "DeviceSerialNumber", "AcquisitionTime", "PatientName")
    write(root / "sub-02/anat/sub-02_FLAIR.json", {"SkullStripped": True, **dict.fromkeys(private, CANARY)})
    return root
