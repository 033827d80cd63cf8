"""Tables of plain text."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text, folded to the terminal's width; one line a row where the output is no terminal."""
    terminal = sys.stdout.isatty()
    # Markup is off: a message with [brackets] is shown as it is.
    console = Console(width=None if terminal else 10_000, markup=False, highlight=False, emoji=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
