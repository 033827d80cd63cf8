"""What every test gets: a plain environment, the shared scans where there are any, and `needs_shared`."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from multiprocessing import get_context
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any
from unittest.mock import patch

import preloaded
import pytest

import medrestore

SCHEMA = Path(medrestore.__file__).parent / "job" / "sidecar.schema.json"
PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
SHARED = Path(__file__).resolve().parents[2] / "shared"

gc.disable()  # until all files of tests are loaded: what they import is no garbage


@pytest.fixture(autouse=True, scope="session")
def programs_are_loaded_once() -> Iterator[None]:
    """Fork programs of ours that tests start from a process that has loaded what they import."""
    preloaded.Popen.source = preloaded.Source()
    with patch.object(subprocess, "Popen", preloaded.Popen):
        yield


@pytest.fixture(autouse=True)
def plain_environment() -> Iterator[None]:
    """Keep a developer's own choice of plugins out of the tests, and what a library sets out of the next."""
    with patch.dict(os.environ):
        os.environ.pop("MEDRESTORE_PLUGINS", None)
        yield


@pytest.fixture(autouse=True)
def sidecars_are_as_their_schema_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validate every sidecar that a test writes, where the room that writes them is loaded at all."""
    writing = sys.modules.get("medrestore.job.write")
    if writing is None:
        return
    made, validator = writing.sidecar, sidecar_validator()

    def checked(*arguments: object) -> str:
        text: str = made(*arguments)
        validator.validate(json.loads(text))
        return text

    monkeypatch.setattr(writing, "sidecar", checked)


@cache
def sidecar_validator() -> Any:
    """Return what validates sidecars; made once, as making it takes longer than most tests."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real scans; for tests marked `needs_shared`."""
    return SHARED


@pytest.fixture(scope="session")
def problem_cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `dicom` and `nifti`: small scans that were misread once; or skip."""
    archive = SHARED / "cases" / "cases.tar.xz"
    if not archive.is_file():
        pytest.skip("needs the problem cases in ../shared/cases")
    folder = tmp_path_factory.mktemp("cases")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs real scans where there are none, and begin with the files that take long.

    A file goes to one process whole; a long one that comes last would leave the others without work.
    """
    long = {item.path for item in items if "slow" in item.keywords}
    items.sort(key=lambda item: item.path not in long)
    if (SHARED / "data").is_dir():
        return
    absent = pytest.mark.skip(reason="needs real scans in ../shared/data")
    for item in items:
        if "needs_shared" in item.keywords:
            item.add_marker(absent)


def pytest_collection_finish() -> None:
    """Let no test pay for a search for cycles among all that was loaded: it stays to the end."""
    gc.freeze()
    gc.enable()


def installed(name: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a plugin of `plugins/`, in this process and for those that it starts."""
    from medrestore.plugin.host import plugins

    info, folder = site / f"medrestore_{name}-0.1.0.dist-info", PLUGINS / f"medrestore-{name}"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: medrestore-{name}\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(f"[medrestore]\n{name} = medrestore_{name}\n")
    paths = [str(site), str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.syspath_prepend(str(site))
    plugins.cache_clear()
    yield
    plugins.cache_clear()


@pytest.fixture
def formats_plugin(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Install `plugins/medrestore-formats`."""
    yield from installed("formats", tmp_path_factory.mktemp("site"), monkeypatch)


@pytest.fixture
def classical_plugin(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Install `plugins/medrestore-classical`, where its libraries are."""
    for library in ("dipy", "patch_denoise"):
        pytest.importorskip(library, reason=f"needs {library}")
    yield from installed("classical", tmp_path_factory.mktemp("site"), monkeypatch)


@pytest.fixture(scope="session")
def forkserver() -> Any:
    """Return what starts processes that are forked from one that has loaded what Dask and `verify` need.

    They have the environment that there is now, and not that of the test.
    """
    context = get_context("forkserver")
    ours = ("medrestore.batch.workers.dask_task", "medrestore.testing.processes")
    context.set_forkserver_preload(["distributed", "distributed.nanny", *ours])
    ensure_running()
    return context


@pytest.fixture(scope="module")
def noise_is_measured_once() -> Iterator[None]:
    """Measure the noise of a scan once, however many models it is shown to: that takes longer than they."""
    from medrestore.noise import measure_noise

    seen: dict[Any, Any] = {}

    def measured(array: Any, spacing: Any, pairs: Any = (), hints: Any = None) -> Any:
        voxels = [one for pair in ((array,), *pairs) for one in pair]
        said = [(one.shape, str(one.dtype), sha256(one.tobytes()).digest()) for one in voxels]
        key = (tuple(said), tuple(spacing), repr(hints))
        if key not in seen:
            seen[key] = measure_noise(array, spacing, pairs, hints)
        return seen[key]

    with patch("medrestore.noise.level.measure_noise", measured):
        yield


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an untrained model that takes no time."""
    from tiny import model_folder  # brings torch, which most tests do without

    return model_folder(tmp_path_factory.mktemp("model") / "tiny")
