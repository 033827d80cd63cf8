"""TOML files of others: read with bounds, since a file may be made to exhaust who reads it."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path
from typing import Any

MOST_BYTES = 1 << 20
DEEPEST = 16
"""Tables and arrays within each other; what is described here needs four."""


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no regular file, no TOML, too long, or nested too deeply.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # a pipe is waited for, and a device may have no end
        raise ValueError("it is no regular file")
    if found.st_size > MOST_BYTES:
        raise ValueError(f"it has {found.st_size} bytes, expected at most {MOST_BYTES}")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"its values are nested deeper than the {DEEPEST} levels expected") from None
    _check_depth(table)
    return table


def _check_depth(table: dict[str, Any]) -> None:
    level: list[object] = [table]
    for _ in range(DEEPEST):
        inner = [
            one.values() if isinstance(one, dict) else one for one in level if isinstance(one, (dict, list))
        ]
        level = [value for values in inner for value in values]
        if not level:
            return
    raise ValueError(f"its values are nested deeper than the {DEEPEST} levels expected")
