"""Layers over a volume that arrives slab by slab: the whole volume's result in the memory of some planes.

A slab is a run of rows, planes across the first spatial axis of a (B, C, X, Y, Z) tensor. Slabs come in order
and without gaps, of any thickness. What a convolution needs of its neighbours it keeps, so no row is computed
twice and, unlike tiles with a halo, nothing is computed that is thrown away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Slabs = Iterator[Tensor]


class Convolution(nn.Conv3d):
    """A 3x3x3 convolution; in float32 where it is marked so, whatever type those beside it run in."""

    float32 = False

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, with one zero on every side."""
        return self.padded(x, (1, 1, 1))

    def padded(self, x: Tensor, padding: tuple[int, int, int]) -> Tensor:
        """Convolve with so many zeros at either end of each axis."""
        if not self.float32:
            return F.conv3d(x, self.weight, self.bias, padding=padding)
        with torch.autocast(x.device.type, enabled=False):
            return F.conv3d(x.float(), self.weight, self.bias, padding=padding)


def add(fresh: Tensor, x: Tensor) -> Tensor:
    """Add what nobody holds any more, in the longer type of both, and in the memory of one that has it.

    Fresh memory costs as much as the sum.
    """
    if torch.promote_types(fresh.dtype, x.dtype) == fresh.dtype:
        return fresh.add_(x)
    return fresh + x if torch.is_grad_enabled() else x.add_(fresh)


class Rows:
    """Rows that wait for the rows of another branch: put in by the slab, taken out by the number."""

    def __init__(self) -> None:
        self._slabs: deque[Tensor] = deque()
        self.count = 0

    def put(self, slab: Tensor) -> Tensor:
        """Keep a slab behind the slabs that wait, and return it."""
        self._slabs.append(slab)
        self.count += slab.shape[2]
        return slab

    def take(self, count: int) -> Tensor:
        """Remove the first `count` rows and return them."""
        self.count -= count
        parts = []
        while count:
            slab = self._slabs.popleft()
            if slab.shape[2] > count:
                self._slabs.appendleft(slab[:, :, count:])
                slab = slab[:, :, :count]
            parts.append(slab)
            count -= slab.shape[2]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def map_slabs(layer: Callable[[Tensor], Tensor], slabs: Slabs) -> Slabs:
    """Run a layer that looks at one row at a time.

    Not a generator, which would keep its last slab alive while the next stage works on the result.
    """
    return map(layer, slabs)


def rechunk(slabs: Iterable[Tensor], rows: int, positions: int) -> Slabs:
    """Cut slabs into slabs of at most so many rows and, but for a single row, so many positions.

    What waited on the way comes out at once at the end; and small tensors, whose memory is soon used again,
    take an eighth less time than large slabs.
    """
    for slab in slabs:
        most = min(rows, positions // (slab.shape[3] * slab.shape[4]))
        yield from torch.split(slab, max(most, 1), dim=2)


def convolve(conv: Convolution, slabs: Slabs, total: int) -> Slabs:
    """Run a convolution that pads by one zero on every side.

    Args:
        conv: The convolution.
        slabs: Its input.
        total: Rows in all: behind the last comes the padding.
    """
    return _present(map(_Convolution(conv, total), slabs))


def halve(conv: nn.Conv3d, slabs: Slabs) -> Slabs:
    """Run a 2x2x2 convolution of stride 2."""
    waiting = Rows()

    def even(slab: Tensor) -> Tensor | None:
        waiting.put(slab)
        count = waiting.count // 2 * 2
        return conv(waiting.take(count)) if count else None

    return _present(map(even, slabs))


class _Convolution:
    """A convolution that keeps the last two rows; see `convolve`."""

    def __init__(self, conv: Convolution, total: int) -> None:
        self._conv = conv
        self._left = total
        self._edge: Tensor | None = None

    def __call__(self, slab: Tensor) -> Tensor | None:
        self._left -= slab.shape[2]
        zeros = torch.zeros_like(slab[:, :, :1])
        before = zeros if self._edge is None else self._edge
        rows = torch.cat([before, slab] if self._left else [before, slab, zeros], dim=2)
        self._edge = rows[:, :, -2:].clone(memory_format=torch.channels_last_3d)
        if rows.shape[2] < 3:
            return None
        return self._conv.padded(rows, (0, 1, 1))


def _present(slabs: Iterator[Tensor | None]) -> Slabs:
    return cast(Slabs, filter(lambda slab: slab is not None, slabs))
