"""The process in which a node restores a series: what it says, how long it may take, what it cannot do."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from dicom_series import write_series
from pydicom.uid import BasicTextSRStorage
from tiny import model_folder

pytest.importorskip("pynetdicom")
from medrestore.io import read_series
from medrestore.node import child as child_module
from medrestore.processes import module_arguments

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("model") / "tiny", spacing_mm=[0.5, 3])


def larger(index, data):
    rng = np.random.default_rng(index)
    data.Rows = data.Columns = 16
    data.add_new("PixelData", "OW", (500 + 30 * rng.standard_normal((16, 16))).astype("<i2").tobytes())


def restore_in_child(source, target, model) -> dict:
    options = {"model": str(model), "force": True, "device": "cpu"}
    job = json.dumps({"source": str(source), "target": str(target), "options": options})
    command = [sys.executable, *module_arguments("medrestore.node.child")]
    run = subprocess.run(command, input=job, capture_output=True, text=True, check=False)
    return json.loads(run.stdout)


def test_the_volumes_of_a_series_come_back_as_one_series(tmp_path, model):
    for n in range(2):

        def edit(index, data, n=n):
            larger(index + 6 * n, data)
            data.SOPInstanceUID = f"{data.SOPInstanceUID}.{n}"
            data.InstanceNumber = 1 + 6 * n + index
            data.EchoTime = 3 + n

        write_series(tmp_path / f"part{n}", change=edit)
        (tmp_path / "scan").mkdir(exist_ok=True)
        for path in (tmp_path / f"part{n}").iterdir():
            path.rename(tmp_path / "scan" / f"{n}_{path.name}")
    assert restore_in_child(tmp_path / "scan", tmp_path / "out", model) == {"reason": ""}
    before, after = read_series(tmp_path / "scan"), read_series(tmp_path / "out")
    assert len(before) == len(after) == 2
    for one, other in zip(before, after, strict=True):
        assert other.geometry.allclose(one.geometry, 1e-6)
        assert 0 < np.abs(other.array - one.array).mean() < 60


@pytest.mark.parametrize("kind", ["localizer", "report", "cut"])
def test_what_cannot_be_restored_is_named(tmp_path, model, kind):
    def edit(index, data):
        larger(index, data)
        if kind == "localizer":
            data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        elif kind == "report":
            data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
            data.Modality = "SR"
            del data.PixelData

    write_series(tmp_path / "scan", change=edit)
    if kind == "cut":
        for path in (tmp_path / "scan").iterdir():
            path.write_bytes(path.read_bytes()[:-100])
    said = restore_in_child(tmp_path / "scan", tmp_path / "out", model)
    expected = {"localizer": "localizer", "report": "structured report", "cut": "pixel"}[kind]
    assert expected in said["reason"].lower()
    assert not (tmp_path / "out").exists()


def test_nothing_of_a_header_is_quoted(tmp_path):
    canary = "Canary^Name"

    def fail(words):
        raise ValueError(words)

    with pytest.raises(ValueError, match="Canary") as caught:
        fail(canary)
    said = child_module._described(caught.value)
    assert said["reason"].startswith("ValueError in test_node_child.py, line ")
    assert canary not in json.dumps(said)
