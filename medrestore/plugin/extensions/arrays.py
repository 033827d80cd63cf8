"""Arrays that are handed to plugins: copies, since torch and ctypes write to read-only views as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from medrestore.plugin.extensions.lookup import Extension


@contextmanager
def handed_out(
    declared: Extension[Any], action: str, **arrays: npt.NDArray[Any] | None
) -> Iterator[list[Any]]:
    """Yield a read-only copy of every array, None for None, and compare them with the originals afterwards.

    Args:
        declared: Who gets them.
        action: What it is asked to do with them.
        arrays: Each by what it is called in a message.

    Raises:
        PluginError: It changes one.
    """
    copies = {name: None if array is None else array.copy() for name, array in arrays.items()}
    for copy in copies.values():
        if copy is not None:
            copy.flags.writeable = False  # so that what writes by mistake learns of it where it does
    yield list(copies.values())
    changed = [name for name, array in arrays.items() if not _same(array, copies[name])]
    if changed:
        what = " and ".join(changed)
        raise declared.broken(f"{action} changes {what} in place; expected what it is given as it was")


def _same(a: npt.NDArray[Any] | None, b: npt.NDArray[Any] | None) -> bool:
    return a is None or b is None or np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
