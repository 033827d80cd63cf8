"""What a report knows of a case: one plain row, free of anything that names a patient."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medrestore.errors import ConfigError
from medrestore.geometry import Shape
from medrestore.types import Judgement

STATUSES = ("failed", "skipped", "done")
"""What can have become of a case, in the order of a report: failures first."""

# Cases name files and are parts of addresses.
_CASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class CaseRow:
    """One case of a batch, as a report shows it. None is a value that there is not.

    Attributes:
        case: Id of the case: letters, digits, ``-`` and ``_``; it names the page of the case.
        name: What people see: a safe relative path, or the id where names are hidden.
        status: ``"done"``, ``"failed"`` or ``"skipped"``.
        cause: Why it failed or was skipped, in plain words; the first line is the summary.
        stage: The last stage that was begun, such as ``"read"`` or ``"network"``.
        model: Full name of the model.
        task: ``"denoise"`` or ``"superres"``.
        modality: ``"MR"``, ``"CT"`` or ``"unknown"``.
        shape: Voxels of the scan along X, Y and Z.
        spacing_mm: Voxel size of the scan along the same axes, in mm.
        noise: Noise level as in the record of the run (``noise.fraction``): standard deviation over the
            bright level of the scan, or for a model in units of attenuation over the attenuation of water.
        sigma: The same in the units of the scan: HU in CT.
        psnr: PSNR of the result, in dB; None without a reference.
        ssim: SSIM of the result, 0 to 1; None without a reference.
        further: Metrics of plugins of the result, by ``plugin/name``; metrics without a value are left out.
        seconds: Wall-clock time.
        predicted_seconds: The time that the planner promised.
        peak_bytes: Peak resident memory.
        predicted_peak_bytes: The memory that the planner promised.
        findings: Codes of what was found; None where there is no record.
        verdict: ``"PASS"``, ``"WARN"`` or ``"FAIL"``; None where none was given.
        bound: What PSNR (``psnr``, in dB) and SSIM (``ssim``) reach or exceed with a probability (``level``);
            empty without intervals.
        attempts: How often the case was tried.
        output: Path of the result, relative to the folder of the report.
        pictures: What `preview` wrote of the case; None shows the case without pictures.

    Raises:
        ConfigError: The id cannot name a file, or the status is unknown.
    """

    case: str
    name: str
    status: str
    cause: str | None = None
    stage: str | None = None
    model: str | None = None
    task: str | None = None
    modality: str | None = None
    shape: Shape | None = None
    spacing_mm: tuple[float, float, float] | None = None
    noise: float | None = None
    sigma: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    further: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    predicted_seconds: float | None = None
    peak_bytes: int | None = None
    predicted_peak_bytes: int | None = None
    findings: tuple[str, ...] | None = None
    verdict: str | None = None
    bound: Mapping[str, float] = field(default_factory=dict)
    attempts: int = 1
    output: str | None = None
    pictures: Path | None = None

    @property
    def concern(self) -> int:
        """How soon a reader should look: 0 for a result that failed its verdict, last for one that passed."""
        return ("FAIL", "WARN", None, "PASS").index(self.verdict)

    def __post_init__(self) -> None:
        """Refuse what would become a wrong file name or a wrong group, and forget what is no number."""
        if not _CASE.fullmatch(self.case):
            raise ConfigError(
                f"case id {self.case!r}; expected at most 100 letters, digits, '-' or '_': it names a page"
            )
        if self.status not in STATUSES:
            raise ConfigError(f"case {self.case}: status {self.status!r}; expected one of {STATUSES}")
        if self.verdict not in (None, *Judgement):
            raise ConfigError(f"case {self.case}: verdict {self.verdict!r}; expected one of {[*Judgement]}")
        for name in ("noise", "sigma", "psnr", "ssim", "seconds", "predicted_seconds"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                object.__setattr__(self, name, None)
        finite = {name: value for name, value in self.further.items() if math.isfinite(value)}
        object.__setattr__(self, "further", finite)
        if not all(map(math.isfinite, self.bound.values())):
            object.__setattr__(self, "bound", {})


def further_metrics(rows: Iterable[CaseRow]) -> list[str]:
    """Return the names of the metrics of plugins that any of the cases has."""
    return sorted({name for row in rows for name in row.further})
