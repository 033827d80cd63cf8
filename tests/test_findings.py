"""Findings: declared once, found somewhere, in the reference."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

import medrestore
from medrestore import findings
from medrestore.findings import KINDS, UNCLASSIFIED, Finding, FindingKind, Severity, with_warnings

PACKAGE = Path(medrestore.__file__).parent
MAKER = PACKAGE.parent / "docs" / "make_reference.py"


def test_every_kind_is_found_by_some_piece_of_the_package():
    names = {kind.code: name for name, kind in vars(findings).items() if isinstance(kind, FindingKind)}
    assert names.keys() == KINDS.keys()
    source = "".join(
        path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py") if path.name != "findings.py"
    )
    unused = [name for name in names.values() if f"{name}.found(" not in source]
    assert unused == ["UNCLASSIFIED"]  # of records of schema 1 alone


def test_a_finding_survives_json_and_is_detached():
    numbers = {"range": [1, 2]}
    found = findings.NOISE_OUTSIDE_MODEL.found("too much noise", **numbers)
    numbers["range"].append(3)
    entry = json.loads(json.dumps(found.as_json()))
    assert entry == {
        "code": "noise-outside-model",
        "severity": "warning",
        "text": "too much noise",
        "data": {"range": [1, 2]},
    }
    assert Finding.from_json(entry) == found


def test_what_another_version_found_is_a_warning():
    assert Finding("of-tomorrow", "something").severity is Severity.WARNING
    assert with_warnings([Finding("of-tomorrow", "something")])
    assert not with_warnings([findings.NO_NOISE.found("none")])


def test_a_code_is_declared_once():
    with pytest.raises(ValueError, match="declared twice"):
        FindingKind(UNCLASSIFIED.code, Severity.NOTE, "again")


@pytest.mark.skipif(not MAKER.exists(), reason="needs the source tree")
def test_the_reference_is_made_of_the_kinds():
    spec = importlib.util.spec_from_file_location("make_reference", MAKER)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    for name, make in made.PAGES.items():
        page = (MAKER.parent / "reference" / name).read_text(encoding="utf-8")
        assert page == make(), f"run `python {MAKER.relative_to(PACKAGE.parent)}`"
