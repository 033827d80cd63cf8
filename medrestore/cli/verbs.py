"""Commands of plugins: listed by what they declare, loaded when they run."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from medrestore.errors import MedrestoreError
from medrestore.plugin import VerbSpec
from medrestore.plugin.extensions.lookup import Extension, extensions, named
from medrestore.plugin.names import shortest

_ENDS = (SystemExit, MedrestoreError)
"""How a command may end: as it says itself, or with an error of medrestore's, which is the user's to mend."""


class VerbGroup(TyperGroup):
    """The commands of medrestore, and behind them those of plugins."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all; plugins are loaded for it, but not what is behind their commands."""
        return [*super().list_commands(ctx), *_by_shortest_name()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by its name; plugins are loaded where it is none of medrestore's own.

        Raises:
            ConfigError: Several plugins have it.
        """
        return super().get_command(ctx, cmd_name) or _plugin_command(cmd_name)


class PluginCommand(TyperCommand):
    """A command that is loaded when it runs; all of its arguments, ``--help`` too, are its own."""

    def __init__(self, name: str, verb: Extension[VerbSpec]) -> None:
        from rich.markup import escape

        help_text = escape(verb.spec.help)  # typer takes brackets for markup, and ends where it is wrong
        super().__init__(name, help=help_text, add_help_option=False, rich_help_panel="Commands of plugins")
        self._verb = verb

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave the arguments as they are."""
        ctx.args = list(args)
        return []

    def invoke(self, ctx: Any) -> None:
        """Load and run it.

        Raises:
            SystemExit: It has ended, well or with a status of its own.
            MedrestoreError: What the user can mend.
            PluginError: It raised anything else.
        """
        command = self._load()
        end: BaseException | None = None
        with self._verb.running("the command", "an end"):
            try:
                command.main(args=ctx.args, prog_name=ctx.command_path)
            except _ENDS as error:
                end = error
        if end is not None:
            raise end

    def _load(self) -> Any:
        with self._verb.running("load", "a function, a typer.Typer or a command of click"):
            loaded: Any = self._verb.spec.load()
            if isinstance(loaded, typer.Typer):
                return typer.main.get_command(loaded)
            if hasattr(loaded, "main"):
                return loaded
        if not callable(loaded):
            raise self._verb.broken(f"load returned {loaded!r:.80}; expected a function or a command")
        with self._verb.running("load", "a function whose arguments typer can read"):
            app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            app.command()(loaded)
            return typer.main.get_command(app)


def _plugin_command(name: str) -> PluginCommand | None:
    verb = named(VerbSpec, name)
    return None if verb is None else PluginCommand(name, verb)


def _by_shortest_name() -> list[str]:
    """Return bare names where they are unique, else ``plugin/name``."""
    names = [verb.name for verb in extensions(VerbSpec)]
    return [shortest(name, names) for name in names]
