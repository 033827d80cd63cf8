"""The errors that medrestore raises on purpose: one root, a few children.

A message says what happened, in which file or plugin, what was observed, what was expected and what to do.
"""

from __future__ import annotations

import re
import traceback
from pathlib import Path

SEEN_CHARACTERS = 200
"""How much of what was observed a message tells at most."""

# What libraries quote is what they were given: a value of a header, which may be the name of a person.
_QUOTED = re.compile(r"""(?<!\w)b?['"](?:.*['"]|.*)""")
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate")


class MedrestoreError(Exception):
    """Root of every error that medrestore raises on purpose; a front end catches this one."""


class InputError(MedrestoreError):
    """A file, folder or array that cannot be used as it is."""


class GeometryError(InputError):
    """A grid that has no usable place in space: NaN or singular affine, or grids that do not match."""


class OutputError(MedrestoreError):
    """A result that cannot be written: it exists already, the folder is missing, the disk is full."""


class ModelError(MedrestoreError):
    """An unknown, ambiguous or broken model, or weights that do not match it."""


class DomainError(ModelError):
    """A scan that the model was not made for; it may be forced, and the record says so."""


class PluginError(MedrestoreError):
    """A plugin, or a model, that breaks its contract: at import, in a hook, while it is loaded or runs."""


class ConfigError(MedrestoreError):
    """An option or a configuration value that is unknown or out of range."""


class TrainingError(MedrestoreError):
    """A training that diverged: a loss, weights or a score that are not finite; nothing is exported."""


def reason_of(error: BaseException | str) -> str:
    """Return what another library's error says, for a message: its first line, without what it quotes.

    Libraries quote the values that they stumbled over, and a damaged header brings the name of a person
    into them.
    """
    line = next(iter(str(error).splitlines()), "")
    told = " ".join("".join(c if c.isprintable() else " " for c in _QUOTED.sub("...", line)).split())
    return told[:SEEN_CHARACTERS] or (type(error).__name__ if isinstance(error, BaseException) else "")


def unforeseen(error: BaseException) -> str:
    """Describe an error that nobody foresaw by its type and place; its words may quote a header."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"


def is_out_of_memory(error: BaseException) -> bool:
    """Tell want of memory from other errors: torch has several kinds, most of them a `RuntimeError`."""
    stated = "".join(traceback.format_exception_only(error)).lower()
    return isinstance(error, MemoryError) or any(words in stated for words in _OUT_OF_MEMORY)
