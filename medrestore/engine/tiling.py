"""The tiled denoiser: a denoiser of the whole volume that looks at a part of it at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medrestore.diffusion import Condition, Denoiser

Box = tuple[slice, slice, slice]
OnTile = Callable[[int, int], None]


@dataclass(frozen=True)
class Tile:
    """A part of the volume: `outer` is what the denoiser sees, `inner` what is kept of it."""

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
        halo: Voxels of context around an inner box; less only at the border of the volume.
        multiple: Every start and stop is a multiple of this, so that all tiles share one grid of blocks.

    Raises:
        ValueError: The tile leaves nothing between its halos.
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


class TiledDenoiser:
    """Runs a denoiser tile by tile; itself a `Denoiser`.

    With a halo as wide as the receptive field the result is that of the whole volume beyond rounding, for
    any size of tile.

    Args:
        denoiser: What runs on a tile.
        tile: Largest side of a tile in voxels.
        halo: Voxels of context that the denoiser needs.
        multiple: Sizes that the denoiser takes are multiples of this.
        device: Where a tile is computed; the volume stays where it is.
        on_tile: Called after every tile with the voxels done and the voxels in all.
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

    def __call__(self, x: Tensor, sigma: float, condition: Condition) -> Tensor:
        """See `Denoiser`. Sizes that are no multiple are padded by reflection and cut again."""
        size = x.shape[2:]
        x, image = self._pad(x), self._pad(condition.image)
        gain = None if condition.gain is None else self._pad(condition.gain)
        result = torch.empty_like(x)
        done, total = 0, x[0, 0].numel()
        for tile in plan_tiles(tuple(x.shape[2:]), self.tile, self.halo, self.multiple):
            part, scan, local = (
                None if volume is None else volume[(..., *tile.outer)].to(self.device)
                for volume in (x, image, gain)
            )
            assert part is not None and scan is not None
            estimate = self.denoiser(part, sigma, replace(condition, image=scan, gain=local))
            result[(..., *tile.inner)] = estimate[(..., *tile.kept)].to(result.device)
            done += result[(0, 0, *tile.inner)].numel()
            if self.on_tile is not None:
                self.on_tile(done, total)
        return result[..., : size[0], : size[1], : size[2]]

    def _pad(self, volume: Tensor) -> Tensor:
        missing = [-extent % self.multiple for extent in volume.shape[2:]]
        return pad_mirrored(volume, missing) if any(missing) else volume


def pad_mirrored(volume: Tensor, missing: list[int]) -> Tensor:
    """Extend a (B, 1, X, Y, Z) volume at the far end of each axis by its mirror image, however thin it is."""
    for axis, count in enumerate(missing, start=2):
        extent = volume.shape[axis]
        period = torch.cat([torch.arange(extent), torch.arange(extent - 1, -1, -1)])
        index = period[torch.arange(extent + count) % (2 * extent)]
        volume = volume.index_select(axis, index.to(volume.device))
    return volume
