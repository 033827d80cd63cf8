"""Loads plugins one by one, each behind a wall of its own.

Every plugin has a `pluggy.PluginManager` to itself, filled and questioned once while it is loaded. So the
signature check, an unknown hook, an exception at import and a wrong declaration are all found in the same
place, belong to one plugin, and leave the others as they were; and no plugin can wrap another's hooks.
"""

from __future__ import annotations

import copy
import inspect
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from types import ModuleType
from typing import Any, TypeVar

import pluggy

from medrestore.errors import PluginError
from medrestore.plugin import hookspecs
from medrestore.plugin.containment import describe
from medrestore.plugin.declarations import (
    FormatSpec,
    MetricSpec,
    NetworkSpec,
    NoiseEstimatorSpec,
    OperatorSpec,
    SamplerSpec,
    VerbSpec,
)
from medrestore.plugin.generation import GeneratorSpec
from medrestore.plugin.installed import (
    BUILTIN,
    PluginInfo,
    check_plugin_name,
    dist_name,
    installed_entry_points,
)
from medrestore.plugin.loading import load_watched, stdout_on_stderr
from medrestore.plugin.process_state import process_state_kept
from medrestore.plugin.spec import API, Declaration, ModelSpec, shown

VARIABLE = "MEDRESTORE_PLUGINS"

_DECLARED: Mapping[str, type[Declaration]] = {
    "medrestore_models": ModelSpec,
    "medrestore_operators": OperatorSpec,
    "medrestore_metrics": MetricSpec,
    "medrestore_formats": FormatSpec,
    "medrestore_networks": NetworkSpec,
    "medrestore_samplers": SamplerSpec,
    "medrestore_noise_estimators": NoiseEstimatorSpec,
    "medrestore_generators": GeneratorSpec,
    "medrestore_verbs": VerbSpec,
}

_SPEC, _IMPL = f"{hookspecs.PROJECT}_spec", f"{hookspecs.PROJECT}_impl"
"""Attributes by which pluggy knows a hook, and a function that implements one."""

_OBSERVING = ("medrestore_volume_restored", "medrestore_case_written", "medrestore_case_failed")

_log = logging.getLogger(__name__)

S = TypeVar("S", bound=Declaration)


@dataclass(frozen=True)
class _Loaded:
    hooks: pluggy.PluginManager
    declared: Mapping[str, tuple[Declaration, ...]]

    @property
    def adds(self) -> dict[str, tuple[str, ...]]:
        """See `PluginInfo.adds`."""
        found = {_short(hook): tuple(item.name for item in items) for hook, items in self.declared.items()}
        found["observers"] = tuple(_short(hook) for hook in _OBSERVING if self.observes(hook))
        return {kind: names for kind, names in found.items() if names}

    def observes(self, hook: str) -> bool:
        return bool(getattr(self.hooks.hook, hook).get_hookimpls())


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
            entry_points = installed_entry_points(hookspecs.PROJECT)
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
            self._plugins.append(PluginInfo(name, "", "", "broken", error=error))

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

    def versions(self, names: Iterable[str]) -> dict[str, str]:
        """Return the versions of the distributions that plugins of these names come from."""
        return {info.dist: info.version for info in self._plugins if info.dist and info.name in set(names)}

    def whereabouts(self, plugin: str) -> str | None:
        """Return why a plugin takes no part, None where it does or there is none of that name."""
        for info in self._plugins:
            if info.name == plugin and info.status != "ok":
                reason = f": {info.error}" if info.error else f" by {VARIABLE}"
                return f"the plugin {plugin!r} is {info.status}{reason}"
        return None

    def origin(self, plugin: str) -> str:
        """Return what to call a plugin in a message: its name, its distribution and the version."""
        info = next(info for info in self._plugins if info.name == plugin)
        return f"plugin {plugin!r} ({info.release})"

    def tell(self, hook: str, **arguments: object) -> tuple[str, ...]:
        """Tell every plugin that observes; return, and log, what went wrong in any.

        Each is given copies, so that no record is changed by those who read it. What they print goes to
        standard error, and what they change of the process is put back.

        Args:
            hook: Name of one of the hooks that observe.
            arguments: Its arguments.
        """
        problems = []
        for plugin, loaded in self._loaded.items():
            if not loaded.observes(hook):
                continue
            try:
                with process_state_kept(), stdout_on_stderr():
                    getattr(loaded.hooks.hook, hook)(**copy.deepcopy(arguments))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - no case depends on who hears of it
                problems.append(f"{self.origin(plugin)}, {hook}: {describe(error)}")
                _log.warning("%s", problems[-1])
                _log.debug("where it was raised", exc_info=error)
        return tuple(problems)

    def _add(self, entry_point: metadata.EntryPoint, enabled: bool) -> PluginInfo:
        found = PluginInfo.of(entry_point)
        if not enabled:
            return replace(found, status="disabled", error=None)
        if found.status == "broken":
            return found
        try:
            check_plugin_name(found.name, self._plugins, is_builtin=_is_ours(entry_point))
        except PluginError as error:
            return replace(found, status="broken", error=str(error))
        loading = load_watched(partial(_load, entry_point))
        if loading.value is None:
            reason = None if loading.error is None else describe(loading.error)
            return replace(found, status="broken", error=reason, notes=loading.notes)
        self._loaded[found.name] = loading.value
        return replace(found, status="ok", notes=loading.notes, adds=loading.value.adds)


