from __future__ import annotations

import hashlib
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

from medrestore.errors import InputError
from medrestore.findings import UNCLASSIFIED, VOXELS_OUTSIDE_MODEL
from medrestore.provenance import ModelRef, RunRecord, Source, Step, sha256_file, software_versions


def record() -> RunRecord:
    return RunRecord(
        medrestore="0.1.0",
        versions={"numpy": "2"},
        model=ModelRef("builtin/mr-denoise", "builtin", "ab" * 32),
        input=Source(
            "scan.nii.gz",
            "nifti",
            "cd" * 32,
            {"dtype": "int16", "slope": np.float64(0.5), "shape": [4, 5, 6]},
        ),
        settings={"tile": (64, 64, 64), "reference": None, "weights": Path("model") / "w"},
        seed=7,
        noise={"sigma": np.float32(0.25)},
        timings={"read": 0.1},
        peak_memory_mb=512.5,
        metrics={"psnr": {"value": math.inf, "definition": "in the head"}},
        findings=(VOXELS_OUTSIDE_MODEL.found("voxels are anisotropic", spacing_mm=(1, 1, 3)),),
    )


def test_record_survives_json():
    again = RunRecord.from_json(record().to_json())
    assert again == record()
    assert again.input.details["shape"] == (4, 5, 6)
    assert again.model.sha256 == "ab" * 32


def test_record_json_is_standard_json_even_with_infinities():
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    data = json.loads(record().to_json(), parse_constant=refuse)
    assert data["metrics"]["psnr"]["value"] == "Infinity"
    assert data["noise"]["sigma"] == 0.25


def test_a_record_of_schema_1_has_its_sentences_as_findings():
    old = json.loads(record().to_json())
    del old["findings"]
    old |= {"schema": 1, "warnings": ["voxels are anisotropic"]}
    again = RunRecord.from_json(json.dumps(old))
    assert again.sentences == ("voxels are anisotropic",)
    assert again.findings[0].code == UNCLASSIFIED.code


def test_record_is_detached_from_the_callers_objects():
    settings = {"tile": [64, 64]}
    params = {"a": {"b": 1}}
    made = RunRecord("0", {}, ModelRef("m", "p"), Source("", "array"), settings=settings)
    step = Step("scale", params)
    settings["tile"].append(1)
    params["a"]["b"] = 2
    assert made.settings["tile"] == (64, 64)
    assert step.params == {"a": {"b": 1}}


def test_step_and_source_survive_pickling():
    assert pickle.loads(pickle.dumps(record())) == record()


@pytest.mark.parametrize("bad", [{"x": object()}, {"x": b"bytes"}, {1: 2}, {"x": {1, 2}}, {"x": 1j}])
def test_step_refuses_what_has_no_json_form(bad):
    with pytest.raises(TypeError):
        Step("s", bad)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "schema"),
        ('{"schema": 99}', "schema 99"),
        ('{"schema": 1}', "missing"),
        ('{"schema": 1, "colour": 3}', "unknown fields colour"),
    ],
)
def test_bad_record_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        RunRecord.from_json(text)


def test_source_format_is_checked():
    with pytest.raises(ValueError, match="the name of one"):
        Source("a", "")


def test_sha256_file(tmp_path):
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    with pytest.raises(InputError, match="missing"):
        sha256_file(tmp_path / "missing")


def test_software_versions_name_what_computes():
    versions = software_versions()
    assert versions["numpy"] == np.__version__
    assert set(versions) >= {"python", "nibabel"}
