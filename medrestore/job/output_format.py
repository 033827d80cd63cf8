"""The format of a result: an image file of some format, a derived DICOM series, or both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medrestore.errors import ConfigError, OutputError
from medrestore.io import DICOM, NIFTI, Format, is_dicom
from medrestore.options import BOTH, ReadRequest
from medrestore.plugin import installed_formats


@dataclass(frozen=True)
class OutputFormat:
    """The format of the result of a scan.

    Attributes:
        image: Format of the image file; None if no image file is written.
        series: Whether a derived DICOM series is written.
    """

    image: Format | None
    series: bool

    @property
    def suffix(self) -> str:
        """Ending of the name of an image file where the user gives no name."""
        return "" if self.image is None else self.image.suffixes[0]


def check_output_format(asked: str | None) -> None:
    """Refuse a format that no result can have.

    Raises:
        ConfigError: There is no such format, or it is not written.
        PluginError: A plugin that may have the format cannot be loaded.
    """
    if asked not in (None, BOTH, DICOM.name):
        installed_formats().writer(str(asked))


def choose_output_format(scan: Path, out: Path, asked: str | None) -> OutputFormat:
    """Return the format: as asked, else the format that `out` ends as, else the format of the scan.

    Raises:
        ConfigError: DICOM is asked for of a scan that is no DICOM, or there is no such format.
        OutputError: The name does not fit the form that is asked for, or ends as no format does.
        PluginError: A plugin that may have the format cannot be loaded.
    """
    check_output_format(asked)
    named, dicom = installed_formats().written_as(out), is_dicom_scan(scan)
    if asked is None:
        if dicom and named is None and out.suffix and not out.is_dir():
            raise OutputError(
                f"{out}: the name of the output ends in {endings()}, or is that of a folder for DICOM "
                f"files; pass --format dicom if it is to be called {out.name}"
            )
        return (
            OutputFormat(None, True) if dicom and named is None else OutputFormat(named or _default(), False)
        )
    if asked not in (BOTH, DICOM.name):
        return _only(asked, named, out)
    if scan.exists() and not dicom:
        raise ConfigError(
            f"--format is {asked}, and {scan} is no DICOM; a derived series takes patient, study and place "
            "from what it was made of"
        )
    if asked == DICOM.name and named is not None:
        raise OutputError(
            f"{out}: is the name of a {named.title} file, and with --format dicom OUT is a folder"
        )
    return OutputFormat(None if asked == DICOM.name else named or _default(), True)


def _only(asked: str, named: Format | None, out: Path) -> OutputFormat:
    """Return the form that is one image file of a format."""
    wanted = installed_formats().writer(asked)
    if named is not None and named.name != asked and not out.is_dir():
        raise OutputError(
            f"{out}: is the name of a {named.title} file, and --format is {asked}; let it end in "
            f"{_listed(wanted.suffixes)}, or leave --format out"
        )
    return OutputFormat(wanted, False)


def _default() -> Format:
    return installed_formats().writer(NIFTI.name)


def endings(form: OutputFormat | None = None) -> str:
    """Return, in words, how the name of an image file of a form may end; None for any form."""
    image = None if form is None else form.image
    return _listed(installed_formats().written if image is None else image.suffixes)


def _listed(suffixes: tuple[str, ...]) -> str:
    *others, last = sorted(suffixes)
    return f"{', '.join(others)} or {last}" if others else last


def check_reading(scan: Path, request: ReadRequest) -> None:
    """Refuse options of reading DICOM for a scan that is no DICOM.

    Raises:
        ConfigError: Such options are given.
    """
    if request.policy.is_for_dicom and not is_dicom_scan(scan):
        raise ConfigError(f"{scan} is no DICOM, which --values and --on-... are for; leave them out")


def is_dicom_scan(scan: Path) -> bool:
    """Whether a scan is DICOM: a folder, or a file that begins as DICOM does."""
    return scan.is_dir() or (scan.is_file() and is_dicom(scan))
