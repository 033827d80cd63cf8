"""`medrestore plugins`: what is installed, and what is wrong with it; `medrestore plugin new`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from medrestore.plugin import PluginInfo, PluginManager, fingerprint

_SHOWN = 12
"""Digits of a hash in a table."""

plugin = typer.Typer(name="plugin", help="Make a plugin.", no_args_is_help=True)


def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the installed plugins, working or not; MEDRESTORE_PLUGINS=none|a,b chooses among them."""
    found = PluginManager().plugins
    hashes = [fingerprint(info.module) if info.module else None for info in found]
    if as_json:
        rows = [{**asdict(info), "sha256": digest} for info, digest in zip(found, hashes, strict=True)]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif found:
        from medrestore.cli.table import print_table

        print_table(
            ("name", "distribution", "version", "status", "licence", "origin", "sha256", "adds", "remarks"),
            [_cells(info, digest) for info, digest in zip(found, hashes, strict=True)],
        )
    else:
        typer.echo("No plugin is installed.")


@plugin.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of plugin and model.")],
    into: Annotated[Path, typer.Option(metavar="FOLDER", help="Where its folder is made.")] = Path(),
    licence: Annotated[str, typer.Option(metavar="SPDX", help="Of its code and weights.")] = "Apache-2.0",
) -> None:
    """Make a plugin, a whole distribution: a working model, its card, tests, and a workflow for them."""
    from medrestore.plugin.scaffold import NewPlugin

    made = NewPlugin.named(name, licence, PluginManager().plugins)
    for path in made.write(into):
        typer.echo(into / path)
    typer.echo(
        f"\nTry it:\n    cd {into / made.dist}\n    python -m pip install --editable '.[test]'\n"
        f"    python -m pytest\nThen put your model in the place of the filter in {made.module}/__init__.py."
    )


def _cells(info: PluginInfo, digest: str | None) -> tuple[str, ...]:
    stated = (info.dist, info.version, info.status, info.licence or "not stated", info.origin)
    return (info.name, *stated, (digest or "")[:_SHOWN], _added(info), _remarks(info))


def _added(info: PluginInfo) -> str:
    return "; ".join(f"{kind.replace('_', ' ')}: {', '.join(names)}" for kind, names in info.adds.items())


def _remarks(info: PluginInfo) -> str:
    return "; ".join((*([info.error] if info.error else []), *info.notes))
