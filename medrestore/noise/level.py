"""The noise level of a scan, given or estimated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from medrestore.noise.ct import estimate_ct_noise
from medrestore.noise.hints import sampling_hints
from medrestore.noise.measure import Pair, measure_noise
from medrestore.noise.model import Certainty, NoiseModel
from medrestore.noise.tissue import FermiWindow, block_power, read_tissue
from medrestore.noise.told import Kind, Reading, kind_of
from medrestore.noise.wavelet import estimate_noise
from medrestore.options import parse_noise
from medrestore.plugin import Intensity
from medrestore.provenance import JSON
from medrestore.types import RealArray
from medrestore.volume import Volume

GIVEN = "given"
"""How `NoiseLevel.method` begins where a level was not measured here."""

WHITE = 0.1
"""Correlation of neighbours below which the finest wavelet band holds all of its share of the noise."""


@dataclass(frozen=True)
class NoiseRange:
    """How far the noise varies over a scan, relative to its level.

    Attributes:
        p5: 5th percentile over tissue.
        median: Median, which the level is that of.
        p95: 95th percentile.
        method: Name of the estimator.
    """

    p5: float
    median: float
    p95: float
    method: str


@dataclass(frozen=True)
class Estimate:
    """A level that an estimator from elsewhere has found; it is taken at its word, as one that is given is.

    Attributes:
        sigma: Standard deviation in the units of the voxels.
        estimator: Its name.
    """

    sigma: float
    estimator: str


@dataclass(frozen=True)
class NoiseLevel:
    """A noise level and how it was found.

    Attributes:
        sigma: Standard deviation in the units of the voxels.
        fraction: The same as a fraction of the 99th percentile of the scan; in CT, of 1000 HU.
        method: ``"given"``, ``"given by"`` and an estimator from elsewhere, or what was measured.
        map: How it varies over the scan; None where it was taken to be constant.
        measured: What the scan says of its noise, band and colour among it; None where nobody looked.
        beyond_band: What was found outside the band and left out, root mean square over sigma; None where the
            scan has no narrower band.
        read: What the scan itself shows, where the level was told; None where the level is what was measured.
    """

    sigma: float
    fraction: float
    method: str
    map: NoiseRange | None = None
    measured: NoiseModel | None = None
    beyond_band: float | None = None
    read: Reading | None = None

    @property
    def is_given(self) -> bool:
        """Whether it was chosen by the user, and is not to be doubted."""
        return self.method.startswith(GIVEN)

    @property
    def seen(self) -> float:
        """The level that the scan itself shows, in the units of the voxels."""
        return self.sigma if self.read is None else self.read.sigma

    @property
    def in_doubt(self) -> bool:
        """Whether it was read in tissue alone, and not surely: it may be off by far. None is in no doubt."""
        found = self.measured
        if found is None or self.is_given or self.sigma == 0:
            return False
        return found.source == "tissue" and found.certainty is Certainty.UNSURE

    @property
    def neighbour_correlations(self) -> tuple[float, ...] | None:
        """Correlation of the noise between neighbours on the grid of the scan; None where nobody looked."""
        if self.measured is None:
            return None
        axes = self.measured.axes
        return tuple(FermiWindow(axis.edge, axis.width).correlation(axis.band) for axis in axes)

    def as_json(self) -> Mapping[str, JSON]:
        """Return what a record keeps."""
        measured = None if self.measured is None else self.measured.as_json()
        return {**asdict(replace(self, measured=None)), "measured": measured, "beyond_band": self.beyond_band}


def mr_noise_level(
    scan: Volume, requested: float | str | Estimate, percentile: float, pairs: Sequence[Pair] = ()
) -> NoiseLevel:
    """Measure the noise of an MR scan, and take its level from the request where that is one.

    What was read stays beside a level that was told.

    Args:
        scan: The scan; what its header states of the sampling is heard.
        requested: As for `noise_level`.
        percentile: The 99th percentile of the scan.
        pairs: As for `measure_noise`.

    Raises:
        ConfigError: The request is no level.
    """
    array = scan.array
    measured = measure_noise(array, scan.spacing, pairs, sampling_hints(scan))
    given = _given(requested, percentile)
    if given is None:
        method = f"{measured.source}, {measured.certainty}"
        return NoiseLevel(measured.sigma, measured.sigma / percentile, method, measured=measured)
    read = Reading.of(measured.sigma, kind_of(measured), percentile)
    return replace(given, measured=measured.with_sigma(given.sigma), read=read)


def level_under_map(array: RealArray, noise: NoiseLevel, percentile: float) -> NoiseLevel:
    """Measure the level again where the noise varies, on what is left of the scan over the map.

    It is no surer than it was without the map, and likely at most, as tissue alone is read. A level that was
    told stays; what the scan shows beside it is read anew.

    Args:
        array: (X, Y, Z) voxels over the map, on the grid that was measured.
        noise: As it was measured without the map.
        percentile: The 99th percentile of the scan.
    """
    measured = noise.measured
    if measured is None:
        return noise
    windows = tuple(FermiWindow(axis.edge, axis.width) for axis in measured.axes)
    unsure = measured.certainty is Certainty.UNSURE
    # Where texture was read for noise, the wavelets would read it too.
    white = max(measured.correlations) < WHITE and not (unsure and measured.source == "tissue")
    blocks = None if white else block_power(array)
    tissue = read_tissue(blocks, (1.0, 1.0, 1.0), (windows[0], windows[1], windows[2]))
    sigma = estimate_noise(array) if tissue is None else tissue.sigma
    certainty = Certainty.UNSURE if unsure else Certainty.LIKELY
    read = replace(measured, sigma=sigma, source="tissue", certainty=certainty)
    if noise.is_given:
        return replace(noise, read=Reading.of(sigma, kind_of(read), percentile))
    return NoiseLevel(sigma, sigma / percentile, "tissue, over the map", measured=read)


def noise_level(
    array: RealArray,
    requested: float | str | Estimate,
    percentile: float,
    intensity: Intensity = Intensity.P99,
) -> NoiseLevel:
    """Find the noise level that a scan is to be restored with; it is measured beside one that is told, too.

    Args:
        array: (X, Y, Z) voxels; of CT in HU, slices along the last axis.
        requested: A number in the units of the voxels, a percentage of `percentile`, ``"auto"``, or what an
            estimator from elsewhere has found.
        percentile: The 99th percentile of the scan; in CT, the attenuation of water.
        intensity: Units of the model; those of attenuation say that the scan is one of CT.

    Raises:
        ConfigError: The request is neither.
    """
    given, is_ct = _given(requested, percentile), intensity is Intensity.ATTENUATION
    sigma = estimate_ct_noise(array) if is_ct else estimate_noise(array)
    if given is not None:
        return replace(given, read=Reading.of(sigma, Kind.CT if is_ct else Kind.SLICES, percentile))
    how = "local deviation in soft tissue" if is_ct else "wavelet MAD in smooth tissue"
    return NoiseLevel(sigma, sigma / percentile, how)


def _given(requested: float | str | Estimate, percentile: float) -> NoiseLevel | None:
    """Return the level that a request states, None where it is to be measured."""
    if isinstance(requested, Estimate):
        sigma = requested.sigma
        return NoiseLevel(sigma, sigma / percentile, f"{GIVEN} by {requested.estimator}")
    stated = parse_noise(requested)
    if stated is None:
        return None
    value, is_fraction = stated
    sigma = value * percentile if is_fraction else value
    return NoiseLevel(sigma, sigma / percentile, GIVEN)
