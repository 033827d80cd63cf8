"""A lean residual U-Net over 2x2x2 voxel blocks, conditioned by two noise levels.

The first step folds every 2x2x2 block of voxels into channels, so that the finest level already works on an
eighth of the positions; the last step unfolds them. Nothing in the network looks further than its
convolutions: the normalisation runs over the channels of one position, never over space, so the value of a
voxel is a function of its receptive field alone and a tile with a halo that wide gives the exact result.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medrestore.networks.fold import FOLD, fold, unfold
from medrestore.networks.limits import check_options
from medrestore.networks.rows import Convolution, Rows, Slabs, add, convolve, halve, map_slabs, rechunk
from medrestore.networks.widen import widen

ROWS = 16
"""Voxels along X that a stream takes up again at a time on its way up."""

POSITIONS = 1 << 14
"""Positions of a coarse level that it takes up at a time."""

INPUTS = 4
FREQUENCIES = tuple(2.0 ** (i / 2) for i in range(-6, 2))


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each position of a (B, C, X, Y, Z) tensor."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        # In channels_last_3d memory the permuted view is contiguous, so this costs one pass and no copy.
        y: Tensor = F.layer_norm(x.permute(0, 2, 3, 4, 1), self.weight.shape, self.weight, self.bias, 1e-5)
        return y.permute(0, 4, 1, 2, 3)


def start_at_zero(*layers: nn.Module) -> None:
    """Make layers output zero at first, so that every branch starts as the identity."""
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


class Block(nn.Module):
    """Pre-activation residual block with feature-wise scale and shift (FiLM, Perez et al. 2018)."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.conv_in = Convolution(channels, channels)
        self.film = nn.Linear(embedding, 2 * channels)
        self.conv_out = Convolution(channels, channels)
        start_at_zero(self.film, self.conv_out)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        hidden = self._activate(self.conv_in(self.norm(x)), embedding)
        return add(self.conv_out(hidden), x)

    def stream(self, slabs: Slabs, embedding: Tensor, total: int) -> Slabs:
        """Do the same to a volume of `total` rows that arrives slab by slab."""
        waiting = Rows()
        normed = map_slabs(lambda slab: self.norm(waiting.put(slab)), slabs)
        hidden = map_slabs(
            lambda rows: self._activate(rows, embedding), convolve(self.conv_in, normed, total)
        )
        return map_slabs(
            lambda out: add(out, waiting.take(out.shape[2])), convolve(self.conv_out, hidden, total)
        )

    def _activate(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        film = self.film(embedding)[:, :, None, None, None].to(hidden.dtype)
        scale, shift = film.chunk(2, dim=1)
        if torch.is_grad_enabled():
            return F.silu(torch.addcmul(shift, hidden, 1 + scale))
        # Fresh memory for every result would cost a tenth to a fifth of an evaluation.
        return F.silu(torch.addcmul(shift, hidden, 1 + scale, out=hidden), inplace=True)


class Blocks(nn.ModuleList):
    """Residual blocks of one level, one after another."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for block in self:
            x = block(x, embedding)
        return x

    def stream(self, slabs: Slabs, embedding: Tensor, total: int) -> Slabs:
        """Do the same to a volume of `total` rows that arrives slab by slab."""
        for block in self:
            slabs = cast(Block, block).stream(slabs, embedding, total)
        return slabs


class VoxelNet(nn.Module):
    """Residual U-Net that predicts the unit-variance noise in the mean of two measurements.

    Args:
        widths: Channels at 1/2, 1/4, 1/8 ... of the resolution.
        down: Residual blocks at each level on the way down.
        up: Residual blocks at each level (but the coarsest) on the way up.
        embedding: Width of the noise-level embedding.
        details: How many numbers the network is told beside the two levels.
        float32: What returns float32 where the rest runs in a shorter type: names of 3x3x3 convolutions, as
            "down.0.0.conv_out", and "stem", which keeps the sums at the finest level in float32 too.
    """

    def __init__(
        self,
        widths: Sequence[int],
        down: Sequence[int],
        up: Sequence[int],
        embedding: int = 128,
        details: int = 0,
        float32: Sequence[str] = (),
    ) -> None:
        super().__init__()
        check_options(widths, down, up, embedding, details)
        self.numbers = 2 + details
        self.embed = nn.Sequential(
            nn.Linear(2 * self.numbers * len(FREQUENCIES), embedding),
            nn.SiLU(),
            nn.Linear(embedding, embedding),
            nn.SiLU(),
        )
        blocks = FOLD**3
        self.stem = nn.Linear(INPUTS * blocks, widths[0])
        self.stem_film = nn.Linear(embedding, widths[0])
        self.down = nn.ModuleList(
            Blocks(Block(w, embedding) for _ in range(n)) for w, n in zip(widths, down, strict=True)
        )
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.shrink = nn.ModuleList(nn.Conv3d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.grow = nn.ModuleList(nn.Conv3d(coarse, fine, 1) for fine, coarse in pairs)
        self.up = nn.ModuleList(
            Blocks(Block(w, embedding) for _ in range(n)) for w, n in zip(widths[:-1], up, strict=True)
        )
        self.head_norm = ChannelNorm(widths[0])
        self.head = Convolution(widths[0], blocks)
        start_at_zero(self.head, self.stem_film)
        self._keep_float32(float32)
        self.multiple = FOLD ** len(widths)
        self.halo = _halo(down, up)

    def load_compatible_weights(self, weights: dict[str, Tensor]) -> None:
        """Load the weights of a network of the same kind that may be told fewer numbers, or be narrower.

        The numbers that are new to it have no effect at first, and new channels at the finest level next to
        none: see `widen`.

        Raises:
            RuntimeError: The weights belong to another network.
            ValueError: They are of less than half as many channels at the finest level.
        """
        old = weights["embed.0.weight"]
        old = old.reshape(len(old), 2, -1, len(FREQUENCIES))
        wide = old.new_zeros(len(old), 2, max(self.numbers, old.shape[2]), len(FREQUENCIES))
        wide[:, :, : old.shape[2]] = old
        weights = {**weights, "embed.0.weight": wide.flatten(1)}
        width = len(self.stem.weight)
        self.load_state_dict(widen(weights, width) if width > len(weights["stem.weight"]) else weights)

    def forward(self, inputs: Tensor, levels: Tensor) -> Tensor:
        """Predict the noise.

        Args:
            inputs: (B, 4, X, Y, Z) float32, sizes multiples of `multiple`: the precision-weighted mean m of
                both measurements, m / k, the scan's departure from m in its own standard deviations, and the
                logarithm of the relative noise map.
            levels: (B, 2 + details) logarithms of the standard deviations of the noise in m and in the scan,
                and the further numbers.

        Returns:
            (B, 1, X, Y, Z) float32 estimate of the noise in m, in units of its standard deviation k.
        """
        embedding = self.embed(_fourier(levels))
        x = self._stem(inputs, embedding)
        skips = []
        for level, blocks in enumerate(self.down):
            x = blocks(x, embedding)
            if level < len(self.shrink):
                skips.append(x)
                x = self.shrink[level](x)
        for level in reversed(range(len(self.up))):
            x = add(self._grow(level, x), skips[level])
            x = self.up[level](x, embedding)
        return unfold(self.head(self._finish(x)).float())

    def stream(self, slabs: Slabs, levels: Tensor, total: int) -> Slabs:
        """Predict the noise of a volume that arrives slab by slab, in the memory of some planes.

        Args:
            slabs: As the inputs of `forward`, cut along X into pieces of even thickness.
            levels: As in `forward`.
            total: Size of the volume along X, a multiple of `multiple`.

        Yields:
            (B, 1, rows, Y, Z) float32: for each slab what `forward` returns there for the whole volume, but
            for rounding.
        """
        embedding, given, done = self.embed(_fourier(levels)), deque[int](), Rows()

        def start(slab: Tensor) -> Tensor:
            given.append(slab.shape[2])
            return self._stem(slab, embedding)

        mixed = self._descend(map_slabs(start, slabs), embedding, total // FOLD, 0)
        bright = map_slabs(self._finish, mixed)
        for out in convolve(self.head, bright, total // FOLD):
            done.put(unfold(out.float()))
            while given and done.count >= given[0]:
                yield done.take(given.popleft())

    def _descend(self, slabs: Slabs, embedding: Tensor, total: int, level: int) -> Slabs:
        """Run a level and all below it."""
        down, up = (cast(Sequence[Blocks], levels) for levels in (self.down, self.up))
        slabs = down[level].stream(slabs, embedding, total)
        if level == len(self.shrink):
            return slabs
        skip = Rows()
        halves = halve(cast(nn.Conv3d, self.shrink[level]), map_slabs(skip.put, slabs))
        coarse = self._descend(halves, embedding, total // 2, level + 1)
        coarse = rechunk(coarse, ROWS >> (level + 2), POSITIONS)
        grown = map_slabs(lambda rows: self._grow(level, rows), coarse)
        joined = map_slabs(lambda rows: add(rows, skip.take(rows.shape[2])), grown)
        return up[level].stream(joined, embedding, total)

    def _grow(self, level: int, x: Tensor) -> Tensor:
        """Bring a coarser level to the channels and the resolution of this one."""
        mix = cast(nn.Conv3d, self.grow[level])
        # As a product of matrices: on one thread the convolution would leave channels_last_3d memory, and
        # everything after it on this level would pay for that with copies.
        mixed = F.linear(x.permute(0, 2, 3, 4, 1), mix.weight.flatten(1), mix.bias)
        return F.interpolate(mixed.permute(0, 4, 1, 2, 3), scale_factor=2)

    def _finish(self, x: Tensor) -> Tensor:
        return F.silu(self.head_norm(x), inplace=not torch.is_grad_enabled())

    def _stem(self, inputs: Tensor, embedding: Tensor) -> Tensor:
        """Fold and mix the inputs in float32: at 1 % noise bfloat16 would round away a fifth of the noise."""
        with torch.autocast(inputs.device.type, enabled=False):
            folded = fold(inputs.float()).permute(0, 2, 3, 4, 1).flatten(1, 3)
            scale = 1 + self.stem_film(embedding.float())
            weight = self.stem.weight.reshape(-1, INPUTS, FOLD**3)
            # Of m / k only the departure from the mean of its block is seen: the rest may be hundreds of k.
            detail = weight[:, 1] - weight[:, 1].mean(dim=1, keepdim=True)
            weight = torch.stack([weight[:, 0], detail, weight[:, 2], weight[:, 3]], dim=1).flatten(1)
            # Scaling the weights rather than their product saves passes over the finest level.
            mixed = torch.baddbmm(
                (self.stem.bias * scale)[:, None], folded, (scale[:, :, None] * weight).transpose(1, 2)
            )
            batch, _, *size = inputs.shape
            mixed = mixed.reshape(batch, *(n // FOLD for n in size), -1)
        # The residual stream follows what comes out here: in float32 every addition below is in it, too.
        return mixed.to(torch.float32 if self.float32_stream else embedding.dtype).permute(0, 4, 1, 2, 3)

    def _keep_float32(self, names: Sequence[str]) -> None:
        found = {name: part for name, part in self.named_modules() if isinstance(part, Convolution)}
        known = {"stem", *found}
        if not (isinstance(names, list | tuple) and all(isinstance(n, str) and n in known for n in names)):
            raise ValueError(f"float32 is {names!r}; expected a list of some of {', '.join(sorted(known))}")
        self.float32_stream = "stem" in names
        for name in found.keys() & names:
            found[name].float32 = True


def _fourier(levels: Tensor) -> Tensor:
    angles = (levels[:, :, None] * levels.new_tensor(FREQUENCIES)).flatten(1)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _halo(down: Sequence[int], up: Sequence[int]) -> int:
    """Voxels that one output voxel looks out to, rounded up to whole coarsest positions."""
    reach = FOLD  # the head's one convolution
    for level, blocks in enumerate(down):
        spacing = FOLD ** (level + 1)
        reach += 2 * spacing * (blocks + (up[level] if level < len(up) else 0))
    coarsest: int = FOLD ** len(down)
    # A coarsest position covers a whole block of voxels, whichever of them the output is.
    return math.ceil(reach / coarsest) * coarsest + coarsest
