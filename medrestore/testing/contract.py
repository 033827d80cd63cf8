"""The contract of a model, checked: for the tests of plugins, and of models in a folder.

    from medrestore.testing import check_model

    def test_contract():
        check_model(my_plugin.medrestore_models()[0])

It takes a second or so for a model of a few million weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from medrestore.diffusion.denoiser import Condition, Denoiser
from medrestore.errors import PluginError
from medrestore.physics.kspace import colour_details
from medrestore.physics.slices import SliceStack, upsample
from medrestore.plugin.contract import what_is_wrong
from medrestore.plugin.process_state import process_state_kept
from medrestore.plugin.spec import Intensity, LoadContext, ModelSpec
from medrestore.types import Task

SIDE = 24
"""Voxels along each axis of the volume that is tried, rounded up to the model's `multiple`."""

LARGEST_HALO = 256
"""The claim of a wider one is not tried: it takes too long."""

Rule = Callable[[ModelSpec, Denoiser], Iterator[str]]
"""Yields what a denoiser does not keep of what its declaration says."""


def check_model(spec: ModelSpec) -> None:
    """Load a model on the CPU, run it on small volumes, and hold it to what `ModelSpec` and `Denoiser` say.

    Tried are the shape, type and finiteness of the result on volumes of different sizes, that the input is
    left as it was, and so are the settings of torch, the environment variables and the current folder, that
    the same input gives the same result, that the scans of a batch do not mix, that a state of infinite noise
    is ignored, that the halo is as wide as declared, and every declared dtype. A model for super-resolution
    is given slices along the last axis, with `Condition.gain` and `details`.

    Raises:
        PluginError: Lists everything that does not hold.
    """
    if problems := list(model_problems(spec, RULES)):
        raise PluginError("\n  - ".join([f"model {spec.name!r} breaks its contract:", *problems]))


def model_problems(spec: ModelSpec, rules: Sequence[Rule]) -> Iterator[str]:
    """Load a model on the CPU with every declared dtype, and yield what of the rules does not hold.

    All of the rules are tried with the first dtype, and `check_sizes`, where it is among them, with each.
    """
    for dtype in spec.dtypes:
        first = dtype == spec.dtypes[0]
        tried = [rule for rule in rules if first or rule is check_sizes]
        for problem in dict.fromkeys(_problems(spec, dtype, tried)):
            yield problem if first else f"with dtype {dtype!r}: {problem}"


def _problems(spec: ModelSpec, dtype: str, rules: Sequence[Rule]) -> Iterator[str]:
    loaded: list[Denoiser] = []

    def load() -> Iterable[str]:
        loaded.extend([spec.load(LoadContext(device="cpu", dtype=dtype))] if rules else [])
        return ()

    yield from watched("load", load)
    for denoiser in loaded:
        for rule in rules:
            yield from watched(f"{rule.__name__.removeprefix('check_')}:", partial(rule, spec, denoiser))


def watched(name: str, action: Callable[[], Iterable[str]]) -> Iterator[str]:
    """Yield the problems that a check finds, what it raises, and what the model changes of the process."""
    found: list[str] = []
    changed: list[str] = []
    try:
        with process_state_kept() as changed, torch.no_grad():
            found.extend(action())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - reported, whatever it is
        found.append(f"{name} raised {type(error).__name__}: {error}")
    yield from found
    if changed:
        yield f"changes {', '.join(changed)}; expected what belongs to the whole process as it was"


def check_sizes(spec: ModelSpec, denoiser: Denoiser) -> Iterator[str]:
    """The estimate is one, whatever the size, and the input stays as it was."""
    m, side = spec.multiple, _up(SIDE, spec.multiple)
    for shape in ((side, side, side), (side + m, side, side + 2 * m), (m, 2 * m, side)):
        condition = _condition(spec, shape)
        state = _state(spec, condition)
        before = (state.clone(), condition.image.clone())
        result = denoiser(state, math.inf, condition)
        if (problem := what_is_wrong(result, tuple(condition.image.shape))) is not None:
            yield problem
        if not (torch.equal(before[0], state) and torch.equal(before[1], condition.image)):
            yield "changes its input in place; expected the state and the scan as they were"


