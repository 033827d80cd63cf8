"""What the worker keeps of a case for its page."""

from __future__ import annotations

import pytest
from report_rows import scan

from medrestore.provenance import Step
from medrestore.report import preview


@pytest.fixture
def pictures(tmp_path):
    before = scan()
    preview(before, before.with_array(before.array - 1, Step("test")), None, tmp_path / "kept.npz")
    return tmp_path / "kept.npz"
