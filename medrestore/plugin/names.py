"""Names of what plugins declare: ``plugin/name``, or the bare name while only one plugin has it."""

from __future__ import annotations

from collections.abc import Iterable


def bare(full_name: str) -> str:
    """Return the name without that of its plugin."""
    return full_name.partition("/")[2]


def meant(name: str, declared: Iterable[str]) -> list[str]:
    """Return the full names that a name may mean: itself, or else all that it is the bare name of."""
    known = list(declared)
    return [name] if name in known else [full for full in known if bare(full) == name]


def shortest(full_name: str, declared: Iterable[str]) -> str:
    """Return the bare name where it means nothing else, else the full one."""
    return bare(full_name) if len(meant(bare(full_name), declared)) == 1 else full_name