def check_repeatable(spec: ModelSpec, denoiser: Denoiser) -> Iterator[str]:
    """The same input gives the same result, which stays as it is when another is made."""
    condition = _condition(spec)
    state = _state(spec, condition)
    returned = denoiser(state, math.inf, condition)
    first = returned.clone()
    denoiser(state, math.inf, _condition(spec, seed=5))
    if not torch.equal(first, returned):
        yield "writes a result where an earlier one lies; expected memory of its own for each"
    if not torch.equal(first, denoiser(state, math.inf, condition)):
        yield "gives another result for the same input; randomness belongs to the sampler"


def check_batch(spec: ModelSpec, denoiser: Denoiser) -> Iterator[str]:
    """The scans of a batch do not mix, unless they are the volumes of a series."""
    if spec.series is not None:
        return
    one, two = _condition(spec), _condition(spec, seed=5)
    gain = None if one.gain is None or two.gain is None else torch.cat([one.gain, two.gain])
    both = replace(one, image=torch.cat([one.image, two.image]), gain=gain)
    result = denoiser(_state(spec, both), math.inf, both)
    alone = denoiser(_state(spec, both)[:1], math.inf, one)
    if result.shape != both.image.shape or not _close(spec, result[:1], alone):
        yield "mixes the scans of a batch, or cannot take two; expected (B, 1, X, Y, Z), each by itself"


def check_gain(spec: ModelSpec, denoiser: Denoiser) -> Iterator[str]:
    """A map of the noise that is 1 everywhere is none, and one that varies is heeded without harm."""
    plain = replace(_condition(spec), gain=None)
    mapped = replace(plain, gain=torch.ones_like(plain.image))
    state = _state(spec, plain)
    if not _close(spec, denoiser(state, math.inf, plain), denoiser(state, math.inf, mapped)):
        yield "gives another result for a noise map that is 1 everywhere than for none"
    ramp = torch.linspace(-1, 1, plain.image.shape[2], dtype=torch.float32)
    gain = 1 + 0.5 * ramp[:, None, None].expand_as(plain.image)
    varying = replace(plain, gain=gain.clone())
    result = denoiser(state, math.inf, varying)
    if varying.gain is None or not torch.equal(varying.gain, gain):
        yield "changes the noise map in place; expected it as it was"
    if not bool(result.isfinite().all()):
        yield "returns values that are not finite where the noise varies over the scan"


def check_mean(spec: ModelSpec, denoiser: Denoiser) -> Iterator[str]:
    """A state of infinite noise is ignored."""
    condition = _condition(spec)
    zeros, noise = torch.zeros_like(condition.image), _unit(spec) * gaussian(condition.image.shape, seed=7)
    if not _close(spec, denoiser(zeros, math.inf, condition), denoiser(noise, math.inf, condition)):
        yield "depends on the state at an infinite noise level, where the state says nothing"


def check_sample(spec: ModelSpec, denoiser: Denoiser) -> Iterator[str]:
    """A state of hardly any noise stays where it is."""
    if "sample" not in spec.outputs:
        return
    condition = _condition(spec)
    level = 1e-3 * condition.sigma
    state = _clean(spec, tuple(condition.image.shape[2:])) + level * gaussian(condition.image.shape, seed=3)
    error = float((denoiser(state, level, condition) - state).square().mean().sqrt())
    if not error < 10 * level:
        yield (
            f"moves a state with noise {level:.3g} by {error:.3g} (root mean square); expected about the "
            "noise, or a sampler cannot end where it is"
        )


