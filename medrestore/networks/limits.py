"""What a network may be made of: far beyond what is of use, and not beyond a machine."""

from __future__ import annotations

from collections.abc import Sequence

_WIDEST, _MOST_BLOCKS, _MOST_LEVELS, _MOST_DETAILS = 4096, 64, 8, 64
_MOST_WEIGHTS = 500_000_000


def check_options(
    widths: Sequence[int], down: Sequence[int], up: Sequence[int], embedding: int, details: int
) -> None:
    """Refuse what is no network, or one that no machine holds, before anything is made of it.

    Raises:
        ValueError: A value is no number, or out of its range.
    """
    ranges = {
        "widths": (widths, 1, _WIDEST),
        "down": (down, 0, _MOST_BLOCKS),
        "up": (up, 0, _MOST_BLOCKS),
        "embedding": ([embedding], 1, _WIDEST),
        "details": ([details], 0, _MOST_DETAILS),
    }
    for name, (values, least, most) in ranges.items():
        fine = isinstance(values, list | tuple) and len(values) <= _MOST_LEVELS
        if not (fine and all(type(value) is int and least <= value <= most for value in values)):
            raise ValueError(
                f"{name} is out of its range; expected whole numbers of {least} to {most}, for at most "
                f"{_MOST_LEVELS} levels"
            )
    if not widths or not len(widths) == len(down) == len(up) + 1:
        raise ValueError("widths and down need one entry a level, up one fewer")
    blocks = [n + m for n, m in zip(down, [*up, 0], strict=True)]
    count = sum(2 * 27 * width * width * n for width, n in zip(widths, blocks, strict=True))
    if count > _MOST_WEIGHTS:
        raise ValueError(f"its blocks have {count} weights; expected at most {_MOST_WEIGHTS}")
