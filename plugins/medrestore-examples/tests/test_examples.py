from __future__ import annotations

import json

import medrestore_examples


def test_a_failure_is_a_line_of_the_log(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDRESTORE_EXAMPLES_LOG", str(tmp_path / "log.jsonl"))
    medrestore_examples.medrestore_case_failed("scan.nii", "no NIfTI")
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line) == {"event": "failed", "source": "scan.nii", "error": "no NIfTI"}


def test_without_a_file_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEDRESTORE_EXAMPLES_LOG", raising=False)
    medrestore_examples.medrestore_case_failed("scan.nii", "no NIfTI")
    assert list(tmp_path.iterdir()) == []