def check_halo(spec: ModelSpec, denoiser: Denoiser) -> Iterator[str]:
    """A tile with its halo gives what the whole volume gives."""
    if spec.halo > LARGEST_HALO:
        return
    m = spec.multiple
    length, side = _up(spec.halo + m + 4, m) + m, _up(8, m)
    for axis in range(3):
        shape = [side, side, side]
        shape[axis] = length
        whole = _condition(spec, (shape[0], shape[1], shape[2]))
        expected = denoiser(torch.zeros_like(whole.image), math.inf, whole)
        inner = length - m - spec.halo
        for start in (m, 0):  # a tile that ends with the volume, and one that begins with it
            tile = _cut(whole, axis + 2, start, length - m)
            found = denoiser(torch.zeros_like(tile.image), math.inf, tile)
            near = found.narrow(axis + 2, spec.halo if start else 0, inner)
            far = expected.narrow(axis + 2, start + spec.halo if start else 0, inner)
            if not _close(spec, far, near):
                yield (
                    f"differs by {float((far - near).abs().max()):.3g} between the volume and a tile of it "
                    f"along axis {axis}, {spec.halo} voxels or more inside; expected rounding alone: the "
                    "halo or the multiple is too small, or something is computed over the whole of space"
                )


RULES: tuple[Rule, ...] = (
    check_sizes,
    check_repeatable,
    check_batch,
    check_gain,
    check_mean,
    check_halo,
    check_sample,
)
"""All that a model's contract has."""


def _cut(whole: Condition, axis: int, start: int, length: int) -> Condition:
    image, gain = (
        None if part is None else part.narrow(axis, start, length).contiguous()
        for part in (whole.image, whole.gain)
    )
    assert image is not None
    return replace(whole, image=image, gain=gain)


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _unit(spec: ModelSpec) -> float:
    """Return what the 99th percentile of the tried scan is in the model's units."""
    return 1000.0 if spec.intensity is Intensity.RAW else 1.0


def _close(spec: ModelSpec, a: Tensor, b: Tensor) -> bool:
    return float((a - b).abs().max()) <= 1e-4 * _unit(spec)


def gaussian(shape: tuple[int, ...], seed: int) -> Tensor:
    """Return white noise of unit deviation, drawn anew from a seed."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def _clean(spec: ModelSpec, shape: tuple[int, ...]) -> Tensor:
    """Return (1, 1, X, Y, Z): a soft bright ball with a darker core, air around it."""
    grid = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float32) for n in shape), indexing="ij")
    radius = torch.stack(grid).square().sum(dim=0).sqrt()
    ball = torch.sigmoid((0.8 - radius) * 20) - 0.4 * torch.sigmoid((0.3 - radius) * 20)
    return (_unit(spec) * ball)[None, None]


def _condition(spec: ModelSpec, shape: tuple[int, int, int] | None = None, seed: int = 1) -> Condition:
    side = _up(SIDE, spec.multiple)
    shape = (side, side, side) if shape is None else shape
    sigma = _unit(spec) * max(sum(spec.noise) / 2, 1e-3)
    if spec.task is Task.SUPERRES:
        return _sliced(spec, shape, sigma, seed)
    details = colour_details((0.0, 0.0, 0.0)) if spec.colour else ()
    given = _clean(spec, shape) + sigma * gaussian((spec.series or 1, 1, *shape), seed)
    return Condition(given, sigma, details=details)


def _sliced(spec: ModelSpec, shape: tuple[int, int, int], sigma: float, seed: int) -> Condition:
    """Return thick slices along the last axis, put on the grid as the engine does it."""
    low, high = spec.factor or (2.0, 2.0)
    factor = min(max(2.0, low), high)
    slices = max(int(shape[2] / factor), 2)
    stack = SliceStack(shape[2], slices, factor, factor, first=(factor - 1) / 2)
    measured = stack.forward(_clean(spec, shape).numpy())
    measured += np.float32(sigma) * gaussian(measured.shape, seed).numpy()
    told = upsample(measured, stack, sigma)
    image = torch.from_numpy(told.image)
    gain = torch.from_numpy(told.gain).expand(image.shape).contiguous()
    return Condition(image, told.sigma, gain, told.details)


def _state(spec: ModelSpec, condition: Condition) -> Tensor:
    shape = tuple(condition.image.shape)
    return condition.image + condition.sigma * gaussian(shape, seed=2)
