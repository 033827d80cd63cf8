"""`medrestore models`: what can be passed as --model."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Annotated

import typer

from medrestore.plugin import ModelSpec, PluginManager, Registry


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every field.")] = False,
) -> None:
    """List the installed models."""
    manager = PluginManager()
    registry = Registry(manager)
    found = registry.models()
    versions = {info.name: info.version for info in manager.plugins}
    if as_json:
        rows = [_record(name, spec, registry.shortest(name)) for name, spec in found.items()]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif found:
        from medrestore.cli.table import print_table

        print_table(
            ("name", "task", "modality", "licence", "voxel size (mm)", "plugin"),
            [(registry.shortest(name), *_cells(name, spec, versions)) for name, spec in found.items()],
        )
    else:
        typer.echo("No model is installed.")
    broken = [info.name for info in manager.plugins if info.status == "broken"]
    if broken:
        typer.echo(f"Broken: {', '.join(broken)}; `medrestore plugins` says why.", err=True)


def _cells(name: str, spec: ModelSpec, versions: dict[str, str]) -> tuple[str, ...]:
    plugin = name.partition("/")[0]
    low, high = spec.spacing_mm
    return (
        str(spec.task),
        ", ".join(spec.modalities),
        spec.licence,
        f"{low:g} to {high:g}",
        f"{plugin} {versions[plugin]}",
    )


def _record(name: str, spec: ModelSpec, short: str) -> dict[str, object]:
    # Of ours alone: what a plugin adds in a class of its own may be of any kind.
    stated = {field.name: getattr(spec, field.name) for field in fields(ModelSpec) if field.name != "load"}
    weights = None if spec.weights is None else str(spec.weights)
    more = {"name": name, "outputs": sorted(spec.outputs), "weights": weights}
    return {"name": name, "short_name": short, "plugin": name.partition("/")[0], **stated, **more}
