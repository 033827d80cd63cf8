"""The plugins of this process."""

from __future__ import annotations

from functools import cache

from medrestore.plugin.manager import PluginManager


@cache
def plugins() -> PluginManager:
    """Return the plugin host of this process: entry points do not change while it runs."""
    return PluginManager()
