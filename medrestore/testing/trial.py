"""A model on trial: it, the scenes that it is shown, and what it made of them, so that none asks twice."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from medrestore.engine import LoadedModel, Restoration, RestoreOptions
from medrestore.errors import ConfigError
from medrestore.plugin import ModelSpec
from medrestore.testing.processes import Alone, Source, alone
from medrestore.testing.scenes import LEAST_NOISE, Scene, computed, given
from medrestore.testing.shown import restored
from medrestore.types import Float64Array, FloatArray
from medrestore.volume import Volume

SIDE, QUICK = 72, 56
"""Voxels along each axis of computed scenes, and of those of a quick trial."""

LEAST_SIDE = 48
"""Fewer hold no head, and too few lesions for an interval."""

DRAWS = 2000
"""Samples of a bootstrap."""

LEVEL = 0.9
"""Of the intervals of figures."""


@dataclass(frozen=True, kw_only=True)
class TrialOptions:
    """How a model is tried.

    Attributes:
        scans: Scans to try it on beside computed ones, such as it was made for.
        fda: Folder of FDA's low-contrast phantom (DIDSR's LCD-CT); None to leave that check out.
        only: Names of checks; empty for all.
        side: Voxels along each axis of computed scenes.
        seed: Of anatomy, noise, lesions and bootstrap.
        device: Where the model runs, see `RestoreOptions`.
        dtype: Type of its heavy arithmetic, see `RestoreOptions`.

    Raises:
        ConfigError: The side is too small.
    """

    scans: tuple[Volume, ...] = ()
    fda: Path | None = None
    only: tuple[str, ...] = ()
    side: int = SIDE
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        """Check what can be checked without a model."""
        if self.side < LEAST_SIDE:
            raise ConfigError(f"side is {self.side}; expected {LEAST_SIDE} voxels or more")


@dataclass(eq=False)
class Trial:
    """A model on trial.

    Attributes:
        source: Where this process and others find it.
        options: How it is tried.
    """

    source: Source
    options: TrialOptions
    _restored: dict[str, FloatArray] = field(default_factory=dict)
    _sigma: dict[str, float] = field(default_factory=dict)

    @cached_property
    def model(self) -> LoadedModel:
        """The model, which is loaded here when it is first asked for."""
        return self.source.load()

    @property
    def spec(self) -> ModelSpec:
        """Its declaration."""
        return self.model.spec

    @cached_property
    def computed(self) -> Scene:
        """The computed scene."""
        return computed(self.spec, self.options.side, self.options.seed)

    @cached_property
    def scenes(self) -> tuple[Scene, ...]:
        """The computed scene and those that are given."""
        return (self.computed, *self.given)

    @cached_property
    def given(self) -> tuple[Scene, ...]:
        """The scans that are given."""
        scans = self.options.scans
        return tuple(given(scan, self.spec, f"scan {n}") for n, scan in enumerate(scans, start=1))

    @cached_property
    def can_be_told(self) -> bool:
        """Whether another process can be told which model it is."""
        try:
            pickle.dumps(self.source)
        except (pickle.PicklingError, AttributeError, TypeError):
            return False
        return True

    @cached_property
    def seen_alone(self) -> tuple[Alone, Alone] | Exception:
        """What was seen of it in two processes, or what it raised there."""
        try:
            return alone(self.source, self.options.seed), alone(self.source, self.options.seed)
        except Exception as error:  # noqa: BLE001 - whatever it raises, the checks that ask tell of it
            return error

    @property
    def lone(self) -> tuple[Alone, Alone]:
        """What was seen of it in two processes; raises what it raised there."""
        if isinstance(self.seen_alone, Exception):
            raise self.seen_alone
        return self.seen_alone

    def restore(self, scans: Sequence[Volume], noise: float | None = None, **asked: Any) -> Restoration:
        """Restore what the model is shown, which is never refused, and return what it made of the middle one.

        Args:
            scans: A scan, or the volumes of a series.
            noise: Its level, which is told; None for what is measured.
            asked: Further options, see `RestoreOptions`.
        """
        level = "auto" if noise is None else noise
        options = RestoreOptions(noise=level, seed=self.options.seed, force=True, **asked)
        return restored(scans, options, self.model)

    def restored(self, scene: Scene) -> FloatArray:
        """Return what it makes of the scan of a scene, as it is."""
        if scene.name not in self._restored:
            self._restored[scene.name] = self.restored_with(scene, scene.truth)
        return self._restored[scene.name]

    def restored_with(self, scene: Scene, image: FloatArray) -> FloatArray:
        """Return what it makes of a changed image of a scene, in the same noise, whose level it is told."""
        found: FloatArray = self.restore(scene.scans(image), self.sigma(scene)).volume.array
        return found

    def sigma(self, scene: Scene) -> float:
        """Return the noise of a scene, in the units of the scan; measured where it is not known."""
        if scene.sigma is not None:
            return scene.sigma
        if scene.name not in self._sigma:
            told = cast("Mapping[str, float]", self.restore(scene.scans()).record.noise)
            self._sigma[scene.name] = float(told["sigma"])
        return self._sigma[scene.name]

    def contrast_unit(self, scene: Scene) -> float:
        """Return what contrasts in a scene are multiples of: its noise, or the least where it has none."""
        return max(self.sigma(scene), LEAST_NOISE * scene.reference)

    def rng(self, *purpose: int) -> np.random.Generator:
        """Return a source of randomness for one purpose."""
        return np.random.default_rng([self.options.seed, *purpose])


def mean_interval(values: Float64Array, rng: np.random.Generator) -> tuple[float, float]:
    """Return the bootstrap interval of the mean of some values, percentile method (Efron 1979)."""
    drawn = values[rng.integers(len(values), size=(DRAWS, len(values)))].mean(axis=1)
    low, high = np.quantile(drawn, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)
