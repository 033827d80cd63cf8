"""A denoiser that passes every check of `verify`, and what can be wrong with one, each alone.

The models are declared here, in a module, so that another process finds them.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import median_filter
from torch import Tensor
from torch.nn.functional import avg_pool3d, max_pool3d, pad

from medrestore.plugin import ModelSpec
from medrestore.types import Modality, Task

FAULTS: dict[str, object] = {}


def fault(function):
    """Register what is done to the estimate of a good model: a function of it and of the condition."""
    FAULTS[function.__name__] = function
    return function


def mean(image: Tensor, width: int = 3) -> Tensor:
    image = pad(image, (width // 2,) * 6, mode="replicate")
    for line in lines(width):
        image = avg_pool3d(image, line, stride=1)
    return image


def largest(image: Tensor, width: int) -> Tensor:
    for line in lines(width):
        image = max_pool3d(image, line, stride=1, padding=tuple(length // 2 for length in line))
    return image


def lines(width: int) -> list[tuple[int, int, int]]:
    """Return a cube as three lines, one after another along each axis: the same in far less time."""
    return [(width, 1, 1), (1, width, 1), (1, 1, width)]


def good(x, sigma, condition):
    """Lee's filter: the local mean, and of the departure from it the part that noise does not explain."""
    image = condition.image
    local = mean(image)
    variance = (mean(image.square()) - local.square()).clamp_min(1e-12)
    kept = ((variance - condition.sigma**2) / variance).clamp_min(0)
    return local + kept * (image - local)


def is_noisy(condition) -> bool:
    """Whether the level is that of the scans of most checks, and not the least."""
    return condition.sigma > 0.02


@fault
def blurs(estimate, condition):
    return mean(estimate) if is_noisy(condition) else estimate


@fault
def erases_what_is_small_and_faint(estimate, condition):
    """Keep edges, and take what departs little from what is around it for noise."""
    around = mean(estimate, 5)
    faint = ((estimate - around).abs() < 3 * condition.sigma) & is_noisy(condition)
    return torch.where(faint, around, estimate)


@fault
def hallucinates(estimate, condition):
    """See a ball wherever noise looks a little like one."""
    smooth = mean(condition.image)
    calm = mean(condition.image.square(), 7) - mean(condition.image, 7).square() < 1.3 * condition.sigma**2
    seed = (smooth == largest(smooth, 15)) & calm
    return estimate + 1.7 * condition.sigma * largest(seed.float(), 3)


@fault
def shifts(estimate, condition):
    """Lie a seventh of a voxel off: less than an edge shows."""
    moved = torch.cat([estimate[:, :, :1], estimate[:, :, :-1]], dim=2)
    return 0.85 * estimate + 0.15 * moved


@fault
def adds_three_percent(estimate, condition):
    return 1.03 * estimate if is_noisy(condition) else estimate


@fault
def leaves_nothing_below_zero(estimate, condition):
    """Cut noise off in air, as what is made for magnitudes does."""
    return condition.image.clamp(min=0)


@fault
def depends_on_tile(estimate, condition):
    return estimate + 0.01 * condition.image.mean(dim=(2, 3, 4), keepdim=True)


@fault
def depends_on_batch(estimate, condition):
    return estimate + 0.05 * (condition.image - condition.image.mean(dim=0, keepdim=True))


@fault
def gives_all_of_a_batch_the_first(estimate, condition):
    return estimate[:1].repeat(len(estimate), 1, 1, 1, 1)


@fault
def is_random(estimate, condition):
    return estimate + 1e-6 * np.random.default_rng().random()


@fault
def depends_on_process(estimate, condition):
    return estimate + 1e-6 * (os.getpid() % 97)


@fault
def changes_clean_scans(estimate, condition):
    return estimate if is_noisy(condition) else mean(estimate, 5)


