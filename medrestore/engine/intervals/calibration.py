"""`calibration.toml`, beside the weights of a model: how its errors were on scans with a truth.

A key that is not known is an error, as in `model.toml`; a calibration of other weights is refused.
"""

from __future__ import annotations

import hashlib
import math
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar

import numpy as np
from scipy import special

from medrestore.engine.intervals.bound import Bound
from medrestore.engine.intervals.conformal import FEWEST, Partition
from medrestore.engine.intervals.features import LOCAL
from medrestore.engine.intervals.scale import ErrorScale
from medrestore.errors import ConfigError, ModelError
from medrestore.plugin import ModelSpec
from medrestore.plugin.spec import shown
from medrestore.toml import read_toml
from medrestore.types import Float64Array

FILE = "calibration.toml"

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Shares of the voxels that intervals are calibrated for; between them quantiles are interpolated."""

T = TypeVar("T")


@dataclass(frozen=True)
class Population:
    """Whom a calibration was made on.

    Attributes:
        subjects: Whose errors set the quantiles, and that the model had not seen.
        scans: That they gave: with several levels and colours of noise, or distances of slices.
        tuned_on: Subjects that the expected size of the errors was fitted to; none of them among the others.
        noise: What noise the scans had, in words.
        note: What else should be known.
    """

    subjects: int
    scans: int
    tuned_on: int
    noise: str
    note: str


@dataclass(frozen=True)
class Ranges:
    """What its scans were like, each as the least and the most.

    Attributes:
        noise: Estimated noise, as a fraction of the bright level.
        spacing_mm: Sizes of the voxels of the results.
        correlation: The largest correlation of the noise between neighbours, as it was estimated; 0 where it
            was not.
        factor: Distance of the slices in voxels of the result; 1 for denoising.
    """

    noise: tuple[float, float]
    spacing_mm: tuple[float, float]
    correlation: tuple[float, float]
    factor: tuple[float, float]


@dataclass(frozen=True)
class Quantiles:
    """Errors over their expected size.

    Attributes:
        groups: The partition of the voxels.
        rms: Root mean square over all voxels.
        lower: For each of `LEVELS`, the lower quantile in each group.
        upper: The upper quantiles.
    """

    groups: Partition
    rms: float
    lower: tuple[tuple[float, ...], ...]
    upper: tuple[tuple[float, ...], ...]

    def at(self, level: float) -> Float64Array:
        """Return the (2, groups) quantiles for a share between the least and the largest of `LEVELS`."""
        tables, known = np.array((self.lower, self.upper)), normal_quantile(np.array(LEVELS))
        asked = normal_quantile(np.array(level))
        return np.array([[np.interp(asked, known, group) for group in table.T] for table in tables])


@dataclass(frozen=True)
class InDoubt:
    """Scans the level of whose noise is in doubt: errors may be several times what that level lets expect.

    Attributes:
        subjects: Who gave such scans.
        scans: That they gave.
        below: For each of `LEVELS`, by how much farther away the lower end lies.
        above: The same of the upper end.
        bound: How PSNR and SSIM departed from what the sizes foretell.
    """

    subjects: int
    scans: int
    below: tuple[float, ...]
    above: tuple[float, ...]
    bound: Bound

    def widened(self, ends: Float64Array, level: float) -> Float64Array:
        """Return the (2, groups) quantiles for such scans, of those for a share of the voxels."""
        known, asked = normal_quantile(np.array(LEVELS)), normal_quantile(np.array(level))
        below, above = (float(np.interp(asked, known, factors)) for factors in (self.below, self.above))
        return np.asarray(ends + np.abs(ends) * np.array([[1 - below], [above - 1]]))


def normal_quantile(level: Float64Array) -> Float64Array:
    """Return how many deviations a share of normal errors lies within: quantiles are nearly linear in it."""
    return np.asarray(special.ndtri((1 + level) / 2))


@dataclass(frozen=True)
class IntervalCalibration:
    """All that a calibration says.

    Attributes:
        model: Name of the model.
        sha256: Hash of its weights; empty where it has none.
        ensemble: Over how many estimates the mean was taken.
        made: Date, as YYYY-MM-DD.
        medrestore: Version that it was made with.
        population: Whom it was made on.
        ranges: What the scans were like.
        scale: The expected size of an error.
        quantiles: Of errors over that size.
        bound: How PSNR and SSIM departed from what the sizes foretell.
        in_doubt: What is wider where the level of the noise is in doubt; None where too few such scans were
            there, and the rest is of all scans.
    """

    model: str
    sha256: str
    ensemble: int
    made: str
    medrestore: str
    population: Population
    ranges: Ranges
    scale: ErrorScale
    quantiles: Quantiles
    bound: Bound
    in_doubt: InDoubt | None = None

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        clues, weights = len(self.scale.means), len(self.scale.weights)
        groups = self.quantiles.groups.count
        tables = (*self.quantiles.lower, *self.quantiles.upper)
        sizes = (len(self.quantiles.lower), len(self.quantiles.upper))
        fine = {
            "population.subjects": self.population.subjects >= FEWEST,
            "scale": clues >= len(LOCAL)
            and len(self.scale.deviations) == clues
            and min(self.scale.deviations) > 0
            and weights == 1 + clues + clues * (clues + 1) // 2,
            "quantiles": sizes == (len(LEVELS),) * 2 and all(len(table) == groups for table in tables),
            "bound": min(self.bound.psnr.subjects, self.bound.ssim.subjects) >= 2,
            "in_doubt": self.in_doubt is None or _widens(self.in_doubt),
        }
        for name in (name for name, fits in fine.items() if not fits):
            raise ConfigError(f"{name} does not fit the rest; make the calibration again")

    def ends(self, level: float, *, in_doubt: bool) -> Float64Array:
        """Return the (2, groups) quantiles for a share of the voxels of a scan.

        Args:
            level: The share.
            in_doubt: Whether the level of its noise is.
        """
        ends = self.quantiles.at(level)
        return self.in_doubt.widened(ends, level) if in_doubt and self.in_doubt is not None else ends

    def bound_of(self, *, in_doubt: bool) -> Bound:
        """Return how PSNR and SSIM departed, for scans of either kind."""
        return self.in_doubt.bound if in_doubt and self.in_doubt is not None else self.bound

    @property
    def digest(self) -> str:
        """SHA-256 of its content."""
        return hashlib.sha256(repr(asdict(self)).encode()).hexdigest()


def _widens(found: InDoubt) -> bool:
    """Whether there is a factor for each level, none of which makes an interval narrower."""
    whole = len(found.below) == len(found.above) == len(LEVELS)
    return whole and min(*found.below, *found.above) >= 1 and found.subjects >= FEWEST


def find_calibration(name: str, spec: ModelSpec, path: str | None) -> IntervalCalibration:
    """Return the calibration of a model: the one that is passed, else the one beside its weights.

    Args:
        name: Of the model, for messages.
        spec: Its declaration.
        path: Of the file; None for the one beside the weights.

    Raises:
        ModelError: There is none.
        ConfigError: It is unusable, or one of other weights.
    """
    beside = None if spec.weights is None else spec.weights.with_name(FILE)
    file = beside if path is None else Path(path)
    if file is None or (path is None and not file.is_file()):
        raise ModelError(
            f"{name} has no calibration, which --interval needs: make one with `medrestore calibrate {name} "
            "FOLDER` and pass it with --calibration"
        )
    found = read_calibration(file)
    if found.sha256 != (spec.sha256 or "") or (not found.sha256 and found.model != name):
        raise ConfigError(
            f"{file}: calibrated for weights {found.sha256[:16] or 'of no file'}, and those of {name} are "
            f"{(spec.sha256 or 'of no file')[:16]}; calibrate the model that is run"
        )
    return found


def read_calibration(path: Path) -> IntervalCalibration:
    """Read a calibration.

    Raises:
        ConfigError: It cannot be read, or is none.
    """
    try:
        return _built(IntervalCalibration, read_toml(path), "")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: no calibration: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: no calibration: {error}") from error


def _built(kind: type[T], table: object, where: str) -> T:
    """Build a dataclass of a table of the same keys, and what it holds likewise."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where[:-1] or 'the file'} is {shown(table)}; expected a table")
    known = {item.name: item.default is not MISSING for item in fields(kind)}  # type: ignore[arg-type]
    for key in sorted(key for key in table.keys() ^ known.keys() if not known.get(key)):
        raise ConfigError(f"{'unknown' if key in table else 'missing'} key {shown(where + key)}")
    hints = typing.get_type_hints(kind)
    return kind(**{name: _value(hints[name], table[name], where + name) for name in known if name in table})


def _value(kind: Any, value: object, where: str) -> Any:
    """Return a value as a field of a type takes it."""
    if isinstance(kind, UnionType):  # of what may be left out, and then is None
        (kind,) = (part for part in typing.get_args(kind) if part is not NoneType)
    if is_dataclass(kind):
        return _built(typing.cast(type, kind), value, f"{where}.")
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)
        open_ended = len(inner) == 2 and inner[1] is Ellipsis
        if not isinstance(value, list) or not (open_ended or len(value) == len(inner)):
            raise ConfigError(f"{where} is {shown(value)}; expected an array")
        return tuple(_value(inner[0], item, where) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigError(f"{where} is {shown(value)}; expected {kind.__name__}")
    return value
