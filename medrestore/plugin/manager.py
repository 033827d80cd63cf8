"""Loads plugins one by one, each behind a wall of its own.

Every plugin has a `pluggy.PluginManager` to itself, filled and questioned once while it is loaded. So the
signature check, an unknown hook, an exception at import and a wrong declaration are all found in the same
place, belong to one plugin, and leave the others as they were; and no plugin can wrap another's hooks.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Literal, TypeVar

import pluggy

from medrestore.errors import MedrestoreError, PluginError
from medrestore.plugin import hookspecs
from medrestore.plugin.declarations import FormatSpec, MetricSpec, OperatorSpec
from medrestore.plugin.spec import Declaration, ModelSpec, is_name
from medrestore.provenance import RunRecord

BUILTIN = "medrestore"
"""The plugin, and the distribution, that carries the shipped models."""

VARIABLE = "MEDRESTORE_PLUGINS"

_DECLARED: Mapping[str, type[Declaration]] = {
    "medrestore_models": ModelSpec,
    "medrestore_operators": OperatorSpec,
    "medrestore_metrics": MetricSpec,
    "medrestore_formats": FormatSpec,
}

_log = logging.getLogger(__name__)

S = TypeVar("S", bound=Declaration)


@dataclass(frozen=True)
class PluginInfo:
    """One line of `medrestore plugins`.

    Attributes:
        name: Of the entry point; the part before "/" in the names of what it declares.
        dist: Of the installed distribution that it comes from.
        version: Of that distribution.
        status: Whether it takes part.
        error: Why it is broken, None otherwise.
    """

    name: str
    dist: str
    version: str
    status: Literal["ok", "broken", "disabled"]
    error: str | None = None


@dataclass(frozen=True)
class _Loaded:
    hooks: pluggy.PluginManager
    declared: Mapping[str, tuple[Declaration, ...]]


class PluginManager:
    """All installed plugins, loaded or with the reason why not.

    Args:
        entry_points: What to load; None for the installed entry points of the group ``medrestore``.
        selection: Which plugins take part beside the built-in one: ``"none"``, or names separated by commas;
            the empty string for all. None takes the environment variable ``MEDRESTORE_PLUGINS``.
    """

    def __init__(
        self, entry_points: Iterable[metadata.EntryPoint] | None = None, selection: str | None = None
    ) -> None:
        if entry_points is None:
            entry_points = metadata.entry_points(group=hookspecs.PROJECT)
        if selection is None:
            selection = os.environ.get(VARIABLE, "")
        self._loaded: dict[str, _Loaded] = {}
        self._plugins: list[PluginInfo] = []
        wanted = {name for part in selection.split(",") if (name := part.strip())} - {"none"}
        for entry_point in sorted(entry_points, key=_precedence):
            enabled = _is_ours(entry_point) or not selection.strip() or entry_point.name in wanted
            self._plugins.append(self._add(entry_point, enabled))
        for name in sorted(wanted - {info.name for info in self._plugins}):
            error = f"named in {VARIABLE}, but no installed plugin has this name"
            self._plugins.append(PluginInfo(name, "", "", "broken", error))

    @property
    def plugins(self) -> tuple[PluginInfo, ...]:
        """Every plugin found or asked for, the built-in one first, then by name."""
        return tuple(self._plugins)

    def declared(self, kind: type[S]) -> dict[str, S]:
        """Return what the working plugins declare of one kind, such as `ModelSpec`, by "plugin/name"."""
        found: dict[str, S] = {}
        for plugin, loaded in self._loaded.items():
            for items in loaded.declared.values():
                found |= {f"{plugin}/{item.name}": item for item in items if isinstance(item, kind)}
        return found

    def case_finished(self, record: RunRecord) -> tuple[str, ...]:
        """Tell every plugin that observes; return, and log, what went wrong in any."""
        problems = []
        for plugin, loaded in self._loaded.items():
            try:
                loaded.hooks.hook.medrestore_case_finished(record=record)
            except Exception as error:  # noqa: BLE001 - the scan is restored, whatever an observer does
                problems.append(f"plugin {plugin!r}, medrestore_case_finished: {_describe(error)}")
                _log.warning("%s", problems[-1])
        return tuple(problems)

    def _add(self, entry_point: metadata.EntryPoint, enabled: bool) -> PluginInfo:
        name, dist, version = entry_point.name, _dist(entry_point), _version(entry_point)
        if not enabled:
            return PluginInfo(name, dist, version, "disabled")
        try:
            self._check_name(entry_point)
            self._loaded[name] = _load(entry_point)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may fail in any way it likes
            return PluginInfo(name, dist, version, "broken", _describe(error))
        return PluginInfo(name, dist, version, "ok")

    def _check_name(self, entry_point: metadata.EntryPoint) -> None:
        name = entry_point.name
        if not is_name(name) or name == "none":
            raise PluginError(f"the entry point is named {name!r}; expected lower-case letters and digits")
        if name == BUILTIN and not _is_ours(entry_point):
            raise PluginError(f"the name {BUILTIN!r} is kept for the built-in plugin; rename the entry point")
        for other in self._plugins:
            if other.name == name:
                raise PluginError(
                    f"the name {name!r} is taken by the plugin of {other.dist} {other.version}; "
                    "uninstall one of the two, or rename its entry point"
                )


def _load(entry_point: metadata.EntryPoint) -> _Loaded:
    """Import a plugin, check its hooks and collect what it declares."""
    plugin = entry_point.load()
    hooks = pluggy.PluginManager(hookspecs.PROJECT)
    hooks.add_hookspecs(hookspecs)
    hooks.register(plugin, entry_point.name)
    for caller in hooks.get_hookcallers(plugin) or ():
        if caller.name in hookspecs.REMOVED:
            raise PluginError(hookspecs.REMOVED[caller.name])
    hooks.check_pending()
    if not hooks.get_hookcallers(plugin):
        where = plugin.__name__ if isinstance(plugin, ModuleType) else entry_point.value
        raise PluginError(f"{where} implements no hook: mark its functions with @medrestore.hookimpl")
    return _Loaded(hooks, {hook: _collect(hooks, hook, kind) for hook, kind in _DECLARED.items()})


def _collect(hooks: pluggy.PluginManager, hook: str, kind: type[S]) -> tuple[S, ...]:
    """Call one hook and check what it returns."""
    items: list[S] = []
    caller = getattr(hooks.hook, hook)
    results = caller()
    if len(results) < len(caller.get_hookimpls()):  # pluggy drops None
        raise PluginError(f"{hook} returned None; expected a list of {kind.__name__}")
    for result in results:
        if not isinstance(result, Iterable):
            raise PluginError(f"{hook} returned {result!r:.80}; expected a list of {kind.__name__}")
        for item in result:
            if not isinstance(item, kind):
                raise PluginError(f"{hook} declares {item!r:.80}; expected a {kind.__name__}")
            if any(item.name == other.name for other in items):
                raise PluginError(f"{hook} declares the name {item.name!r} twice")
            items.append(item)
    return tuple(items)


def _describe(error: BaseException) -> str:
    """Return one line: what, and where in the plugin's own code."""
    if isinstance(error, MedrestoreError):
        return str(error)
    text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    loaders = (
        "<frozen",
        *(str(Path(str(module.__file__)).parent) for module in (hookspecs, metadata, pluggy)),
    )
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(loaders)]
    return f"{text} ({frames[-1].filename}:{frames[-1].lineno})" if frames else text


def _dist(entry_point: metadata.EntryPoint) -> str:
    return entry_point.dist.name if entry_point.dist is not None else ""


def _version(entry_point: metadata.EntryPoint) -> str:
    return entry_point.dist.version if entry_point.dist is not None else ""


def _is_ours(entry_point: metadata.EntryPoint) -> bool:
    return _dist(entry_point) == BUILTIN


def _precedence(entry_point: metadata.EntryPoint) -> tuple[bool, str, str]:
    return (not _is_ours(entry_point), entry_point.name, _dist(entry_point))
