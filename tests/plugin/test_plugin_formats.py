"""Formats of plugins: found in one place, and what goes wrong in one is said of it by name."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import medrestore
from medrestore import ReadRequest, Volume, hookimpl
from medrestore.errors import InputError, OutputError, PluginError
from medrestore.io import DICOM, NIFTI
from medrestore.plugin import (
    Format,
    FormatSpec,
    PluginManager,
    StoredVoxels,
    header_by_name,
    installed_formats,
    volumes_of,
)
from medrestore.plugin import host as plugin_host

SCAN = Volume.from_array(np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.diag([1, 2, 3, 1]), "MR")


def fail(*_: object) -> None:
    raise KeyError("CANARY^NAME")


def header(path: Path, _: object):
    return header_by_name(path, SCAN.geometry)


def read(found):
    return volumes_of(found, "raw", [np.fromfile(found.path, "<f4").reshape(2, 3, 4)], [found.path])


def write(volumes, path: Path, dtype: str) -> StoredVoxels:
    volumes[0].array.astype("<f4").tofile(path)
    return StoredVoxels("float32", 0)


def raw(**changes: object) -> Format:
    functions = {"header": header, "read": read, "write": write, **changes}
    return Format(**{"name": "raw", "suffixes": (".f32",), **functions})


Install = Callable[..., PluginManager]


@pytest.fixture
def install(monkeypatch) -> Install:
    """Install plugins that declare formats, beside the built-in one."""

    def run(**plugins: object) -> PluginManager:
        entries = [one for one in metadata.entry_points(group="medrestore") if one.name == "medrestore"]
        for name, specs in plugins.items():
            module = ModuleType(f"formats_of_{name}")
            module.medrestore_formats = hookimpl(lambda specs=specs: specs, specname="medrestore_formats")
            monkeypatch.setitem(sys.modules, module.__name__, module)
            entries.append(metadata.EntryPoint(name, module.__name__, "medrestore"))
        manager = PluginManager(entries, "")
        assert {info.status for info in manager.plugins} == {"ok"}, manager.plugins
        monkeypatch.setattr(plugin_host, "plugins", lambda: manager)
        return manager

    return run


def spec(load: Callable[[], object], name: str = "raw") -> FormatSpec:
    return FormatSpec(name=name, title="Raw numbers", load=load)


def test_the_built_in_formats_are_declared_by_the_hook():
    assert [one.name for one in installed_formats()][:2] == [DICOM.name, NIFTI.name]
    assert [one.title for one in installed_formats()][:2] == ["DICOM", "NIfTI"]


def test_the_public_names_read_and_write_what_a_plugin_declares(install, tmp_path):
    install(mine=[spec(raw)])
    path = tmp_path / "head_T1w.f32"
    report = medrestore.write(SCAN, path)
    assert (report.path, report.dtype) == (path, "float32") and len(report.sha256) == 64
    for found in (medrestore.read(path), medrestore.read_series(path)[0]):
        assert np.array_equal(found.array, SCAN.array) and found.geometry == SCAN.geometry
        assert (found.modality, found.source.format, found.source.sha256) == ("MR", "raw", report.sha256)
    with pytest.raises(OutputError, match="exists already"):
        medrestore.write(SCAN, path)


def test_a_series_is_asked_of_dicom_alone(install, tmp_path):
    install(mine=[spec(raw)])
    medrestore.write(SCAN, path := tmp_path / "a.f32")
    with pytest.raises(InputError, match="no DICOM, and so without a series '2'"):
        medrestore.read(path, series="2")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"header": fail}, r"header raised KeyError at test_plugin_formats.py:\d+"),
        ({"read": fail}, r"read raised KeyError at test_plugin_formats.py:\d+"),
        ({"recognises": fail}, "recognises raised KeyError"),
        *(
            ({name: lambda *_: sys.exit(0)}, rf"{name} raised SystemExit at test_plugin_formats.py:\d+")
            for name in ("recognises", "files", "header", "read")
        ),
        ({"files": lambda path: None}, r"files returned None, expected a tuple of pathlib\.Path"),
        ({"files": lambda path: [path, "b"]}, r"files returned \[.*, expected a tuple of pathlib\.Path"),
        (
            {"header": lambda path, request: header_by_name(path, None)},
            "header returned a header whose geometry is NoneType, expected a Geometry",
        ),
        (
            {"header": lambda path, request: header_by_name(path, SCAN.geometry, "3")},
            "header returned a header with '3' volumes, expected a whole number",
        ),
        ({"header": lambda path, request: {}}, "header returned dict, expected a ScanHeader"),
        ({"read": lambda found: SCAN}, "read returned Volume, expected a tuple of Volume"),
        ({"read": lambda found: [SCAN, SCAN]}, "read returned 2 volumes, expected the 1 of its header"),
        (
            {"read": lambda found: [Volume.from_array(SCAN.array, np.eye(4))]},
            "read returned volumes on another grid than that of its header",
        ),
    ],
)
def test_what_a_format_does_wrong_is_said_of_it_and_not_of_the_scan(install, tmp_path, changes, words):
    install(mine=[spec(lambda: raw(**changes))])
    SCAN.array.tofile(tmp_path / "a.f32")
    with pytest.raises(
        PluginError, match=f"plugin 'mine', format 'raw': {words}.*; the scan is not the cause"
    ) as e:
        medrestore.read(tmp_path / "a.f32")
    assert "CANARY" not in str(e.value)


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (fail, "first raised KeyError"),
        (lambda found: None, "first returned NoneType, expected a Volume"),
        (lambda found: Volume.from_array(SCAN.array, np.eye(4)), "first returned a volume on another grid"),
    ],
)
def test_the_first_volume_is_held_to_its_contract_too(install, tmp_path, first, words):
    install(mine=[spec(lambda: raw(first=first))])
    SCAN.array.tofile(tmp_path / "a.f32")
    formats = installed_formats()
    found = formats.header(tmp_path / "a.f32", ReadRequest())
    with pytest.raises(PluginError, match=f"plugin 'mine', format 'raw': {words}"):
        formats.first(found)


def test_what_a_format_prints_and_changes_of_the_process_stays_with_it(install, tmp_path, capfd):
    def loud(path: Path, request: object):
        sys.stdout.write("loud\n")
        os.chdir(tmp_path)
        return header(path, request)

    def load() -> Format:
        sys.stdout.write("loaded\n")
        return raw(header=loud)

    install(mine=[spec(load)])
    SCAN.array.tofile(tmp_path / "a.f32")
    before = Path.cwd()
    medrestore.read(tmp_path / "a.f32")
    assert before == Path.cwd()
    said, heard = capfd.readouterr()
    assert said == "" and "loaded" in heard and "loud" in heard


@pytest.mark.parametrize("do", [fail, lambda *_: None])
def test_a_writer_that_fails_is_named_and_leaves_nothing(install, tmp_path, do):
    install(mine=[spec(lambda: raw(write=do))])
    with pytest.raises(PluginError, match="plugin 'mine', format 'raw': write"):
        medrestore.write(SCAN, tmp_path / "a.f32")
    assert list(tmp_path.iterdir()) == []


def test_what_the_system_refuses_is_said_of_the_file(install, tmp_path):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    install(mine=[spec(lambda: raw(write=refuse, read=refuse))])
    with pytest.raises(OutputError, match="cannot be written"):
        medrestore.write(SCAN, tmp_path / "a.f32")
    SCAN.array.tofile(tmp_path / "a.f32")
    with pytest.raises(InputError, match=r"a\.f32: cannot be read \(No space"):
        medrestore.read(tmp_path / "a.f32")


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (fail, "cannot be loaded"),
        (lambda: sys.exit("no licence"), "cannot be loaded .*no licence"),
        (lambda: print, "expected a Format of that name"),
        (lambda: raw(name="other"), "expected a Format of that name"),
        (lambda: raw(suffixes=("f32",)), "lower-case endings with the dot"),
    ],
)
def test_a_format_that_does_not_load_stops_nothing_that_others_read(install, tmp_path, load, words):
    install(mine=[spec(load)])
    medrestore.write(SCAN, tmp_path / "a.nii")
    assert np.array_equal(medrestore.read(tmp_path / "a.nii").array, SCAN.array)
    SCAN.array.tofile(tmp_path / "a.f32")
    for use in (medrestore.read, lambda path: medrestore.write(SCAN, path, overwrite=True)):
        with pytest.raises(PluginError, match=f"plugin 'mine', format 'raw'.*{words}"):
            use(tmp_path / "a.f32")


def test_two_formats_of_one_name_are_named(install, tmp_path):
    install(a=[spec(raw)], b=[spec(lambda: raw(suffixes=(".f33",)))])
    medrestore.write(SCAN, tmp_path / "a.f32")
    with pytest.raises(PluginError, match="plugin 'b', format 'raw': the plugin 'a' has a format"):
        medrestore.write(SCAN, tmp_path / "a.f33")


def test_content_decides_before_names_and_the_longest_ending_before_others(install, tmp_path):
    long = raw(name="long", suffixes=(".x.f32",))
    install(mine=[spec(raw), spec(lambda: long, "long")])
    medrestore.write(SCAN, tmp_path / "a.nii")
    (tmp_path / "a.nii").rename(tmp_path / "a.f32")
    assert medrestore.read(tmp_path / "a.f32").source.format == "nifti"
    formats = installed_formats()
    assert [formats.of_name(Path(name)).name for name in ("a.f32", "a.x.F32", "a.nii.gz")] == [
        "raw",
        "long",
        "nifti",
    ]
    assert formats.stem(Path("a.x.f32")) == "a"


def test_the_name_of_both_is_taken():
    with pytest.raises(PluginError, match="name is 'both'; expected another"):
        spec(raw, "both")


def test_the_format_of_the_documentation_reads_what_it_writes(monkeypatch, tmp_path):
    page = Path(medrestore.__file__).parents[1] / "docs" / "how-to" / "add-a-file-format.md"
    if not page.is_file():
        pytest.skip("needs the source tree")
    code = (
        page.read_text(encoding="utf-8")
        .partition('title="medrestore_npz/__init__.py"\n')[2]
        .partition("\n```")[0]
    )
    (tmp_path / "medrestore_npz.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    entries = [one for one in metadata.entry_points(group="medrestore") if one.name == "medrestore"]
    manager = PluginManager([*entries, metadata.EntryPoint("npz", "medrestore_npz", "medrestore")], "")
    monkeypatch.setattr(plugin_host, "plugins", lambda: manager)
    report = medrestore.write(SCAN, tmp_path / "a_T1w.npz", dtype="int16")
    found = medrestore.read(report.path)
    assert (report.dtype, found.source.details["dtype"], found.modality) == ("int16", "int16", "MR")
    assert np.array_equal(found.array, SCAN.array) and found.geometry == SCAN.geometry
    (tmp_path / "b.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"b\.npz: no voxels with an affine"):
        medrestore.read(tmp_path / "b.npz")
    with pytest.raises(OutputError, match=r"c\.npz: 2 volumes"):
        medrestore.write([SCAN, SCAN], tmp_path / "c.npz")
    monkeypatch.delitem(sys.modules, "medrestore_npz")


@pytest.mark.parametrize(
    "code",
    [
        "from medrestore.plugin import ReaderSpec\n",
        "import medrestore\n@medrestore.hookimpl\ndef medrestore_readers():\n    return []\n",
    ],
)
def test_a_plugin_with_readers_of_api_1_is_told_what_to_do(tmp_path, monkeypatch, code):
    (tmp_path / "old_readers.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "old_readers", raising=False)
    manager = PluginManager([metadata.EntryPoint("old", "old_readers", "medrestore")], "old")
    (info,) = manager.plugins
    assert info.status == "broken"
    assert "implement medrestore_formats, which returns a medrestore.plugin.FormatSpec" in str(info.error)
    monkeypatch.delitem(sys.modules, "old_readers", raising=False)
