"""What every test gets: a plain environment, the shared scans where there are any, and `needs_shared`."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a developer's own choice of plugins out of the tests."""
    monkeypatch.delenv("MEDRESTORE_PLUGINS", raising=False)


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
