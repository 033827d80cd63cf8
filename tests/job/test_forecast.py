"""Will it fit? One forecast, and everybody who asks hears the same."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_series import write_series
from tiny import SUPERRES, model_folder, noisy, phantom, save

import medrestore
from medrestore import (
    FileOptions,
    MedrestoreError,
    Modality,
    OutputRequest,
    ReadRequest,
    RestoreOptions,
    Task,
)
from medrestore.batch.find.cases import find_cases
from medrestore.batch.plan import plan_case
from medrestore.batch.settings import Settings
from medrestore.batch.workers import admission
from medrestore.batch.workers.case_json import case_json, options_of
from medrestore.engine import load_model
from medrestore.engine.cost import budget, calibration
from medrestore.engine.machine import memory
from medrestore.io import read_header
from medrestore.job.forecast import forecast

COSTS = calibration.Calibration(100_000_000, 150.0, 5000.0, 1e-6, 1e-7)

ROWS = {
    "small": ({"noise": "5%"}, (24, 24, 24), None),
    "fits": ({"noise": "5%", "max_memory": "20GB"}, (24, 24, 24), None),
    "a series": ({"noise": "5%", "max_memory": "20GB"}, (24, 24, 24, 3), None),
    "samples": ({"noise": "5%", "samples": 2, "steps": 1, "max_memory": "20GB"}, (24, 24, 24), None),
    "too large": ({"max_memory": "100MB"}, (24, 24, 24), "GB may be taken"),
    "a series that is too large": (
        {"noise": "5%", "max_memory": 102_000_000},
        (24, 24, 24, 30),
        "GB may be taken",
    ),
    "voxels of another size": ({"noise": "5%"}, (24, 24, 24), "voxels of"),
    "slices": ({"task": Task.SUPERRES, "max_memory": "20GB", "noise": "5%"}, (24, 24, 6), None),
    "no slices": ({"task": Task.SUPERRES}, (24, 24, 24), "nothing to resolve"),
}
"""Options, shape, and what a refusal says."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        Task.DENOISE: str(model_folder(root / "tiny")),
        Task.SUPERRES: str(model_folder(root / "tiny-superres", **SUPERRES)),
    }


@pytest.fixture(autouse=True)
def known_costs(monkeypatch):
    """Nothing is measured, so that every number is the same on every machine."""
    monkeypatch.setattr(budget, "calibration", lambda *_: COSTS)
    monkeypatch.setattr(
        sys.modules["medrestore.job.forecast"], "is_known", lambda asked, *_: asked.max_memory is not None
    )


