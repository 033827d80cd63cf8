"""What a plugin raises, however it does it, becomes one kind of error that names the plugin."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import pluggy

from medrestore.errors import MedrestoreError, ModelError, PluginError, is_out_of_memory
from medrestore.plugin.process_state import process_state_kept

ADVICE = "the scan is not the cause: use another model, and tell the authors of this one"


class NamedError(PluginError):
    """One that says already which plugin it is of: what is outside of it adds its own name, and no more."""


_LONGEST = 400
"""Characters that are quoted of what a plugin raises: it may hold a whole array."""


@contextmanager
def contained(origin: str, action: str, expected: str, advice: str = ADVICE) -> Iterator[None]:
    """Run what is a plugin's: put back what it changes of the process, and name it where it raises.

    A `SystemExit` is an error like any other. `KeyboardInterrupt` passes, since nothing tells whether it is
    the user's; want of memory passes, since it is the machine's.

    Args:
        origin: The plugin and what it declared, the model for example.
        action: What it is asked to do.
        expected: Of it.
        advice: What to do about it.

    Raises:
        ModelError: It raised one, which says itself what is wrong with the model.
        PluginError: It raised anything else, which is the cause (``__cause__``).
    """
    try:
        with process_state_kept():
            yield
    except KeyboardInterrupt:
        raise
    except ModelError as error:
        raise ModelError(f"{origin}: {error}") from error
    except NamedError as error:
        raise NamedError(f"{origin}: {error}") from (error.__cause__ or error)
    except BaseException as error:
        if is_out_of_memory(error):
            raise
        raise NamedError(
            f"{origin}: {action} raised {describe(error)}; expected {expected}; {advice}"
        ) from error


def describe(error: BaseException) -> str:
    """Return one line: what, and where in the plugin's own code."""
    if isinstance(error, MedrestoreError):
        return str(error)
    text = " ".join("".join(traceback.format_exception_only(error)).split()).removesuffix(":")
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    where = place(traceback.extract_tb(error.__traceback__))
    return f"{shown} ({where})" if where else shown


def place(frames: Iterable[traceback.FrameSummary]) -> str:
    """Return file and line of the last of the frames that is neither the host's nor a library's."""
    files = [metadata.__file__, pluggy.__file__]
    files += [str(sys.modules[name].__file__) for name in ("numpy", "scipy", "torch") if name in sys.modules]
    folders = [Path(__file__).parents[1], *(Path(file).parent for file in files)]
    passed = ("<frozen", *(f"{folder}{os.sep}" for folder in folders))
    own = [f for f in frames if not (f.filename.startswith(passed) or _is_of_python(f.filename))]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else ""


def _is_of_python(file: str) -> bool:
    """Tell the standard library from what is installed, which may lie in a folder of it."""
    return file.startswith(f"{Path(os.__file__).parent}{os.sep}") and "-packages" not in file
