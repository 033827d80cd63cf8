"""What can be asked of `medrestore generate`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medrestore.errors import ConfigError
from medrestore.options.declare import OptionInfo, check_choices, option
from medrestore.options.restore import Sampler

_COUNTS = {"seed": 0, "count": 1, "steps": 1}


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """Which volumes are made of noise.

    Attributes:
        shape: Voxels along X, Y and Z, such as ``"96,112,96"`` or three numbers; None for the whole field of
            the generator.
        spacing: Size of a voxel, a cube, in mm; None for the largest that the generator makes.
        seed: Same seed, same volumes.
        count: How many volumes, of different noise.
        steps: Of the sampler, in each stage.
        sampler: How noise becomes a volume: ``"heun"``, ``"euler"`` or ``"stochastic"``, or
            ``plugin/name``.
        device: ``"auto"``, or a torch device.

    Raises:
        ConfigError: A value makes no sense.
    """

    shape: str | tuple[int, int, int] | None = option(
        None, OptionInfo("Voxels; else the whole field.", metavar="X,Y,Z")
    )
    spacing: float | None = option(None, OptionInfo("Of the voxels, which are cubes.", metavar="MM"))
    seed: int = option(0, OptionInfo("Same seed, same volumes."))
    count: int = option(1, OptionInfo("How many volumes; OUT is a folder then."))
    steps: int = option(12, OptionInfo("Of the sampler, in each stage."))
    sampler: Sampler | str = option("heun", OptionInfo("How noise becomes a volume."))
    device: str = option("auto", OptionInfo("Where to compute.", metavar="auto|cpu|cuda|mps"))

    def __post_init__(self) -> None:
        """Check the numbers, and make plain ones of them."""
        for name, least in _COUNTS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"{name} is {value!r}; expected a whole number of {least} or more")
        check_choices(self)
        if self.spacing is not None and not (
            isinstance(self.spacing, int | float) and 0 < self.spacing < math.inf
        ):
            raise ConfigError(f"spacing is {self.spacing!r}; expected a length in mm")
        object.__setattr__(self, "shape", None if self.shape is None else _shape(self.shape))

    @property
    def voxels(self) -> tuple[int, int, int] | None:
        """The shape as numbers."""
        return None if self.shape is None else _shape(self.shape)


def _shape(stated: object) -> tuple[int, int, int]:
    parts = stated.split(",") if isinstance(stated, str) else stated
    try:
        x, y, z = (int(part) for part in parts)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        x = y = z = 0
    if min(x, y, z) < 1:
        raise ConfigError(f"shape is {stated!r:.80}; expected three whole numbers such as 96,112,96")
    return x, y, z
