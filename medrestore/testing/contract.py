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
from typing import cast

import torch
from torch import Tensor

from medrestore.diffusion.denoiser import Condition, Denoiser
from medrestore.errors import PluginError
from medrestore.plugin.contract import ContractDenoiser, what_is_wrong
from medrestore.plugin.process_state import process_state_kept
from medrestore.plugin.spec import LoadContext, ModelSpec
from medrestore.testing.small_scans import SIDE, clean_scan, gaussian, noisy_state, small_scan, unit, up

LARGEST_HALO = 256
"""The claim of a wider one is not tried: it takes too long."""

SLABS = (2, 6, 64)
"""Planes of the slabs that a volume is streamed in: the fewest, those that the last is cut of, and all."""

Rule = Callable[[ModelSpec, Denoiser], Iterator[str]]
"""Yields what a denoiser does not keep of what its declaration says."""


def check_model(spec: ModelSpec) -> None:
    """Load a model on the CPU, run it on small volumes, and hold it to what `ModelSpec` and `Denoiser` say.

    Tried are the shape, type and finiteness of the result on volumes of different sizes, that the input is
    left as it was, and so are the settings of torch, the environment variables and the current folder, that
    the same input gives the same result, that the scans of a batch do not mix, that a state of infinite noise
    is ignored, that the halo is as wide as declared, that a `stream` gives what the whole volume gives, and
    every declared dtype. A model for super-resolution is given slices along the last axis, with
    `Condition.gain` and `details`.

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
    m, side = spec.multiple, up(SIDE, spec.multiple)
    for shape in ((side, side, side), (side + m, side, side + 2 * m), (m, 2 * m, side)):
        condition = small_scan(spec, shape)
        state = noisy_state(condition)
        before = (state.clone(), condition.image.clone())
        result = denoiser(state, math.inf, condition)
        if (problem := what_is_wrong(result, tuple(condition.image.shape))) is not None:
            yield problem
        if not (torch.equal(before[0], state) and torch.equal(before[1], condition.image)):
            yield "changes its input in place; expected the state and the scan as they were"


def check_repeatable(spec: ModelSpec, denoiser: Denoiser) -> Iterator[str]:
    """The same input gives the same result, which stays as it is when another is made."""
    condition = small_scan(spec)
    state = noisy_state(condition)
    returned = denoiser(state, math.inf, condition)
    first = returned.clone()
    denoiser(state, math.inf, small_scan(spec, seed=5))
    if not torch.equal(first, returned):
        yield "writes a result where an earlier one lies; expected memory of its own for each"
    if not torch.equal(first, denoiser(state, math.inf, condition)):
        yield "gives another result for the same input; randomness belongs to the sampler"


def check_batch(spec: ModelSpec, denoiser: Denoiser) -> Iterator[str]:
    """The scans of a batch do not mix, unless they are the volumes of a series."""
    if spec.series is not None:
        return
    one, two = small_scan(spec), small_scan(spec, seed=5)
    # Another brightness too: what is shared of two scans that are alike would hardly show.
    scans = (one, replace(two, image=0.5 * two.image))
    gain = None if one.gain is None or two.gain is None else torch.cat([one.gain, two.gain])
    both = replace(one, image=torch.cat([scan.image for scan in scans]), gain=gain)
    state = noisy_state(both)
    result = denoiser(state, math.inf, both)
    if result.shape != both.image.shape or not all(
        _close(spec, result[n : n + 1], denoiser(state[n : n + 1], math.inf, scan))
        for n, scan in enumerate(scans)
    ):
        yield "mixes the scans of a batch, or cannot take two; expected (B, 1, X, Y, Z), each by itself"


def check_gain(spec: ModelSpec, denoiser: Denoiser) -> Iterator[str]:
    """A map of the noise that is 1 everywhere is none, and one that varies is heeded without harm."""
    plain = replace(small_scan(spec), gain=None)
    mapped = replace(plain, gain=torch.ones_like(plain.image))
    state = noisy_state(plain)
    if not _close(spec, denoiser(state, math.inf, plain), denoiser(state, math.inf, mapped)):
        yield "gives another result for a noise map that is 1 everywhere than for none"
    varying = _in_varying_noise(plain)
    gain = cast(Tensor, varying.gain).clone()
    result = denoiser(state, math.inf, varying)
    if varying.gain is None or not torch.equal(varying.gain, gain):
        yield "changes the noise map in place; expected it as it was"
    if not bool(result.isfinite().all()):
        yield "returns values that are not finite where the noise varies over the scan"


def check_mean(spec: ModelSpec, denoiser: Denoiser) -> Iterator[str]:
    """A state of infinite noise is ignored."""
    condition = small_scan(spec)
    zeros, noise = torch.zeros_like(condition.image), unit(spec) * gaussian(condition.image.shape, seed=7)
    if not _close(spec, denoiser(zeros, math.inf, condition), denoiser(noise, math.inf, condition)):
        yield "depends on the state at an infinite noise level, where the state says nothing"


def check_sample(spec: ModelSpec, denoiser: Denoiser) -> Iterator[str]:
    """A state of hardly any noise stays where it is."""
    if "sample" not in spec.outputs:
        return
    condition = small_scan(spec)
    level = 1e-3 * condition.sigma
    state = clean_scan(spec, tuple(condition.image.shape[2:])) + level * gaussian(
        condition.image.shape, seed=3
    )
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
    length, side = up(spec.halo + m + 4, m) + m, up(8, m)
    for axis in range(3):
        shape = [side, side, side]
        shape[axis] = length
        whole = small_scan(spec, (shape[0], shape[1], shape[2]))
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


def check_stream(spec: ModelSpec, denoiser: Denoiser) -> Iterator[str]:
    """Slab by slab, as large volumes are gone through, a model gives what it gives at once."""
    held = ContractDenoiser(denoiser, f"model {spec.name!r}")
    if not held.streams:
        return
    whole = _in_varying_noise(small_scan(spec))
    state, total = noisy_state(whole), whole.image.shape[2]
    for level in (math.inf, whole.sigma) if "sample" in spec.outputs else (math.inf,):
        expected = denoiser(state, level, whole)
        for rows in SLABS:
            starts = [(start, min(rows, total - start)) for start in range(0, total, rows)]
            parts = ((state.narrow(2, *slab).contiguous(), _cut(whole, 2, *slab)) for slab in starts)
            found = torch.cat(list(held.stream(parts, level, total)), dim=2)
            if not _close(spec, found, expected):
                yield (
                    f"`stream` differs by {float((found - expected).abs().max()):.3g} from the whole volume "
                    f"at once, in slabs of {rows} planes at a noise level of {level:.3g}; expected rounding "
                    "alone, as large volumes are streamed"
                )


RULES: tuple[Rule, ...] = (
    check_sizes,
    check_repeatable,
    check_batch,
    check_gain,
    check_mean,
    check_halo,
    check_stream,
    check_sample,
)
"""All that a model's contract has."""


def _in_varying_noise(plain: Condition) -> Condition:
    """Return a scan with a map of noise that rises along the first axis, from half to one and a half."""
    ramp = torch.linspace(-1, 1, plain.image.shape[2], dtype=torch.float32)
    return replace(plain, gain=(1 + 0.5 * ramp[:, None, None]).expand_as(plain.image).clone())


def _cut(whole: Condition, axis: int, start: int, length: int) -> Condition:
    image, gain = (
        None if part is None else part.narrow(axis, start, length).contiguous()
        for part in (whole.image, whole.gain)
    )
    assert image is not None
    return replace(whole, image=image, gain=gain)


def _close(spec: ModelSpec, a: Tensor, b: Tensor) -> bool:
    return float((a - b).abs().max()) <= 1e-4 * unit(spec)
