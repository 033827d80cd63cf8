"""What a field of a declaration may hold."""

from __future__ import annotations

import math


def all_are(values: object, kind: type) -> bool:
    """Tell whether a value is a tuple of one kind, and not empty."""
    return isinstance(values, tuple) and bool(values) and all(isinstance(value, kind) for value in values)


def is_integer(value: object, least: int) -> bool:
    """Tell whether a value is a whole number, and at least so large."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_range(pair: object, positive: bool = False) -> bool:
    """Tell whether a pair holds two finite numbers, the first not above the second, none below 0."""
    if not (
        isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(end, (int, float)) for end in pair)
    ):
        return False
    low, high = pair
    return 0 <= low <= high < math.inf and (low > 0 or not positive)


def chosen(values: object, kind: type, known: frozenset[str]) -> bool:
    """Tell whether a collection holds names that are known, and not none."""
    return isinstance(values, kind) and bool(values) and set(values) <= known  # type: ignore[call-overload]
