"""`medrestore plugins`: what is installed, and what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from medrestore.plugin import PluginInfo, PluginManager


def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the installed plugins, working or not; MEDRESTORE_PLUGINS=none|a,b chooses among them."""
    found = PluginManager().plugins
    if as_json:
        typer.echo(json.dumps([asdict(info) for info in found], indent=2, ensure_ascii=False))
    elif found:
        from medrestore.cli.table import print_table

        print_table(
            ("name", "distribution", "version", "status", "adds", "remarks"),
            [
                (info.name, info.dist, info.version, info.status, _added(info), _remarks(info))
                for info in found
            ],
        )
    else:
        typer.echo("No plugin is installed.")


def _added(info: PluginInfo) -> str:
    return "; ".join(f"{kind.replace('_', ' ')}: {', '.join(names)}" for kind, names in info.adds.items())


def _remarks(info: PluginInfo) -> str:
    return "; ".join((*([info.error] if info.error else []), *info.notes))
