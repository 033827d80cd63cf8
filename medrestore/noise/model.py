"""What a scan says of its own noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from medrestore.provenance import JSON


class Distribution(StrEnum):
    """How the voxels are distributed around what they would be without noise."""

    GAUSSIAN = "gaussian"
    """Real values, of either sign."""
    RICIAN = "rician"
    """Magnitude of one complex channel."""
    NONCENTRAL_CHI = "noncentral-chi"
    """Sum of squares of several channels."""


class Certainty(StrEnum):
    """How far an estimate is to be trusted."""

    SURE = "sure"
    """Air and tissue agree, or one of these and the differences of a series."""
    LIKELY = "likely"
    """Air or tissue alone was read, and its signal is mostly noise."""
    UNSURE = "unsure"
    """Air and tissue differ, or fine anatomy may be part of the level: the estimate leans to the low side."""


class Verdict(StrEnum):
    """Whether the spectrum confirms the band that a header states."""

    CONFIRMED = "confirmed"
    """The spectrum ends there."""
    OVERRULED = "overruled by the spectrum"
    """The spectrum ends elsewhere, or goes on; the stated band is not used."""
    NOT_MEASURED = "not measured"
    """The spectrum cannot tell: the axis is short, or no voxels differ. The stated band is not used."""


@dataclass(frozen=True)
class AxisNoise:
    """The noise along one axis.

    Attributes:
        band: Part of the frequencies up to Nyquist that the scanner measured; 1 for all.
        size: Voxels of the measured grid: `band` times the voxels of the scan.
        correlation: Correlation of the noise between neighbours on the measured grid.
        edge: Edge of the Fermi window that the noise passed through, as a fraction of the measured grid's
            Nyquist frequency; 1.6 or more means no window.
        width: Width of the window, likewise.
        stated: The band that the header states; None where it states none.
        verdict: Whether the spectrum confirms the stated band; None where none is stated.
    """

    band: float
    size: int
    correlation: float
    edge: float
    width: float
    stated: float | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True)
class SamplingHints:
    """What a header states of how its scan was sampled; fields are None where it states nothing.

    Attributes:
        bands: Samples over voxels along each array axis, at most 1.
        partial_fourier: Whether a part of k-space was left out.
        filtered: Whether k-space or image went through a filter.
        distortion_corrected: Whether the image was resampled to undo the distortion of the gradients.
        ignored: Names of the elements that are present but make no sense.
    """

    bands: tuple[float | None, float | None, float | None] = (None, None, None)
    partial_fourier: bool | None = None
    filtered: bool | None = None
    distortion_corrected: bool | None = None
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spike:
    """A sample of k-space that stands out: stripes in the image.

    Attributes:
        cycles: Stripes over the field of view along each axis.
        share: Its amplitude over that of the centre of k-space.
        height: Its amplitude over that of the samples around it.
    """

    cycles: tuple[int, int, int]
    share: float
    height: float


@dataclass(frozen=True)
class NoiseModel:
    """The noise of a scan, as the scan says it.

    Attributes:
        sigma: Standard deviation of one channel (of the real part), in the units of the voxels.
        axes: Band and colour along each array axis.
        distribution: Distribution of the voxels.
        coils: How many coils were combined by a sum of squares; 1 for any other combination.
        source: Where the level was read: ``"air"``, ``"tissue"``, ``"air and tissue"`` or ``"series"``.
        certainty: How far to trust the level.
        air: The level read in air alone; None where there is no air, or air was blanked.
        tissue: The level read in smooth tissue alone, fine texture included; None where tissue is too little.
        series: The level read in the differences of a series alone; None where there are no differences, or
            they hold more than noise.
        spikes: Samples of k-space that stand out, the largest first.
        hints: What the header states.
    """

    sigma: float
    axes: tuple[AxisNoise, AxisNoise, AxisNoise]
    distribution: Distribution
    coils: int
    source: str
    certainty: Certainty
    air: float | None
    tissue: float | None
    series: float | None = None
    spikes: tuple[Spike, ...] = ()
    hints: SamplingHints = SamplingHints()

    @property
    def grid(self) -> tuple[int, ...]:
        """Voxels along each axis of the grid that the scanner measured."""
        return tuple(axis.size for axis in self.axes)

    @property
    def correlations(self) -> tuple[float, ...]:
        """Correlation of neighbours on the measured grid, along each axis."""
        return tuple(axis.correlation for axis in self.axes)

    def with_sigma(self, sigma: float) -> NoiseModel:
        """Return this model with another level."""
        return replace(self, sigma=sigma)

    def as_json(self) -> Mapping[str, JSON]:
        """Return the model of the noise as a record keeps it."""
        spikes: list[JSON] = [{**asdict(spike), "cycles": list(spike.cycles)} for spike in self.spikes]
        axes: list[JSON] = [
            {**asdict(axis), "verdict": None if axis.verdict is None else str(axis.verdict)}
            for axis in self.axes
        ]
        hints = {name: value for name, value in asdict(self.hints).items() if name != "bands"}
        return {
            **asdict(self),
            "axes": axes,
            "distribution": str(self.distribution),
            "certainty": str(self.certainty),
            "spikes": spikes,
            "hints": hints,
        }
