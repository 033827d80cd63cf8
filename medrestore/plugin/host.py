"""The plugins of this process, and the formats that they declare."""

from __future__ import annotations

from functools import cache

from medrestore.errors import PluginError
from medrestore.io.formats import Format, Formats
from medrestore.plugin.declarations import FormatSpec
from medrestore.plugin.formats import load_format
from medrestore.plugin.manager import VARIABLE, PluginManager


@cache
def plugins() -> PluginManager:
    """Return the plugin host of this process: entry points do not change while it runs."""
    return PluginManager()


def installed_formats() -> Formats:
    """Return the formats of every plugin that works, the built-in ones first.

    One that cannot be loaded is named where no other reads or writes what is asked for.
    """
    return formats_of(plugins())


@cache
def formats_of(manager: PluginManager) -> Formats:
    """Return the formats that the plugins of a host declare."""
    loaded: dict[str, Format] = {}
    owners: dict[str, str] = {}
    broken: list[PluginError] = []
    for full_name, spec in manager.declared(FormatSpec).items():
        plugin = full_name.partition("/")[0]
        try:
            if spec.name in owners:
                raise PluginError(
                    f"plugin {plugin!r}, format {spec.name!r}: the plugin {owners[spec.name]!r} has a format "
                    f"of that name too; leave one of them out by naming the others in {VARIABLE}"
                )
            owners[spec.name] = plugin
            loaded[spec.name] = load_format(plugin, spec)
        except PluginError as error:
            broken.append(error)
    return Formats(loaded.values(), broken)