def make(folder: Path, name: str, shape: tuple[int, ...]) -> Path:
    """Write the scan of a row."""
    import nibabel as nib

    array = noisy(phantom(24), 0.05)[: shape[0], : shape[1], :: 24 // shape[2]]
    if len(shape) == 4:
        array = np.repeat(array[..., np.newaxis], shape[3], axis=-1)
    sizes = [1.0, 1.0, 24 / shape[2]] if name != "voxels of another size" else [9.0, 9.0, 9.0]
    path = folder / "scan_T1w.nii"
    folder.mkdir()
    nib.save(nib.Nifti1Image(array, np.diag([*sizes, 1.0])), path)
    return path


def heard(work) -> object:
    """Return what is foreseen, or what is said of a refusal."""
    try:
        return work()
    except MedrestoreError as error:
        return str(error)


@pytest.mark.parametrize("name", ROWS)
def test_dry_run_restore_batch_and_node_say_the_same(models, tmp_path, monkeypatch, name):
    asked, shape, refusal = ROWS[name]
    scan = make(tmp_path / "in", name, shape)
    task = asked.get("task", Task.DENOISE)
    options = FileOptions(restore=RestoreOptions(model=models[task], **asked))
    settings = Settings.of(options)
    (case,) = find_cases(tmp_path / "in").cases

    said: dict[str, object] = {}
    plan = plan_case(case, settings)
    said["dry run"] = plan.refused or (plan.forecast.peak_bytes, plan.forecast.seconds)

    def of_the_record() -> object:
        (first, *_) = medrestore.restore_file(scan, tmp_path / "out.nii.gz", options)
        told = json.loads((tmp_path / "out.json").read_text())
        assert (told[0] if isinstance(told, list) else told)["predicted"] == json.loads(
            json.dumps(first.predicted)
        )
        if not first.predicted:
            return None, None
        count = len(told) if isinstance(told, list) else 1
        return round(first.predicted["peak_memory_mb"] * 1e6), first.predicted["seconds"] * count

    said["restore"] = heard(of_the_record)

    sent = case_json(case, settings)
    worker = options_of(sent)

    def of_the_worker() -> object:
        model = load_model(worker.restore)
        need = admission.QueuedCase(sent, worker, lambda: model)
        seen = forecast(admission.header_of(sent), worker, model)
        assert need.ask().peak == (seen.peak_bytes or 0)
        return seen.peak_bytes, seen.seconds

    said["worker"] = heard(of_the_worker)
    as_dicom = replace(options, output=OutputRequest(overwrite=True))

    def of_the_node() -> object:
        seen = forecast(read_header(scan, ReadRequest()), as_dicom)
        return seen.peak_bytes, seen.seconds

    said["node"] = heard(of_the_node)
    answers = {str(answer).replace(str(case.root), case.id) for answer in said.values()}
    assert len(answers) == 1, said
    assert (refusal is None) == isinstance(said["dry run"], tuple)
    assert refusal is None or refusal in str(said["dry run"])


def test_a_series_of_dicom_is_foreseen_from_its_plan(models, tmp_path):
    write_series(tmp_path / "in" / "head")
    options = FileOptions(
        restore=RestoreOptions(model=models[Task.DENOISE], max_memory="20GB", force=True),
        modality=Modality.MR,
    )
    (case,) = find_cases(tmp_path / "in").cases
    planned = plan_case(case, Settings.of(options)).forecast
    again = forecast(read_header(tmp_path / "in" / "head"), options)
    assert planned == again
    assert planned.modality is Modality.MR


def test_the_plan_has_the_modality_that_is_given(models, tmp_path):
    save(tmp_path / "head.nii.gz", noisy(phantom(24), 0.05))
    options = FileOptions(restore=RestoreOptions(model=models[Task.DENOISE]), modality=Modality.MR)
    (case,) = find_cases(tmp_path).cases
    assert case.modality is Modality.UNKNOWN
    assert plan_case(case, Settings.of(options)).forecast.modality is Modality.MR


def test_many_tiny_volumes_are_foreseen_before_any_is_read(models, tmp_path, monkeypatch):
    """Some hundred bytes may hold 32,767 volumes; each costs memory, time and a record beside its voxels."""
    import nibabel as nib

    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2, 32767), np.uint8), np.eye(4)), tmp_path / "in_T1w.nii.gz")
    assert (tmp_path / "in_T1w.nii.gz").stat().st_size < 2000
    options = FileOptions(restore=RestoreOptions(model=models[Task.DENOISE]))
    seen = forecast(read_header(tmp_path / "in_T1w.nii.gz"), options)
    assert seen.volumes == 32767
    assert seen.peak_bytes > 32766 * budget.RECORD_BYTES
    assert seen.seconds > 32767 * budget.LEAST * COSTS.network_seconds
    assert seen.disk_bytes > 32767 * 1000
    monkeypatch.setattr(budget, "usable_bytes", lambda: 1_000_000_000)
    with pytest.raises(MedrestoreError, match=memory.REFUSED):
        medrestore.restore_file(tmp_path / "in_T1w.nii.gz", tmp_path / "out.nii.gz", options)
    assert not (tmp_path / "out.nii.gz").exists()


def test_the_plan_of_a_batch_tells_how_many_volumes_there_are(models, tmp_path):
    from medrestore.cli.batching import _size

    make(tmp_path / "in", "a series", (24, 24, 24, 3))
    (case,) = find_cases(tmp_path / "in").cases
    settings = Settings.of(FileOptions(restore=RestoreOptions(model=models[Task.DENOISE], noise="5%")))
    assert _size(plan_case(case, settings)) == "24 x 24 x 24, 3 volumes"


def test_a_reference_on_another_grid_is_refused_by_its_header(models, tmp_path, monkeypatch):
    job, read = sys.modules["medrestore.job.run"], []
    given = job.read_volumes
    monkeypatch.setattr(job, "read_volumes", lambda header: read.append(header.path) or given(header))
    scan = make(tmp_path / "in", "small", (24, 24, 24))
    other = make(tmp_path / "truth", "small", (24, 24, 12))
    options = FileOptions(restore=RestoreOptions(model=models[Task.DENOISE], noise="5%"), reference=other)
    with pytest.raises(MedrestoreError, match="another grid"):
        medrestore.restore_file(scan, tmp_path / "out.nii.gz", options)
    assert read == [scan]


def test_what_is_found_in_a_reference_is_told(models, tmp_path):
    scan, truth = (make(tmp_path / name, "small", (24, 24, 24)) for name in ("in", "truth"))
    truth.write_bytes(truth.read_bytes() + b"behind")
    options = FileOptions(restore=RestoreOptions(model=models[Task.DENOISE], noise="5%"), reference=truth)
    (record,) = medrestore.restore_file(scan, tmp_path / "out.nii.gz", options)
    told = [one.text for one in record.findings if one.code == "bytes-behind-voxels"]
    assert told == ["of the reference: 6 bytes follow the voxels that the header declares, and were not read"]
