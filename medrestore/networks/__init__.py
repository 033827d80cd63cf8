"""Networks, plain `torch.nn.Module`s that know nothing of diffusion, physics or files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from medrestore.errors import ModelError
from medrestore.networks.voxelnet import VoxelNet

NETWORKS: Mapping[str, Callable[..., nn.Module]] = {"voxelnet": VoxelNet}


def build(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Build a network from its name and the keyword arguments of its class.

    Raises:
        ModelError: The name or an option is unknown.
    """
    if name not in NETWORKS:
        raise ModelError(f"unknown network {repr(name)[:200]}; known: {', '.join(sorted(NETWORKS))}")
    try:
        return NETWORKS[name](**options)
    except (TypeError, ValueError) as error:
        raise ModelError(f"network {name!r} cannot be built with {repr(options)[:200]}: {error}") from error
