"""Where a model runs, and in which arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from medrestore.errors import ConfigError


@contextmanager
def thread_count(threads: int | None) -> Iterator[None]:
    """Have torch compute with so many threads while the block runs; None leaves it as it is."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_device(requested: str) -> str:
    """Return a torch device for ``"auto"`` or the name of one.

    Raises:
        ConfigError: The device is not there.
    """
    if requested == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    kind, _, index = requested.partition(":")
    if not present.get(kind, False):
        there = ", ".join(name for name, found in present.items() if found)
        raise ConfigError(f"device {requested!r} is not available; this machine has {there}")
    if index and not (kind == "cuda" and index.isdigit() and int(index) < torch.cuda.device_count()):
        raise ConfigError(
            f"device {requested!r} is not available; cuda devices here: {torch.cuda.device_count()}"
        )
    return requested


def choose_dtype(requested: str, allowed: tuple[str, ...], device: str) -> str:
    """Return the type of the heavy arithmetic.

    Args:
        requested: ``"auto"`` or a type.
        allowed: Types that the model allows.
        device: Device that the model will run on.

    Raises:
        ConfigError: The model does not allow the type.
    """
    if requested == "auto":
        return "bfloat16" if "bfloat16" in allowed and has_native_bfloat16(device) else allowed[0]
    if requested not in allowed:
        raise ConfigError(f"dtype {requested!r} is not one that the model allows: {', '.join(allowed)}")
    return requested


def has_native_bfloat16(device: str) -> bool:
    """Tell whether bfloat16 is arithmetic of the device rather than an emulation slower than float32."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device != "cpu":
        return False
    # torch 2.10 has no public question for this; later ones have get_capabilities.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16"))
