"""What is written of a restored scan, and all that can be asked of one on its way from file to files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medrestore.errors import ConfigError
from medrestore.options.declare import OptionInfo, option
from medrestore.options.reading import ReadRequest
from medrestore.options.restore import RestoreOptions
from medrestore.provenance import JSON
from medrestore.types import Modality

MAPS = ("std", "lower", "upper", "null")
"""Names of the volumes that may be written beside a restored one, and endings of their names."""

REPORT = "_sr.dcm"
"""Ending of the name of a structured report, behind that of the series."""

DTYPES = (
    *("float32", "input", "float64"),
    *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
)


BOTH = "both"
"""What a result is written as that is an image file and a derived DICOM series."""


def _info(text: str, metavar: str | None = None, flag: str | None = None) -> OptionInfo:
    return OptionInfo(text, "Files", metavar, flag)


def _own(text: str, metavar: str | None = None, flag: str | None = None) -> OptionInfo:
    """Return what is shown of an option that makes sense for one scan alone."""
    return OptionInfo(text, "Files", metavar, flag, shared=False)


@dataclass(frozen=True, kw_only=True)
class OutputRequest:
    """What is to be written of a restored scan.

    Attributes:
        form: ``"dicom"``, ``"both"``, or the name of a format that is written, such as ``"nifti"``; None for
            that of the name, else DICOM where the scan is DICOM, else NIfTI.
        dtype: Type of the voxels in files that are no DICOM: ``"float32"``, ``"float64"``, ``"input"`` (type
            and scaling of the input), or ``"int8"`` to ``"uint64"``; clipped voxels are counted.
        save_std: Whether the standard deviation of the samples is written beside the image; it needs two
            samples or more.
        sr: Whether a DICOM structured report with the verdict is written beside a derived series.
        trajectory: Folder for the steps of the sampler; None for none.
        overwrite: Replace what is there; never the input or the reference.
    """

    save_std: bool = option(False, _info("Write OUT_std: spread of samples."))
    sr: bool = option(False, _info("Write OUT_sr.dcm: the verdict as a DICOM structured report."))
    trajectory: Path | None = option(None, _own("Write every step.", "DIR", "--save-trajectory"))
    form: str | None = option(
        None, _info("dicom, both, nifti, ...: else as OUT ends, or IN is.", "NAME", "--format")
    )
    dtype: str = option("float32", _info(f"{', '.join(DTYPES)}.", "TYPE", "--out-dtype"))
    overwrite: bool = option(False, _own("Replace what is there."))

    def __post_init__(self) -> None:
        """Check what can be checked without a scan."""
        if self.dtype not in DTYPES:
            raise ConfigError(f"--out-dtype is {self.dtype!r}; expected one of {', '.join(DTYPES)}")
        if not isinstance(self.form, str | None):
            raise ConfigError(f"--format is {self.form!r}; expected the name of a format, such as nifti")
        object.__setattr__(self, "form", self.form and self.form.lower())

    def check_samples(self, samples: int) -> None:
        """Refuse what so many samples do not give.

        Raises:
            ConfigError: It needs samples that nobody asked for.
        """
        if self.save_std and samples < 2:
            raise ConfigError(
                f"--save-std needs two samples or more, and {samples} will be drawn; pass --samples 8, say"
            )
        if self.trajectory is not None and samples < 1:
            raise ConfigError(
                "--save-trajectory has nothing to save: the mean is made in one step; pass --samples 1, or "
                "--output sample"
            )


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """Options of one scan on its way from file to files.

    Attributes:
        restore: How the scan is restored.
        reading: How it is read: what is done with DICOM series that are no regular grid, and which is meant.
        output: What is written.
        modality: What the scan is, where it does not say; None for what it says itself.
        reference: The truth, on the grid of the result, for PSNR and SSIM; None for none.
        bids: Keys of BIDS for the sidecar.
        beside: Files to copy into the folder of the image, by the names that they get there.
    """

    restore: RestoreOptions = field(default_factory=RestoreOptions)
    reading: ReadRequest = field(default_factory=ReadRequest)
    output: OutputRequest = field(default_factory=OutputRequest)
    modality: Modality | None = option(None, OptionInfo("What the scan is, where it does not say.", "Model"))
    reference: Path | None = option(None, _own("The truth, for PSNR and SSIM.", "REF"))
    bids: Mapping[str, JSON] = field(default_factory=dict)
    beside: Mapping[str, Path] = field(default_factory=dict)

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the volumes, of `MAPS`, that are written beside the restored one."""
        asked = {
            "std": self.output.save_std,
            **dict.fromkeys(("lower", "upper"), self.restore.interval is not None),
            "null": self.restore.save_map == "null",
        }
        return tuple(name for name in MAPS if asked[name])

    @property
    def samples(self) -> int:
        """Posterior samples that will be drawn."""
        return max(self.restore.samples, int(self.restore.output == "sample"))
