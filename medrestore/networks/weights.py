"""What weights must be to compute with."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def not_finite(weights: Mapping[str, Tensor]) -> str:
    """Return which weights are NaN or infinite, in words; empty if all are finite."""
    floats = {name: value for name, value in weights.items() if value.is_floating_point()}
    bad = {name: int((~value.float().isfinite()).sum()) for name, value in floats.items()}
    names = [name for name, count in bad.items() if count]
    if not names:
        return ""
    return (
        f"{sum(bad.values())} weights are not finite, in {names[0]!r:.100} and {len(names) - 1} other arrays"
    )


def other_kinds(weights: Mapping[str, Tensor], network: Mapping[str, Tensor]) -> str:
    """Name weights that are no floating-point numbers where a network has such numbers; empty if none."""
    for name, value in weights.items():
        if name in network and network[name].is_floating_point() and not value.is_floating_point():
            return f"{name!r:.100} is of {value.dtype}, expected floating-point numbers"
    return ""
