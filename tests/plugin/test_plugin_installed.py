"""What is said of an installed plugin: licence, origin, and a hash of what it consists of."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from medrestore.plugin import PluginInfo, fingerprint
from medrestore.plugin.installed import _LONGEST_LICENCE


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
