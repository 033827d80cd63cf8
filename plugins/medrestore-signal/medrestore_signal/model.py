"""A trained model of signals: what it is asked for, and the file that it is kept in."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from medrestore.diffusion import (
    Condition,
    TwoMeasurementDenoiser,
    heun,
    karras_levels,
    one_step_mean,
    stochastic,
    volume_noise,
)
from medrestore.errors import InputError, ModelError, reason_of
from medrestore_signal.network import SignalNet

Signal = NDArray[np.float32]

TALLEST, FLATTEST = 10.0, 0.01
"""Levels between which a signal is made from noise alone, in deviations of the signals."""


@dataclass(frozen=True)
class Shape:
    """What signals a network is for, and how it is built.

    Attributes:
        channels: C.
        axes: Along how many axes signals run.
        width: See `SignalNet`.
    """

    channels: int
    axes: int = 1
    width: int = 48


@dataclass(frozen=True, eq=False)
class SignalModel:
    """A network with the units that it was trained in.

    Attributes:
        shape: Of its signals.
        network: The network.
        centre: (C,) mean of each channel of the signals that it was trained on.
        scale: (C,) their standard deviation.
    """

    shape: Shape
    network: SignalNet
    centre: Tensor
    scale: Tensor

    def units(self, signals: Tensor) -> Tensor:
        """Bring (B, C, ...) to mean 0 and deviation 1 of every channel."""
        return (signals - self._each(self.centre)) / self._each(self.scale)

    def back(self, signals: Tensor) -> Tensor:
        """Undo `units`."""
        return signals * self._each(self.scale) + self._each(self.centre)

    def condition(self, signals: Tensor, sigma: float | Sequence[float]) -> Condition:
        """Return what the denoiser is given: signals in its units, and their noise, of one level or many.

        Raises:
            InputError: The levels are not above 0, or not one or one for each channel.
        """
        told = torch.as_tensor(sigma, dtype=torch.float32)
        fits = told.shape in {(), (1,), (self.shape.channels,)}
        if not fits or not bool(((told > 0) & told.isfinite()).all()):
            raise InputError(
                f"sigma is {sigma}; expected a number above 0, or {self.shape.channels}, one for each channel"
            )
        levels = told.expand(self.shape.channels) / self.scale
        reference = float(levels.square().mean().sqrt())
        image = self.units(signals)
        gain = self._each(levels / reference).expand_as(image)
        return Condition(image, reference, gain)

    def _each(self, values: Tensor) -> Tensor:
        return values.reshape(1, -1, *(1,) * self.shape.axes)

    def save(self, path: Path) -> None:
        """Write it as one file of safetensors."""
        tensors = {**self.network.state_dict(), "units.centre": self.centre, "units.scale": self.scale}
        save_file(tensors, path, metadata={"shape": json.dumps(asdict(self.shape))})


def load(path: Path) -> SignalModel:
    """Read what `SignalModel.save` wrote; nothing is unpickled.

    Raises:
        ModelError: The file is none of a signal model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            shape = Shape(**json.loads((file.metadata() or {})["shape"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        centre, scale = tensors.pop("units.centre"), tensors.pop("units.scale")
        network = SignalNet(shape.channels, shape.axes, shape.width)
        network.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{path}: no model of signals: {reason_of(error)}; expected what `medrestore signal train` writes"
        ) from error
    return SignalModel(shape, network.eval().requires_grad_(False), centre, scale)


def restore(model: SignalModel, signals: Signal, sigma: float | Sequence[float]) -> Signal:
    """Return the posterior mean of noisy signals: one evaluation.

    Args:
        model: The model.
        signals: (B, C, ...) with white Gaussian noise.
        sigma: Standard deviation of the noise in the units of the signals, or one for each channel.

    Raises:
        InputError: The signals are not of the shape that the model is for, or a level is not above 0.
    """
    denoiser, condition = TwoMeasurementDenoiser(model.network), model.condition(given(model, signals), sigma)
    mean = one_step_mean(lambda x, level: denoiser(x, level, condition), condition.image)
    return model.back(mean).numpy()


def posterior(
    model: SignalModel, signals: Signal, sigma: float | Sequence[float], *, steps: int = 12, seed: int = 0
) -> Signal:
    """Draw what the signals may have been, beside the mean; arguments as for `restore`.

    Args:
        model: The model.
        signals: (B, C, ...).
        sigma: Of the noise.
        steps: Of the sampler.
        seed: Of its noise.
    """
    denoiser, condition = TwoMeasurementDenoiser(model.network), model.condition(given(model, signals), sigma)

    def denoise(x: Tensor, level: float) -> Tensor:
        return denoiser(x, level, condition)

    levels = karras_levels(steps, 2 * condition.sigma, 0.02 * condition.sigma)
    shape = tuple(condition.image.shape)
    start = denoise(condition.image, math.inf) + levels[0] * volume_noise(shape, (seed,))
    drawn = stochastic(denoise, start, levels, lambda step: volume_noise(shape, (seed, step + 1)))
    return model.back(drawn).numpy()


def sample(model: SignalModel, shape: tuple[int, ...], *, steps: int = 40, seed: int = 0) -> Signal:
    """Make signals of (B, C, ...) from noise alone."""
    denoiser = TwoMeasurementDenoiser(model.network)
    nothing = Condition(torch.zeros(shape), math.inf)
    levels = karras_levels(steps, TALLEST, FLATTEST)
    start = levels[0] * volume_noise(shape, (seed,))
    return model.back(heun(lambda x, level: denoiser(x, level, nothing), start, levels)).numpy()


def given(model: SignalModel, signals: Signal) -> Tensor:
    """Return signals as a tensor, where the model is for them."""
    expected = model.shape
    if signals.ndim != 2 + expected.axes or signals.shape[1] != expected.channels:
        raise InputError(
            f"signals of shape {signals.shape}; expected (B, {expected.channels}, ...) along {expected.axes} "
            "axes, as the model was trained on"
        )
    if not np.isfinite(signals).all():
        raise InputError("signals hold NaN or infinity; expected numbers")
    return torch.from_numpy(np.ascontiguousarray(signals, dtype=np.float32))
