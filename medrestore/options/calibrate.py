"""What can be asked of `medrestore calibrate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medrestore.errors import ConfigError
from medrestore.options.declare import OptionInfo, option


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    """How the intervals of a model are calibrated.

    Attributes:
        out: File to write.
        tune: Folder of other subjects, seen by the model or not, that the size of errors is learnt from;
            None for a third of the subjects of FOLDER.
        measured: Folder of noisy scans that were measured, one for each clean one, with the same grid, units
            and name below its folder; None to add noise to the clean ones.
        draws: Scans that are made of each file: noise of another level and colour, or other slices.
        seed: Of every random draw.
        note: Text that goes into the file.
        device: As for ``restore``.
        overwrite: Replace what is there.
    """

    out: Path = option(Path("calibration.toml"), OptionInfo("File to write.", metavar="FILE", short=("-o",)))
    tune: Path | None = option(
        None, OptionInfo("Other subjects, to learn the size of errors from; else a third.", metavar="FOLDER")
    )
    measured: Path | None = option(
        None, OptionInfo("Noisy scans of the same names, in place of noise that is added.", metavar="NOISY")
    )
    draws: int = option(6, OptionInfo("Scans made of each file."))
    seed: int = option(0, OptionInfo("Same seed, same result."))
    note: str = option("", OptionInfo("Goes into the file.", metavar="TEXT"))
    device: str = option("auto", OptionInfo("Where to compute.", metavar="auto|cpu|cuda|mps"))
    overwrite: bool = option(False, OptionInfo("Replace what is there."))

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, least in (("draws", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} is {value!r}; expected a whole number of {least} or more")