@fault
def smooths_clean_edges(estimate, condition):
    """Take the median of a scan of little noise: uniform tissue stays as it is, and edges do not."""
    return (
        estimate if is_noisy(condition) else torch.from_numpy(median_filter(condition.image, (1, 1, 5, 5, 5)))
    )


@fault
def blanks_what_is_dark(estimate, condition):
    """Take the bone of MR for air."""
    return torch.where(estimate < 0.12, 0, estimate)


@fault
def clips_bone(estimate, condition):
    """Keep to a window of 600 HU."""
    return estimate.clamp(max=1.6)


@fault
def spoils_coloured_noise(estimate, condition):
    coloured = condition.details[0] > 1 if condition.details else False
    return estimate + 3 * (condition.image - mean(condition.image)) if coloured else estimate


@fault
def takes_memory_unforeseen(estimate, condition):
    if estimate.numel() > 110**3:
        np.ones(1 << 27)  # 1 GiB
    return estimate


@fault
def keeps_the_scan(estimate, condition):
    """Take nothing out; between thick slices, what interpolation shows."""
    return condition.image


@fault
def waves_between_slices(estimate, condition):
    """Draw structure that repeats after eight planes; the engine still makes it reproduce the slices."""
    planes = torch.arange(estimate.shape[-1]) % 8 < 4
    return condition.image * (1 + 0.8 * (planes.float() - 0.5))


@fault
def changes_its_input(estimate, condition):
    condition.image.mul_(0.5)
    return estimate


@fault
def returns_nan(estimate, condition):
    return estimate / (estimate.numel() != 24**3)


REACHING = {
    "reaches_for_the_network": lambda: socket.create_connection(("192.0.2.1", 80), timeout=0.05),
    "asks_for_a_name": lambda: socket.getnameinfo(("192.0.2.1", 80), 0),
    "starts_a_program": lambda: subprocess.run(["true", "http://192.0.2.1"], check=True),
    "asks_the_shell": lambda: os.system("true http://192.0.2.1"),
    "spawns_a_program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
}
"""Ways to the network."""


def reach(way="reaches_for_the_network", or_fail=False):
    """Take a way to the network, which leads nowhere; fail where it is refused, not where there is none."""
    try:
        REACHING[way]()
    except OSError as error:
        if or_fail and "no network" in str(error):
            raise


class EmptyStream:
    """A good model whose slabs, which only large scans see, are empty."""

    streams = True

    def __call__(self, x, sigma, condition):
        return good(x, sigma, condition)

    def stream(self, parts, sigma, total):
        return (torch.zeros_like(x) for x, _ in parts)


@dataclass(frozen=True)
class Load:
    """The `load` of a declaration, which another process can be told.

    Attributes:
        fault: Name of what is wrong with the model; empty for nothing.
    """

    fault: str = ""

    def __call__(self, context):
        if self.fault in REACHING:
            reach(self.fault)
        if self.fault == "reaches_when_it_ends":
            atexit.register(reach)
        if self.fault == "needs_the_network":
            reach(or_fail=True)
        if self.fault == "fetches_once" and not (kept := Path(os.environ["KEPT_BY_A_MODEL"])).exists():
            reach(or_fail=True)
            kept.touch()
        if self.fault == "streams_nothing":
            return EmptyStream()
        wrong = FAULTS.get(self.fault, lambda estimate, condition: estimate)
        return lambda x, sigma, condition: wrong(good(x, sigma, condition), condition)


def declared(fault: str = "", **changes) -> ModelSpec:
    """Return a declaration of a model with one fault."""
    fields = {
        "name": "tried",
        "title": "A filter",
        "task": Task.DENOISE,
        "modalities": (Modality.MR,),
        "licence": "MIT",
        "reference": "Lee 1980",
        "spacing_mm": (0.5, 2.0),
        "noise": (0.01, 0.1),
        "halo": 16,
        "colour": True,
        "load": Load(fault),
    }
    return ModelSpec(**{**fields, **changes})
