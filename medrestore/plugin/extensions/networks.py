"""Networks, of medrestore and of plugins, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from medrestore.errors import ModelError
from medrestore.networks import NETWORKS, build
from medrestore.plugin.declarations import NetworkSpec
from medrestore.plugin.extensions.lookup import Extension, find

INPUTS = 4
"""Channels that a network is given."""

SIDE = 16
"""Voxels along each axis of the volume that a network of a plugin is tried on, rounded up to its multiple."""


def build_network(name: str, options: Mapping[str, Any], *, empty: bool = False) -> nn.Module:
    """Build a network from its name and its options.

    Args:
        name: A name in `medrestore.networks`, or ``plugin/name``.
        options: Its keyword arguments.
        empty: Whether weights may be left without memory, since all will be replaced.

    Raises:
        ModelError: The name, or an option of a network of medrestore, is unknown.
        PluginError: A plugin's network cannot be built, or is none.
    """
    if "/" in name:
        return _built(find(NetworkSpec, name, builtin=NETWORKS, error=ModelError), options)
    if not empty:
        return build(name, options)
    # Nothing is drawn at random for the weights, and torch's default type and device have no say.
    with torch.device("meta"):
        return build(name, options)


def check_network(network: nn.Module, name: str, details: int) -> None:
    """Try a network of a plugin on a small volume before it is trained; others are known to work.

    Args:
        network: The network, on a CPU.
        name: ``plugin/name``.
        details: How many numbers it is told beside the two levels.

    Raises:
        PluginError: It raises, or returns what is no prediction.
    """
    if "/" not in name:
        return
    found = find(NetworkSpec, name, error=ModelError)
    multiple = int(getattr(network, "multiple"))  # noqa: B009  a Module has no such attribute
    side = -(-SIDE // multiple) * multiple
    with found.running("forward", f"a tensor of shape (1, 1, {side}, {side}, {side})"), torch.no_grad():
        result: object = network(torch.zeros(1, INPUTS, side, side, side), torch.zeros(1, 2 + details))
    shape = tuple(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__
    if shape != (1, 1, side, side, side):
        raise found.broken(f"forward returned {shape}; expected a tensor of (1, 1, {side}, {side}, {side})")


def _built(found: Extension[NetworkSpec], options: Mapping[str, Any]) -> nn.Module:
    """Build a network of a plugin, weights and all: it may compute with them while it is made."""
    with found.running("build", "a torch.nn.Module"), torch.device("cpu"):
        network: object = found.spec.build(**options)
    if not isinstance(network, nn.Module):
        raise found.broken(f"build returned {type(network).__name__}; expected a torch.nn.Module")
    for name, least in (("halo", 0), ("multiple", 1)):
        value = getattr(network, name, None)
        if not isinstance(value, int) or value < least:
            raise found.broken(f"its network has {name} {value!r}; expected a whole number, {least} or more")
    return network
