"""What every test gets: a plain environment, the shared scans where there are any, and `needs_shared`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import medrestore

SCHEMA = Path(medrestore.__file__).parent / "job" / "sidecar.schema.json"
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a developer's own choice of plugins out of the tests."""
    monkeypatch.delenv("MEDRESTORE_PLUGINS", raising=False)


@pytest.fixture(autouse=True)
def sidecars_are_as_their_schema_says(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Validate every sidecar that a test writes, where the room that writes them is loaded at all."""
    writing = sys.modules.get("medrestore.job.write")
    if writing is None:
        return
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    made = writing.sidecar

    def checked(*arguments: object) -> str:
        text: str = made(*arguments)
        jsonschema.validate(json.loads(text), schema)
        return text

    monkeypatch.setattr(writing, "sidecar", checked)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real scans; for tests marked `needs_shared`."""
    return SHARED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs real scans where there are none."""
    if (SHARED / "data").is_dir():
        return
    absent = pytest.mark.skip(reason="needs real scans in ../shared/data")
    for item in items:
        if "needs_shared" in item.keywords:
            item.add_marker(absent)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an untrained model that takes no time."""
    from tiny import model_folder  # brings torch, which most tests do without

    return model_folder(tmp_path_factory.mktemp("model") / "tiny")
