"""What a scan measured, as a problem for a denoiser: the one thing in which the tasks differ."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from medrestore.diffusion import Condition, Denoiser
from medrestore.engine.sampling.ensemble import VIEWS, View
from medrestore.engine.sampling.posterior import START
from medrestore.findings import Finding
from medrestore.noise.intensity import Units
from medrestore.noise.level import NoiseLevel
from medrestore.plugin import Intensity, ModelSpec
from medrestore.provenance import JSON, Step
from medrestore.types import BoolArray, FloatArray, RealArray
from medrestore.volume import Volume


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement(ABC):
    """A scan in the form that the model is given, and the way back.

    Attributes:
        scan: What was measured.
        units: What the model means by 0 and 1.
        noise: Noise level of the scan.
        condition: What the model is told; its image has the size of the result and may have its axes in
            another order.
        baseline: The scan on the grid of the result, as interpolation alone gives it.
        nonnegative: Whether the result has no negative voxels.
        share: Share of the model's residual that is taken out, from 0 to 1.
        start: First level of a sampler, in units of the condition's level: the error of the mean must be
            small beside it.
        views: Views of the scan that a self-ensemble may take its estimates from.
        skip_reason: Why the model has nothing to do, so that the baseline is the result; None if it has.
        facts: What a record says of the measurement.
        findings: What a reader of the result should know.
        uncleaned: Whether slices keep their noise, as the model that would clean them is not for them.
    """

    scan: Volume
    units: Units
    noise: NoiseLevel
    condition: Condition
    baseline: Volume
    nonnegative: bool
    share: float = 1.0
    start: float = START
    views: tuple[View, ...] = VIEWS
    skip_reason: Finding | None = None
    facts: Mapping[str, JSON] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    uncleaned: bool = False

    def guide(self, denoiser: Denoiser) -> Denoiser:
        """Return the denoiser held to what was measured; itself a denoiser of the whole volume."""
        return denoiser

    def settled(self, denoiser: Denoiser) -> Measurement:
        """Return this measurement with the level that a trial of the model on a part of the scan suggests."""
        del denoiser
        return self

    @abstractmethod
    def place(self, array: FloatArray, step: Step) -> Volume:
        """Put voxels on the grid of the result.

        Args:
            array: (X, Y, Z) voxels laid out as the image of the condition, in the units of the scan.
            step: The step that made them, for the history.
        """

    @abstractmethod
    def remeasure(self, result: Volume) -> RealArray:
        """Return the scan, (X, Y, Z) on its own grid, that the result would have given without noise."""

    def local_sigma(self) -> float | RealArray:
        """Return the noise of the scan in its units: one level, or (X, Y, Z) a level for each voxel."""
        return self.noise.sigma

    @property
    def unmeasured(self) -> BoolArray | None:
        """Voxels of the result, (X, Y, Z), that were not measured and stay as they are; None for none."""
        return None

    def expected_sigma(self) -> float | RealArray:
        """Return the level that the residual is compared with, as `local_sigma` does; above 0."""
        return self.local_sigma()

    def evidence(self, result: Volume) -> Mapping[str, JSON]:
        """Return what the record says of the measurement and of how well the result agrees with it."""
        del result
        return self.facts

    def unseen(self, result: Volume) -> Volume:
        """Return the part of the result that nothing measured, on its grid: none where all was measured."""
        return result.with_array(np.zeros(result.shape, dtype=np.float32), Step("restore:null", {}))

    @property
    def factor(self) -> float:
        """Distance of what was measured across the slices, in voxels of the result."""
        return 1.0

    @abstractmethod
    def as_given(self, array: RealArray) -> FloatArray:
        """Lay out voxels on the grid of the result as the image of the condition, in model units.

        Args:
            array: (X, Y, Z) in the units of the scan.
        """

    def physical(self, array: FloatArray) -> FloatArray:
        """Return voxels that the scanner could have given: a magnitude image has no negative voxels.

        The array may be changed.
        """
        return np.maximum(array, 0, out=array) if self.nonnegative else array

    def to_volume(self, tensor: Tensor, step: Step) -> Volume:
        """Turn a (1, 1, X, Y, Z) result in model units into a volume, in the memory of the tensor."""
        array = tensor[0, 0].numpy()
        return self.place(self.physical(self.units.from_model(array, out=array)), step)

    def state(self, tensor: Tensor, step: Step) -> Volume:
        """Turn a (1, 1, X, Y, Z) state of a sampler, noise and all, into a volume."""
        return self.place(self.units.from_model(tensor[0, 0].numpy()), step)

    def std_volume(self, tensor: Tensor, step: Step) -> Volume:
        """Turn a (1, 1, X, Y, Z) standard deviation in model units into a volume."""
        return self.place((tensor[0, 0] * self.units.one).numpy(), step)


def is_nonnegative(spec: ModelSpec, scan: Volume) -> bool:
    """Tell whether the result of a model has no negative voxels, as the scan has none."""
    return spec.intensity is Intensity.P99 and bool(scan.array.min() >= 0)
