"""What is known of a plugin without running it: its name, and the distribution that it was installed with."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from medrestore.errors import PluginError
from medrestore.plugin.spec import NAMES, is_name, shown

BUILTIN = "medrestore"
"""The plugin, and the distribution, that carries the shipped models."""

_FROM_AN_INDEX = frozenset({"pip", "uv"})
"""Installers that note every other origin (PEP 610)."""

_LONGEST_LICENCE = 60
"""Some distributions have the whole text where its name belongs."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PluginInfo:
    """One line of `medrestore plugins`.

    Attributes:
        name: Of the entry point; the part before "/" in the names of what it declares.
        dist: Of the installed distribution that it comes from.
        version: Of that distribution.
        status: Whether it takes part.
        module: What the entry point names.
        licence: Of that distribution, as it states it; None where it does not.
        origin: Where that was installed from: a folder, an address, or the package index.
        error: Why it is broken, None otherwise.
        notes: What it did beside, while it was loaded: it printed, started threads, changed the process.
        adds: Names of what it declares, by kind (the hook without ``medrestore_``), and as ``observers`` the
            events that it hears of.
    """

    name: str
    dist: str
    version: str
    status: Literal["ok", "broken", "disabled"]
    module: str = ""
    licence: str | None = None
    origin: str = ""
    error: str | None = None
    notes: tuple[str, ...] = ()
    adds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, entry_point: metadata.EntryPoint) -> PluginInfo:
        """Return what its distribution says of a plugin that takes no part so far."""
        name, module, dist = entry_point.name, entry_point.value, entry_point.dist
        if dist is None:
            return cls(name, "", "", "disabled", module)
        try:
            stated = _metadata(dist)
            called, version = stated.get("Name") or "", stated.get("Version") or ""
            return cls(name, called, version, "disabled", module, _licence(stated), _origin(dist))
        except Exception as error:  # noqa: BLE001 - the parsers of files raise what they like
            problem = f"the metadata of its distribution cannot be read ({error!r:.80}): install it anew"
            return cls(name, "", "", "broken", module, error=problem)

    @property
    def release(self) -> str:
        """Distribution and version, as a message names them."""
        return f"{self.dist} {self.version}".strip() or "a distribution that does not state its name"


def dist_name(entry_point: metadata.EntryPoint) -> str:
    """Return what the distribution of an entry point is called; empty where that cannot be read."""
    try:
        return "" if entry_point.dist is None else _metadata(entry_point.dist).get("Name") or ""
    except Exception:  # noqa: BLE001 - `PluginInfo.of` says what is wrong
        return ""


def installed_entry_points(group: str) -> list[metadata.EntryPoint]:
    """Return the entry points of a group, but for those of distributions whose list of them is damaged."""
    with contextlib.suppress(Exception):  # one damaged file, of whatever distribution, is enough
        return list(metadata.entry_points(group=group))
    found: dict[tuple[str, str], metadata.EntryPoint] = {}
    for dist in metadata.distributions():
        try:
            points = dist.entry_points.select(group=group)
        except Exception as error:  # noqa: BLE001
            _log.warning("an entry_points.txt cannot be read, plugins in it are left out: %r", error)
            continue
        for point in points:  # as Python has it, the first on the path hides others of its name
            found.setdefault((dist_name(point), point.name), point)
    return list(found.values())


def check_plugin_name(name: str, others: Iterable[PluginInfo], *, is_builtin: bool = False) -> None:
    """Check what a plugin is to be called, be it installed or new.

    Args:
        name: Of the entry point.
        others: Plugins that have their names.
        is_builtin: Whether it is the one that comes with medrestore.

    Raises:
        PluginError: It is no name, is kept, or is taken.
    """
    if not is_name(name):
        raise PluginError(f"the entry point is named {shown(name)}; expected {NAMES}")
    if name == "none":
        raise PluginError("the name 'none' is kept for leaving all plugins out; choose another")
    if name == BUILTIN and not is_builtin:
        raise PluginError(f"the name {BUILTIN!r} is kept for the built-in plugin; choose another")
    for other in others:
        if other.name == name:
            raise PluginError(
                f"the name {name!r} is taken by the plugin of {other.release}; "
                "uninstall that one, or choose another name for the entry point"
            )


def fingerprint(module: str) -> str | None:
    """Return the SHA-256 of the package that a module lies in: equal hashes, equal code and weights.

    Names and contents of all its files count, but what Python has compiled; how it was installed does not.
    None where it is not found, or cannot be read.

    Args:
        module: What an entry point names; the package is not imported.
    """
    try:
        spec = importlib.util.find_spec(re.split("[.:]", module)[0])
        if spec is None:
            return None
        homes = list(spec.submodule_search_locations or filter(None, [spec.origin]))
        lines = sorted(line for home in homes for line in _lines(Path(home)))
    except (ImportError, OSError, ValueError):
        return None
    # A name that is no UTF-8 counts by its bytes.
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest() if lines else None


def _lines(home: Path) -> Iterator[str]:
    """Yield what `sha256sum` would print of every file, relative to where the package lies."""
    for path in home.rglob("*") if home.is_dir() else (home,):
        if path.is_file() and "__pycache__" not in path.parts:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            yield f"{digest}  {path.relative_to(home.parent).as_posix()}\n"


def _metadata(dist: metadata.Distribution) -> Any:
    """Return the metadata of a distribution; empty where there are none.

    Python gives empty ones; importlib_metadata, which takes its place once it is imported, raises.
    """
    try:
        return dist.metadata
    except FileNotFoundError:
        return Message()


def _licence(stated: Any) -> str | None:
    """Return what metadata says: the expression (PEP 639), else the older field, else a classifier."""
    classifiers = [one for one in stated.get_all("Classifier") or () if one.startswith("License ::")]
    for text in (stated.get("License-Expression"), stated.get("License")):
        if text and (first := text.strip().splitlines()[0].strip()) and text.strip() != "UNKNOWN":
            return str(first)[:_LONGEST_LICENCE]
    return str(classifiers[0]).rpartition(":: ")[2] if classifiers else None


def _origin(dist: metadata.Distribution) -> str:
    """Return where a distribution was installed from, as its installer noted it (PEP 610)."""
    try:
        noted: Any = json.loads(dist.read_text("direct_url.json") or "null")
        parts = urlsplit(noted["url"]) if noted else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return "unknown: its direct_url.json cannot be read"
    if parts is None:
        try:
            installer = (dist.read_text("INSTALLER") or "").strip()
        except ValueError:
            return "unknown: its INSTALLER cannot be read"
        if installer in _FROM_AN_INDEX:
            return f"package index, by {installer}"
        return f"by {installer}" if installer else "unknown"
    if parts.scheme == "file":
        editable = isinstance(noted.get("dir_info"), dict) and noted["dir_info"].get("editable") is True
        return unquote(parts.path) + (" (editable)" if editable else "")
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"  # never a password
    source = noted.get("vcs_info")
    if isinstance(source, dict):
        return f"{source.get('vcs', 'vcs')}+{address}@{source.get('commit_id', 'unknown')}"
    return address
