"""What a bundle may be made of: networks and schedulers of MONAI by name, with plain data for arguments.

A bundle's configuration can name any importable object and hold expressions of Python; MONAI executes both.
Here it is read as data: what is not in these tables, and what would have to be executed, is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from medrestore.errors import ModelError

MOST_WEIGHTS = 500_000_000
"""Of a network; more than that no machine holds beside a scan."""

WIDE = frozenset(
    {"channels", "features", "filters", "init_filters", "num_head_channels", "cross_attention_dim"}
)
WIDEST, MOST = 4096, 64
"""Of whole numbers that count channels, and of all others in the arguments of a network."""

LONGEST_SCHEDULE = 100_000
"""Steps of a scheduler."""

Arguments = Mapping[str, Any]


def _levels(key: str, default: int) -> Callable[[Arguments], int]:
    """Sizes are halved between the levels that an argument lists."""
    return lambda given: 2 ** (len(given.get(key, range(default))) - 1)


def _strides(given: Arguments) -> int:
    return math.prod(max(one) if isinstance(one, list | tuple) else one for one in given["strides"])


NETWORKS: Mapping[str, Callable[[Arguments], int]] = {
    "DiffusionModelUNet": _levels("channels", 4),
    "UNet": _strides,
    "AttentionUnet": _strides,
    "DynUNet": _strides,
    "BasicUNet": lambda given: 16,
    "SegResNet": _levels("blocks_down", 4),
    "VNet": lambda given: 16,
}
"""Networks of `monai.networks.nets`, and of what sizes they take multiples, by their arguments."""

SCHEDULERS: Mapping[str, str] = {
    "DDPMScheduler": "diffusion",
    "DDIMScheduler": "diffusion",
    "RFlowScheduler": "rectified-flow",
}
"""Schedulers of `monai.networks.schedulers`, and what a network that was trained with one predicts."""

_HOMES = {"networks": "monai.networks.nets", "schedulers": "monai.networks.schedulers"}


def allowed_name(target: object, kind: str) -> str | None:
    """Return the bare name of what a ``_target_`` names; None where it is none of a kind's that is allowed.

    Args:
        target: As the configuration has it: ``UNet``, or ``monai.networks.nets.UNet``.
        kind: ``"networks"`` or ``"schedulers"``.
    """
    home, _, name = str(target).rpartition(".")
    known = NETWORKS if kind == "networks" else SCHEDULERS
    return name if name in known and (not home or f"{home}.".startswith(f"{_HOMES[kind]}.")) else None


def check_sizes(value: object, where: str, most: int = MOST) -> None:
    """Refuse whole numbers, and lists, beyond all use: they take a machine's memory before they are weights.

    Raises:
        ModelError: One is.
    """
    if isinstance(value, Mapping):
        for key, one in value.items():
            check_sizes(one, f"{where}.{key}", WIDEST if key in WIDE else MOST)
    elif isinstance(value, list | tuple):
        if len(value) > MOST:
            raise ModelError(f"{where} has {len(value)} entries; expected at most {MOST}")
        for index, one in enumerate(value):
            check_sizes(one, f"{where}[{index}]", most)
    elif isinstance(value, int) and not abs(value) <= most:
        raise ModelError(f"{where} is beyond {most}; expected a network that a machine holds")


def check_plain(value: object, where: str) -> None:
    """Refuse arguments that are no plain data, at any depth.

    Raises:
        ModelError: Something would have to be executed, or made.
    """
    if isinstance(value, Mapping):
        if special := sorted(key for key in value if str(key).startswith("_")):
            raise ModelError(
                f"{where} has {special[0]!r:.60}: arguments are plain values, nothing is made of them"
            )
        for key, one in value.items():
            check_plain(one, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, one in enumerate(value):
            check_plain(one, f"{where}[{index}]")
    elif isinstance(value, str) and value[:1] in ("$", "%", "@"):
        words = {"$": "an expression, which would be executed", "%": "a macro", "@": "a reference"}
        raise ModelError(f"{where} is {words[value[0]]}; write its value into the configuration")
    elif not isinstance(value, str | int | float | bool | None):
        raise ModelError(f"{where} is {type(value).__name__}; expected plain data")
