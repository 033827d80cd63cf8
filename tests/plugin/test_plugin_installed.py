"""What is said of an installed plugin: licence, origin, and a hash of what it consists of."""

from __future__ import annotations

import json
import os
from importlib import metadata
from pathlib import Path

import pytest
from plugin_site import GOOD

from medrestore.plugin import PluginInfo, fingerprint
from medrestore.plugin.installed import _LONGEST_LICENCE, _metadata, installed_entry_points


def info(folder: Path, stated: str = "", url: object = None, installer: str = "") -> PluginInfo:
    home = folder / "d-1.dist-info"
    home.mkdir()
    (home / "METADATA").write_text(f"Metadata-Version: 2.4\nName: d\nVersion: 1\n{stated}")
    (home / "entry_points.txt").write_text("[medrestore]\nmine = d.plugin:instance\n")
    if url is not None:
        (home / "direct_url.json").write_text(url if isinstance(url, str) else json.dumps(url))
    if installer:
        (home / "INSTALLER").write_text(f"{installer}\n")
    (dist,) = metadata.distributions(path=[str(folder)])
    (entry_point,) = dist.entry_points
    return PluginInfo.of(entry_point)


@pytest.mark.parametrize(
    ("stated", "licence"),
    [
        ("License-Expression: MIT\nLicense: a long text\n", "MIT"),
        ("License: BSD\nClassifier: License :: OSI Approved :: MIT License\n", "BSD"),
        ("License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License\n", "MIT License"),
        ("License: Copyright me\n        All rights reserved\n", "Copyright me"),
        (f"License: {'x' * 200}\n", "x" * _LONGEST_LICENCE),
        ("Classifier: Topic :: Software Development\n", None),
    ],
)
def test_the_licence_is_what_the_distribution_states(tmp_path, stated, licence):
    assert info(tmp_path, stated).licence == licence


@pytest.mark.parametrize(
    ("url", "installer", "origin"),
    [
        ({"url": "file:///a%20b/c", "dir_info": {"editable": True}}, "pip", "/a b/c (editable)"),
        ({"url": "file:///a/c", "dir_info": {}}, "pip", "/a/c"),
        (
            {"url": "https://me:secret@host/x.whl?token=secret", "archive_info": {}},
            "pip",
            "https://host/x.whl",
        ),
        (
            {"url": "https://host/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "pip",
            "git+https://host/x.git@abc",
        ),
        (None, "pip", "package index, by pip"),
        (None, "conda", "by conda"),
        (None, "", "unknown"),
        ("{", "pip", "unknown: its direct_url.json cannot be read"),
        ("[1]", "pip", "unknown: its direct_url.json cannot be read"),
        ({"url": 1}, "pip", "unknown: its direct_url.json cannot be read"),
    ],
)
def test_the_origin_is_what_the_installer_noted_without_passwords(tmp_path, url, installer, origin):
    assert info(tmp_path, url=url, installer=installer).origin == origin


def test_equal_hashes_mean_equal_files(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "plugin_hashed"
    (package / "__pycache__").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit")  # it is not run for that
    (package / "weights").write_bytes(b"1")
    first = fingerprint("plugin_hashed.inner:thing")
    assert first is not None and len(first) == 64
    (package / "__pycache__" / "x.pyc").write_bytes(b"compiled")
    assert fingerprint("plugin_hashed") == first
    (package / "weights").write_bytes(b"2")
    assert (second := fingerprint("plugin_hashed")) != first
    (package / "weights").rename(package / "other")
    assert fingerprint("plugin_hashed") not in {first, second}


def test_a_single_module_has_a_hash_and_what_is_not_there_has_none(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "plugin_alone.py").write_text("x = 1")
    first = fingerprint("plugin_alone")
    (tmp_path / "plugin_alone.py").write_text("x = 2")
    assert first is not None and fingerprint("plugin_alone") != first
    assert fingerprint("plugin_nowhere") is None and fingerprint("sys") is None


LATIN_1 = "Metadata-Version: 2.1\nName: d\nVersion: 1\nAuthor: M\xfcller\n".encode("latin-1")


def test_metadata_that_cannot_be_read_breaks_that_plugin_alone(site):
    site.add("good", GOOD.format(models="[model()]"))
    site.add("latin", GOOD.format(models="[model()]"))
    (site.folder / "dist_latin-1.2.dist-info" / "METADATA").write_bytes(LATIN_1)
    _, good, latin = site.manager().plugins
    assert (good.name, good.status, latin.name, latin.status) == ("good", "ok", "latin", "broken")
    assert "metadata of its distribution cannot be read (UnicodeDecodeError" in str(latin.error)
    assert [one.status for one in site.manager("none").plugins] == ["ok", "disabled", "disabled"]


def test_an_installer_that_cannot_be_read_breaks_nothing(site):
    site.add("good", GOOD.format(models="[model()]"))
    (site.folder / "dist_good-1.2.dist-info" / "INSTALLER").write_bytes(b"\xff\xfe")
    _, good = site.manager().plugins
    assert (good.status, good.origin) == ("ok", "unknown: its INSTALLER cannot be read")


def test_metadata_that_are_not_there_are_empty_whoever_looks_for_them(tmp_path):
    (tmp_path / "a-1.dist-info").mkdir()
    for finder in (metadata, pytest.importorskip("importlib_metadata")):
        (dist,) = finder.distributions(path=[str(tmp_path)])
        assert _metadata(dist).get("Name") is None


def test_a_distribution_without_metadata_has_no_name(site):
    for dist in ("a", "b"):
        site.add("same", GOOD.format(models="[model()]"), dist=dist)
        (site.folder / f"{dist}-1.2.dist-info" / "METADATA").unlink()
    manager = site.manager()
    assert [(one.dist, one.version, one.status) for one in manager.plugins[1:]] == [
        ("", "", "ok"),
        ("", "", "broken"),
    ]
    assert "of a distribution that does not state its name;" in str(manager.plugins[2].error)
    assert manager.origin("same") == "plugin 'same' (a distribution that does not state its name)"


@pytest.mark.parametrize("listed", [b"[medrestore]\njust text\n", b"[medrestore]\n# M\xfcller\nx = y\n"])
def test_a_damaged_list_of_entry_points_hides_those_of_no_other(site, listed, caplog):
    site.add("good", GOOD.format(models="[model()]"))
    site.add("bad", GOOD.format(models="[model()]"))
    (site.folder / "dist_bad-1.2.dist-info" / "entry_points.txt").write_bytes(listed)
    found = {point.name for point in installed_entry_points("medrestore")}
    assert found >= {"good", "medrestore"} and "bad" not in found
    assert "an entry_points.txt cannot be read" in caplog.text


@pytest.mark.parametrize("module", ["", "not a module!!"])
def test_an_entry_point_without_a_module_is_told_so(site, module):
    site.add("odd", GOOD.format(models="[model()]"))
    (site.folder / "dist_odd-1.2.dist-info" / "entry_points.txt").write_text(
        f"[medrestore]\nodd = {module}\n"
    )
    _, odd = site.manager().plugins
    assert odd.status == "broken"
    assert f"the entry point names {module!r}; expected a module" in str(odd.error)


def test_a_file_whose_name_is_no_utf_8_counts_too(tmp_path, monkeypatch):
    home = tmp_path / "plugin_with_odd_file"
    home.mkdir()
    (home / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    before = fingerprint(home.name)
    (home / os.fsdecode(b"m\xfcller")).touch()
    assert before != fingerprint(home.name) is not None
