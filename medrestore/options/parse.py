"""Values that people write as text: levels, lengths, amounts of memory."""

from __future__ import annotations

import math
import re

from medrestore.errors import ConfigError

PLUGIN_NAME = "PLUGIN/NAME"
"""How a command line shows that an option takes what a plugin declares."""


def names_a_plugin(value: object) -> bool:
    """Tell whether a value is written as ``plugin/name``, whether or not there is one."""
    return isinstance(value, str) and value.count("/") == 1 and all(value.split("/"))


def parse_noise(requested: float | str) -> tuple[float, bool] | None:
    """Read a noise level; None for ``"auto"``.

    Returns:
        The number, and whether it is a fraction of the 99th percentile (in CT, of 1000 HU) rather than in
        voxel units.

    Raises:
        ConfigError: It is no number, negative or not finite.
    """
    if requested == "auto":
        return None
    text = str(requested).strip()
    is_fraction = text.endswith("%")
    try:
        value = float(text[:-1]) / 100 if is_fraction else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise ConfigError(
            f"noise is {requested!r}; expected 'auto', a level in voxel units, one like '5%', or plugin/name"
        )
    return value, is_fraction


def check_noise(requested: float | str) -> None:
    """Refuse what is neither a noise level nor written as the name of a plugin's estimator.

    Raises:
        ConfigError: It is neither.
    """
    if not names_a_plugin(requested):
        parse_noise(requested)


def parse_spacing(requested: float | str) -> float | None:
    """Read a voxel size, such as 1, ``"1"`` or ``"1 mm"``; None for ``"iso"``.

    Raises:
        ConfigError: It is no length.
    """
    if requested == "iso":
        return None
    try:
        length = float(str(requested).strip().removesuffix("mm"))
    except ValueError:
        length = -1.0
    if not 0 < length < math.inf:
        raise ConfigError(f"spacing is {requested!r}; expected 'iso', or a length in mm such as '1mm'")
    return length


def parse_memory(requested: int | str, name: str = "max_memory") -> int:
    """Read an amount of memory in bytes, such as 6_000_000_000, ``"6GB"`` or ``"5.5 GiB"``.

    Args:
        requested: The amount; text has a unit, as ``"4"`` may mean bytes or gigabytes.
        name: What it is of, for the message.

    Raises:
        ConfigError: It is none.
    """
    if isinstance(requested, str) and requested.strip().replace(".", "", 1).isdigit():
        raise ConfigError(
            f"{name} is {requested!r}, which may mean bytes or gigabytes; expected an amount with its unit, "
            "such as '6GB' or '800MiB'"
        )
    match = re.fullmatch(r"(\d+\.?\d*) *([kmgt]?)(i?)b?", str(requested).strip().lower())
    amount = float(match[1]) if match else 0.0
    if match is None or not 0 < amount < math.inf:
        raise ConfigError(f"{name} is {requested!r}; expected an amount such as '6GB' or '800MiB'")
    return int(amount * (1024 if match[3] else 1000) ** " kmgt".index(match[2] or " "))
