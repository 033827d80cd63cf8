"""What the tests of plugins share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from plugin_site import Site

import medrestore
from medrestore.plugin.host import plugins

if TYPE_CHECKING:
    from tiny import CommandLine

ROOT = Path(medrestore.__file__).parents[1]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Return a folder for plugins; what was imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield Site(tmp_path)
    plugins.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith("plugin_"):
            del sys.modules[name]


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Register `plugins/medrestore-examples`, for processes that a test starts too; return its folder."""
    source = ROOT / "plugins" / "medrestore-examples"
    if not source.is_dir():
        pytest.skip("needs the source tree")
    info = tmp_path / "site" / "medrestore_examples-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: medrestore-examples\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[medrestore]\nexamples = medrestore_examples\n")
    for folder in (source, info.parent):
        monkeypatch.syspath_prepend(str(folder))
    found = [*map(str, (info.parent, source, ROOT)), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(found))
    plugins.cache_clear()
    yield source
    plugins.cache_clear()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Return the command line, run in this process."""
    from tiny import CommandLine  # brings torch, which most tests do without

    return CommandLine(monkeypatch, capsys)
