"""The tiled denoiser: a denoiser of the whole volume that looks at a part of it at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeGuard

import torch
from torch import Tensor

from medrestore.diffusion import Condition, Denoiser, StreamingDenoiser
from medrestore.engine.machine.memory import release_memory
from medrestore.engine.sampling.ensemble import VIEWS, Box, View

OnTile = Callable[[int, int], None]

SLAB = 16
"""Most voxels along X that a stream is given at a time."""

SLAB_VOXELS = 1 << 20
"""Most voxels of a slab, but for a slab of two rows: larger tensors take fresh memory, and more time."""


@dataclass(frozen=True)
class Tile:
    """A part of the volume: `outer` is what the denoiser sees, `inner` the part of `outer` that is kept."""

    outer: Box
    inner: Box

    @property
    def kept(self) -> Box:
        """`inner` in the coordinates of `outer`."""
        spans = zip(self.inner, self.outer, strict=True)
        x, y, z = (slice(i.start - o.start, i.stop - o.start) for i, o in spans)
        return x, y, z


def plan_tiles(shape: tuple[int, ...], tile: int, halo: int, multiple: int) -> list[Tile]:
    """Cut a volume into tiles whose inner boxes cover it once.

    Args:
        shape: (X, Y, Z), each a multiple of `multiple`.
        tile: Largest side of an outer box in voxels.
        halo: Voxels of context around an inner box; fewer only at the border of the volume.
        multiple: Every start and stop is a multiple of this, so that all tiles share one grid of blocks.

    Raises:
        ValueError: The tile leaves no voxels between its halos.
    """
    halo = math.ceil(halo / multiple) * multiple
    spans = []
    for extent in shape:
        if extent <= tile:
            spans.append([(slice(0, extent), slice(0, extent))])
            continue
        core = (tile - 2 * halo) // multiple * multiple
        if core <= 0:
            raise ValueError(f"a tile of {tile} voxels leaves nothing between two halos of {halo}")
        inner = [slice(a, min(a + core, extent)) for a in range(0, extent, core)]
        spans.append([(slice(max(i.start - halo, 0), min(i.stop + halo, extent)), i) for i in inner])
    return [Tile((x[0], y[0], z[0]), (x[1], y[1], z[1])) for x, y, z in itertools.product(*spans)]


def whole_shape(shape: tuple[int, ...], multiple: int) -> tuple[int, ...]:
    """Return the sizes of a volume that is padded to the next multiple."""
    return tuple(extent + -extent % multiple for extent in shape)


class TiledDenoiser:
    """Runs a denoiser tile by tile; itself a `Denoiser`.

    With a halo as wide as the receptive field the result equals that on the whole volume up to rounding, for
    any size of tile.

    Args:
        denoiser: Denoiser that runs on a tile.
        tile: Largest side of a tile in voxels.
        halo: Voxels of context that the denoiser needs.
        multiple: Sizes that the denoiser takes are multiples of this.
        device: Device that a tile is computed on; the volume stays on its own.
        on_tile: Called after every tile with the voxels done and the voxels in all, anew for each view.

    Attributes:
        views: Views of the scan that the posterior mean is taken over; at first the scan as it is.
            Estimates at a finite level of the state, as a sampler asks for, are made from the first view.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        tile: int,
        halo: int,
        multiple: int,
        device: str = "cpu",
        on_tile: OnTile | None = None,
    ) -> None:
        self.denoiser = denoiser
        self.tile = tile
        self.halo = halo
        self.multiple = multiple
        self.device = device
        self.on_tile = on_tile
        self.views: tuple[View, ...] = VIEWS[:1]

    def __call__(self, x: Tensor, sigma: float, condition: Condition) -> Tensor:
        """See `Denoiser`. Sizes that are no multiple are padded by reflection, and the result is cropped."""
        result = torch.empty_like(x)
        shape = whole_shape(tuple(x.shape[2:]), self.multiple)
        total = math.prod(shape)
        for number, view in enumerate(self.views if math.isinf(sigma) else self.views[:1], start=1):
            done = 0
            if number > 1:  # pieces that the view before has left would count to the peak
                release_memory()
            for box, estimate in self._estimates(shape, view, x, sigma, condition):
                view.average(result, box, estimate, 1 / number)
                done += estimate[0, 0].numel()
                if self.on_tile is not None:
                    self.on_tile(done, total)
        return result

    def _estimates(
        self, shape: tuple[int, ...], view: View, x: Tensor, sigma: float, condition: Condition
    ) -> Iterator[tuple[Box, Tensor]]:
        """Yield boxes that cover the padded view once, each with the denoiser's estimate of it."""
        for tile in plan_tiles(shape, self.tile, self.halo, self.multiple):
            part, local = self._cut(tile.outer, view, x, condition)
            yield tile.inner, self.denoiser(part, sigma, local)[(..., *tile.kept)]

    def _cut(self, box: Box, view: View, x: Tensor, condition: Condition) -> tuple[Tensor, Condition]:
        part = cut_mirrored(x, box, view).to(self.device)
        # The state of the posterior mean is the scan itself.
        image = part if x is condition.image else cut_mirrored(condition.image, box, view).to(self.device)
        gain = None if condition.gain is None else cut_mirrored(condition.gain, box, view).to(self.device)
        return part, replace(condition, image=image, gain=gain)


class StreamedDenoiser(TiledDenoiser):
    """Runs a denoiser over columns through the whole volume along X, slab by slab.

    There are no halos along X to spend time on, and no halos at all where a column is as wide as the volume.
    The arguments are those of `TiledDenoiser`; the denoiser is a `StreamingDenoiser`.
    """

    denoiser: StreamingDenoiser

    def _estimates(
        self, shape: tuple[int, ...], view: View, x: Tensor, sigma: float, condition: Condition
    ) -> Iterator[tuple[Box, Tensor]]:
        for column in plan_tiles((0, *shape[1:]), self.tile, self.halo, self.multiple):
            plane = math.prod(span.stop - span.start for span in column.outer[1:])
            rows = max(min(SLAB, SLAB_VOXELS // plane), 2) // 2 * 2
            slabs = [slice(start, min(start + rows, shape[0])) for start in range(0, shape[0], rows)]
            parts = (self._cut((slab, *column.outer[1:]), view, x, condition) for slab in slabs)
            estimates = self.denoiser.stream(parts, sigma, shape[0])
            for slab, estimate in zip(slabs, estimates, strict=True):
                yield (slab, *column.inner[1:]), estimate[(..., *column.kept[1:])]


def streams(denoiser: Denoiser) -> TypeGuard[StreamingDenoiser]:
    """Whether a denoiser can go through a column slab by slab."""
    return bool(getattr(denoiser, "streams", False))


def cut_mirrored(volume: Tensor, box: Box, view: View = VIEWS[0]) -> Tensor:
    """Cut a box out of a view of a (B, 1, X, Y, Z) volume that goes on as its mirror image, however thin."""
    for axis, span in enumerate(box):
        extent = volume.shape[axis + 2]
        if span.stop <= extent and axis not in (*view.turned, *view.moved):
            volume = volume.narrow(axis + 2, span.start, span.stop - span.start)
        else:
            place = torch.arange(span.start, span.stop, device="cpu") % (2 * extent)
            index = view.seen(axis, extent)[torch.minimum(place, 2 * extent - 1 - place)]
            volume = volume.index_select(axis + 2, index.to(volume.device))
    return volume
