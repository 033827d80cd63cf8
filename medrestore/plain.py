"""Plain JSON: what records, findings and settings are made of."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

JSON: TypeAlias = bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"] | None
"""What a record may hold; sequences are kept as tuples, non-finite numbers as their names."""


def plain(value: object, where: str = "value") -> JSON:
    """Return `value` as immutable-by-convention JSON: tuples, fresh dicts, built-in scalars.

    NaN and infinities, which JSON has no word for, become the strings ``"NaN"``, ``"Infinity"`` and
    ``"-Infinity"``: a finished run must not be lost to a record that cannot be written.

    Args:
        value: Anything built from mappings with string keys, sequences, numbers (numpy's too), strings,
            paths, booleans and None.
        where: Name used in the error message.

    Raises:
        TypeError: `value` holds something that has no JSON form.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if isinstance(value, Mapping):
        return plain_mapping(value, where)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return tuple(plain(item, f"{where}[{n}]") for n, item in enumerate(value))
    raise TypeError(
        f"{where}: {type(value).__name__} has no JSON form; pass numbers, strings, lists or mappings"
    )


def plain_mapping(value: Mapping[Any, object], where: str) -> dict[str, JSON]:
    """Return a mapping with string keys as `plain` does.

    Raises:
        TypeError: A key is no string, or a value has no JSON form.
    """
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{where}: key {key!r} is not a string")
    return {str.__str__(key): plain(item, f"{where}.{key}") for key, item in value.items()}
