"""A network of MONAI behind the two-measurement preconditioning of medrestore.

Where the scan has Gaussian noise, the precision-weighted mean m of state and scan is all that both say of the
clean volume, and its noise has one level k. So a network that was trained on one noisy volume alone, as every
diffusion model is, is given m at the time at which its own forward process has that noise, and nothing more
is needed: one evaluation is the posterior mean given the scan, and finite levels sample from the posterior.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medrestore.errors import ModelError, reason_of
from medrestore_monai.allowed import (
    LONGEST_SCHEDULE,
    MOST_WEIGHTS,
    NETWORKS,
    SCHEDULERS,
    allowed_name,
    check_plain,
    check_sizes,
)

PLAIN = ("clean", "noise")
"""What a network without a scheduler may predict: the clean volume, or the noise in its input."""


class BundleNetwork(nn.Module):
    """A network as medrestore calls it.

    Args:
        network: Of MONAI; called with (B, 1, X, Y, Z), and with the times (B,) where it has a scheduler.
        estimate: Takes the network, a volume in its units and the level of its noise in them, (B,), to the
            clean volume in its units.
        units: What 0 and 1 of medrestore are in its units.
        halo: See `ModelSpec`.
        multiple: See `ModelSpec`.
    """

    def __init__(
        self,
        network: nn.Module,
        estimate: Callable[[nn.Module, Tensor, Tensor], Tensor],
        units: tuple[float, float],
        halo: int,
        multiple: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.estimate = estimate
        self.low, self.span = units[0], units[1] - units[0]
        self.halo, self.multiple = halo, multiple

    def forward(self, inputs: Tensor, levels: Tensor) -> Tensor:
        """See `NetworkSpec`: (B, 4, X, Y, Z) and (B, 2) to (B, 1, X, Y, Z)."""
        state = self.low + self.span * inputs[:, :1]
        clean = self.estimate(self.network, state, self.span * levels[:, 0].exp())
        return (clean - state) / (self.span * _deviation(levels, inputs[:, 3:4]))


def _deviation(levels: Tensor, log_gain: Tensor) -> Tensor:
    """Return k at each voxel, where the noise of the scan may vary: the network is told one level for all."""
    reference, scan = (level[:, None, None, None, None] for level in levels[:, :2].exp().unbind(1))
    precision_of_state = (reference**-2 - scan**-2).clamp(min=0)
    deviation: Tensor = (precision_of_state + (scan * log_gain.exp()) ** -2) ** -0.5
    return deviation


class Diffusion:
    """The clean volume by a network that was trained with a DDPM or DDIM scheduler of MONAI.

    Its state is the volume with noise of deviation s, over the root of 1 + s^2 (Ho et al. 2020, eq. 4); times
    may lie between those of its schedule.

    Args:
        scheduler: Of MONAI.
    """

    def __init__(self, scheduler: Any) -> None:
        kept = scheduler.alphas_cumprod.double()
        self.levels = ((1 - kept) / kept).sqrt().log()
        self.predicts = str(scheduler.prediction_type)

    def __call__(self, network: nn.Module, noisy: Tensor, sigma: Tensor) -> Tensor:
        """See `BundleNetwork`."""
        level = sigma[:, None, None, None, None]
        scale = (1 + level**2).rsqrt()
        out = network(noisy * scale, timesteps=self.time(sigma))
        if self.predicts == "sample":
            return out
        if self.predicts == "v_prediction":
            return scale * (scale * noisy) - scale * level * out
        return noisy - level * out

    def time(self, sigma: Tensor) -> Tensor:
        """Return the times, (B,), at which the forward process has such noise relative to the volume."""
        levels = self.levels.to(sigma.device)
        log = sigma.double().log().clamp(levels[0], levels[-1])
        after = torch.searchsorted(levels, log).clamp(1, len(levels) - 1)
        before = after - 1
        share = (log - levels[before]) / (levels[after] - levels[before])
        return (before + share).to(sigma.dtype)


class RectifiedFlow:
    """The clean volume by a network that was trained with a rectified-flow scheduler of MONAI.

    Its state is (1 - t) x + t n, whose noise relative to the volume is t / (1 - t); it predicts x - n.

    Args:
        scheduler: Of MONAI.
    """

    def __init__(self, scheduler: Any) -> None:
        self.steps = scheduler.num_train_timesteps

    def __call__(self, network: nn.Module, noisy: Tensor, sigma: Tensor) -> Tensor:
        """See `BundleNetwork`."""
        time = sigma / (1 + sigma)
        share = time[:, None, None, None, None]
        state = (1 - share) * noisy
        clean: Tensor = state + share * network(state, timesteps=self.steps * time)
        return clean


def predict_clean(network: nn.Module, noisy: Tensor, sigma: Tensor) -> Tensor:
    """Return what a plain network makes of a volume; it is not told the noise."""
    del sigma
    clean: Tensor = network(noisy)
    return clean


def predict_noise(network: nn.Module, noisy: Tensor, sigma: Tensor) -> Tensor:
    """Return the volume less what a plain network takes for noise; it is not told the level."""
    del sigma
    return noisy - network(noisy)


def build_bundle_network(
    *,
    network: str,
    arguments: Mapping[str, Any],
    units: list[float],
    halo: int,
    scheduler: Mapping[str, Any] | None = None,
    predicts: str = "clean",
) -> BundleNetwork:
    """Build a network of `model.toml`, with weights to be filled in.

    Args:
        network: One of `allowed.NETWORKS`.
        arguments: Of its class, plain data.
        units: What 0 and 1 of medrestore are in its units.
        halo: See `ModelSpec`.
        scheduler: ``name``, one of `allowed.SCHEDULERS`, and its arguments; None for a plain network.
        predicts: What a plain network does, one of `PLAIN`.

    Raises:
        ModelError: It is not allowed, too large, or MONAI does not take the arguments.
    """
    import monai.networks.nets
    import monai.networks.schedulers

    schedule = dict(scheduler or {})
    scheduler_name = str(schedule.pop("name", ""))
    _check(network, arguments, scheduler_name, schedule, predicts)
    kind = getattr(monai.networks.nets, network)
    try:
        with torch.device("meta"):
            weights = sum(one.numel() for one in kind(**arguments).parameters())
        if weights > MOST_WEIGHTS:
            raise ModelError(f"{network} has {weights} weights; expected at most {MOST_WEIGHTS}")
        made = kind(**arguments)
        times = getattr(monai.networks.schedulers, scheduler_name)(**schedule) if scheduler_name else None
        multiple = NETWORKS[network](arguments)
    except (TypeError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        raise ModelError(f"{network} cannot be built with the arguments given: {reason_of(error)}") from error
    if times is None:
        estimate = predict_clean if predicts == "clean" else predict_noise
    else:
        estimate = (Diffusion if SCHEDULERS[scheduler_name] == "diffusion" else RectifiedFlow)(times)
    return BundleNetwork(made, estimate, (units[0], units[1]), halo, multiple)


def _check(
    network: str, arguments: Mapping[str, Any], scheduler: str, schedule: Mapping[str, Any], predicts: str
) -> None:
    if allowed_name(network, "networks") != network:
        raise ModelError(f"{network!r:.80} is no network that is built here; there are {', '.join(NETWORKS)}")
    if scheduler and allowed_name(scheduler, "schedulers") != scheduler:
        raise ModelError(f"{scheduler!r:.80} is no scheduler known here; there are {', '.join(SCHEDULERS)}")
    if predicts not in PLAIN:
        raise ModelError(f"predicts is {predicts!r:.80}; expected one of {', '.join(PLAIN)}")
    check_plain(arguments, "arguments")
    check_plain(schedule, "schedule")
    check_sizes(arguments, "arguments")
    steps = schedule.get("num_train_timesteps", 1000)
    if not (isinstance(steps, int) and 1 < steps <= LONGEST_SCHEDULE):
        raise ModelError(f"num_train_timesteps is {steps!r:.40}; expected 2 to {LONGEST_SCHEDULE}")
    expected = {"spatial_dims": 3, "in_channels": 1, "out_channels": 1}
    for name, value in expected.items():
        default = 1 if network == "VNet" else None
        found = arguments.get(name, 3 if name == "spatial_dims" else default)
        if found != value:
            raise ModelError(
                f"{network} has {name} {found!r:.40}; expected {value}: volumes of one channel go in and out"
            )
    if (scheduler != "") != (network == "DiffusionModelUNet"):
        raise ModelError(
            "a DiffusionModelUNet needs the scheduler that it was trained with, and no other network has one"
        )