def _load(entry_point: metadata.EntryPoint) -> _Loaded:
    """Import a plugin, check its hooks and collect what it declares."""
    if entry_point.pattern.match(entry_point.value) is None:
        raise PluginError(
            f"the entry point names {shown(entry_point.value)}; expected a module, or an object in it as "
            "'module:object'"
        )
    plugin = entry_point.load()
    _check_arguments(plugin)
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


def _check_arguments(plugin: object) -> None:
    """Refuse hooks that ask for what theirs does not give, or gave in another API."""
    for name, hook in vars(hookspecs).items():
        function: Any = getattr(plugin, name, None)
        if hasattr(hook, _SPEC) and hasattr(function, _IMPL):
            given = set(inspect.signature(hook).parameters)
            for wanted, parameter in inspect.signature(function).parameters.items():
                # One with a default is the plugin's own: it is not asked for.
                if wanted not in given and parameter.default is parameter.empty:
                    takes = f"takes {', '.join(sorted(given))}" if given else "takes no argument"
                    raise PluginError(f"{name} asks for {wanted!r}; in API {API} it {takes}: leave it out")


def _collect(hooks: pluggy.PluginManager, hook: str, kind: type[S]) -> tuple[S, ...]:
    """Call one hook and check what it returns."""
    items: list[S] = []
    caller = getattr(hooks.hook, hook)
    with _named(hook):
        results = caller()
        if len(results) < len(caller.get_hookimpls()):  # pluggy drops None
            raise PluginError(f"returned None; expected a list of {kind.__name__}")
        for result in results:
            if not isinstance(result, Iterable):
                raise PluginError(f"returned {result!r:.80}; expected a list of {kind.__name__}")
            for item in result:
                if not isinstance(item, kind):
                    raise PluginError(f"declares {item!r:.80}; expected a {kind.__name__}")
                if any(item.name == other.name for other in items):
                    raise PluginError(f"declares the name {item.name!r} twice")
                items.append(item)
    return tuple(items)


@contextmanager
def _named(hook: str) -> Iterator[None]:
    """Name the hook in whatever is raised."""
    try:
        yield
    except BaseException as error:
        raise PluginError(f"{hook}: {describe(error)}") from error


def _short(hook: str) -> str:
    return hook.removeprefix("medrestore_")


def _is_ours(entry_point: metadata.EntryPoint) -> bool:
    return dist_name(entry_point) == BUILTIN


def _precedence(entry_point: metadata.EntryPoint) -> tuple[bool, str, str]:
    return (not _is_ours(entry_point), entry_point.name, dist_name(entry_point))
