"""Observers hear of what was done, once everything has its name, and can change none of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import noisy, phantom, save

from medrestore import RestoreOptions, restore_file
from medrestore.errors import InputError


@pytest.fixture
def scan(tmp_path) -> Path:
    return save(tmp_path / "scan.nii.gz", noisy(phantom(24), 0.05))


@pytest.fixture
def log(tmp_path, monkeypatch, examples) -> Path:
    path = tmp_path / "log.jsonl"
    monkeypatch.setenv("MEDRESTORE_EXAMPLES_LOG", str(path))
    return path


def heard(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def options(tiny_model: Path) -> RestoreOptions:
    return RestoreOptions(model=str(tiny_model), device="cpu")


def test_a_case_is_heard_of_when_it_is_restored_and_when_it_is_written(log, scan, tiny_model, tmp_path):
    (record,) = restore_file(scan, tmp_path / "out.nii.gz", options(tiny_model))
    assert heard(log) == [
        {"event": "restored", "model": "tiny", "sigma": record.noise["sigma"]},
        {"event": "written", "volumes": 1, "files": ["out.nii.gz", "out.json"]},
    ]


def test_a_refusal_is_heard_of_with_its_reason(log, scan, tiny_model, tmp_path, command):
    (tmp_path / "out.nii.gz").touch()
    status, _, told = command("restore", scan, "-o", tmp_path / "out.nii.gz", "--model", tiny_model)
    assert status == 2
    (failed,) = heard(log)
    assert failed == {
        "event": "failed",
        "source": str(scan),
        "error": told.removeprefix("medrestore: ").strip(),
    }
    assert "exists already" in str(failed["error"])


def test_a_failure_on_the_way_is_heard_of_once(log, tiny_model, tmp_path):
    (tmp_path / "bad.nii").write_bytes(b"\x5c\x01\x00\x00" + bytes(344))
    with pytest.raises(InputError):
        restore_file(tmp_path / "bad.nii", tmp_path / "out.nii.gz", options(tiny_model))
    assert [one["event"] for one in heard(log)] == ["failed"]


def test_a_batch_is_heard_of_case_by_case(log, tiny_model, tmp_path, command):
    scans = tmp_path / "scans"
    scans.mkdir()
    save(scans / "good.nii.gz", noisy(phantom(24), 0.05))
    (scans / "bad.nii.gz").write_bytes(b"no NIfTI")
    status, _, told = command(
        "batch", scans, "-o", tmp_path / "results", "--model", tiny_model, "--device", "cpu"
    )
    assert status == 3, told
    events = sorted(str(one["event"]) for one in heard(log))
    assert events == ["failed", "restored", "written"]
    (failed,) = (one for one in heard(log) if one["event"] == "failed")
    assert str(failed["source"]).endswith("bad.nii.gz")


EDITING = """
from medrestore import hookimpl

@hookimpl
def medrestore_volume_restored(record):
    record.noise["sigma"] = -1.0
    object.__setattr__(record, "model", None)
    raise OSError("disk full")

@hookimpl
def medrestore_case_written(records, files):
    records[0].output["sha256"] = "none"
"""


def test_what_an_observer_edits_is_a_copy_and_what_it_raises_stops_nothing(
    site, scan, tiny_model, tmp_path, monkeypatch, caplog
):
    site.add("editor", EDITING)
    (record,) = restore_file(scan, tmp_path / "out.nii.gz", options(tiny_model))
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["noise"]["sigma"] == record.noise["sigma"] > 0
    assert written["model"]["name"] == "tiny"
    assert record.output["sha256"] == written["output"]["sha256"] != "none"
    assert "plugin 'editor' (dist-editor 1.2), medrestore_volume_restored: OSError: disk full" in caplog.text
