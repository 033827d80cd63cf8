"""Damage to bytes, drawn from a generator of random numbers: what a disk, a network or an editor may do."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

Damage = Callable[[random.Random, bytearray], bytearray]

EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)
"""Bytes that numbers at their ends are made of."""


def flip_bits(draw: random.Random, content: bytearray) -> bytearray:
    """Flip one bit, or some."""
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return content


def set_bytes(draw: random.Random, content: bytearray) -> bytearray:
    """Set a run of bytes to one value."""
    at, count = draw.randrange(len(content)), draw.choice((1, 2, 4, 8, 40))
    value = draw.choice((*EXTREMES, draw.randrange(256)))
    content[at : at + count] = bytes([value]) * len(content[at : at + count])
    return content


def cut(draw: random.Random, content: bytearray) -> bytearray:
    """Cut the end off."""
    return content[: draw.randrange(len(content))]


def drop(draw: random.Random, content: bytearray) -> bytearray:
    """Take bytes out, so that all behind them move."""
    at = draw.randrange(len(content))
    del content[at : at + draw.choice((1, 2, 4, 16, 352, 1000))]
    return content


def insert(draw: random.Random, content: bytearray) -> bytearray:
    """Put bytes in."""
    at, count = draw.randrange(len(content) + 1), draw.choice((1, 2, 4, 16, 352))
    content[at:at] = draw.choice((bytes(count), draw.randbytes(count)))
    return content


def repeat(draw: random.Random, content: bytearray) -> bytearray:
    """Copy a part of the file over, or into, another."""
    start, at = draw.randrange(len(content)), draw.randrange(len(content))
    part = content[start : start + draw.choice((4, 32, 348))]
    content[at : at + draw.choice((0, len(part)))] = part
    return content


def splice(others: Sequence[bytes]) -> Damage:
    """Return the damage of going on with the bytes of another file."""

    def damage(draw: random.Random, content: bytearray) -> bytearray:
        other, at = draw.choice(others), draw.randrange(len(content))
        return content[:at] + other[draw.choice((at, draw.randrange(len(other)))) :]

    return damage


def set_number(fields: Sequence[tuple[int, str]], values: dict[str, Sequence[float]], orders: str) -> Damage:
    """Return the damage of a number that is wrong.

    Args:
        fields: Where numbers lie, and their types as `struct` calls them.
        values: What each type may become.
        orders: Byte orders.
    """

    def damage(draw: random.Random, content: bytearray) -> bytearray:
        for _ in range(draw.choice((1, 1, 2, 4))):
            at, form = draw.choice(fields)
            if at + struct.calcsize(form) <= len(content):
                struct.pack_into(draw.choice(orders) + form, content, at, draw.choice(values[form]))
        return content

    return damage


ANY: tuple[Damage, ...] = (flip_bits, flip_bits, set_bytes, set_bytes, cut, drop, insert, repeat)


def damaged(draw: random.Random, content: bytes, ways: Sequence[Damage] = ANY) -> bytes:
    """Return bytes after one kind of damage, or two; a file that is empty stays so."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2))):
        changed = draw.choice(ways)(draw, changed) if changed else changed
    return bytes(changed)
