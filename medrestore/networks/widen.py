"""More channels at the finest level of a trained `VoxelNet`, without forgetting what it has learnt.

Some channels are doubled, and what reads them shares its weights between both. Only the normalisation, whose
mean and spread now run over other channels, makes the wider network differ from the old one: from 64 to 96
channels by less than 0.1 dB for some draws and by 3 dB for others, which some hundred steps win back.

Source: Chen et al., Net2Net: Accelerating learning via knowledge transfer (ICLR 2016).
"""

from __future__ import annotations

import torch
from torch import Tensor

FINEST = ("down.0.", "up.0.")


def widen(weights: dict[str, Tensor], width: int, seed: int = 0) -> dict[str, Tensor]:
    """Return the weights of a network with `width` channels at the finest level.

    Args:
        weights: State of a `VoxelNet` with fewer channels there, but at least half as many.
        width: Channels of the new one.
        seed: Of the draw of the channels that are doubled, and of how their weights are shared.

    Raises:
        ValueError: More than twice as many channels, or fewer than there are.
    """
    old = len(weights["stem.weight"])
    if not old <= width <= 2 * old:
        raise ValueError(f"{old} channels can become {old} to {2 * old}, not {width}")
    generator = torch.Generator().manual_seed(seed)
    wide = {name: value.float().clone() for name, value in weights.items()}

    def draw() -> Tensor:
        twins = torch.randperm(old, generator=generator)[: width - old]
        return torch.cat([torch.arange(old), twins])

    def double(channels: Tensor, *names: str) -> None:
        for name in names:
            wide[name] = wide[name][channels]

    def share(channels: Tensor, name: str) -> None:
        kernel = wide[name][:, channels]
        # Unequal shares, or both channels would be taught the same for ever.
        part = torch.rand(kernel[:, old:].shape, generator=generator).to(kernel.device)
        kernel[:, channels[old:]] *= 1 - part
        kernel[:, old:] *= part
        wide[name] = kernel

    stream = draw()
    double(stream, "stem.weight", "stem.bias", "stem_film.weight", "stem_film.bias")
    convolutions = (name for name in weights if name.startswith(FINEST) and name.endswith(".conv_in.weight"))
    for block in sorted(name.removesuffix("conv_in.weight") for name in convolutions):
        hidden = draw()
        double(stream, f"{block}norm.weight", f"{block}norm.bias")
        share(stream, f"{block}conv_in.weight")
        double(hidden, f"{block}conv_in.weight", f"{block}conv_in.bias")
        double(torch.cat([hidden, hidden + old]), f"{block}film.weight", f"{block}film.bias")
        share(hidden, f"{block}conv_out.weight")
        double(stream, f"{block}conv_out.weight", f"{block}conv_out.bias")
    if "grow.0.weight" in weights:  # a network of one level has no other to come from and go to
        double(stream, "grow.0.weight", "grow.0.bias")
        share(stream, "shrink.0.weight")
    double(stream, "head_norm.weight", "head_norm.bias")
    share(stream, "head.weight")
    return wide
