"""check_model passes what keeps the contract and names what does not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from medrestore.errors import PluginError
from medrestore.plugin import Intensity, ModelSpec, read_model_folder
from medrestore.testing import check_model
from medrestore.types import Modality, Task

CALLS = iter(range(1_000_000))
CT = {"modalities": (Modality.CT,), "intensity": Intensity.ATTENUATION}
BUFFERS: dict[tuple[int, ...], torch.Tensor] = {}


def spec(denoise, **changes) -> ModelSpec:
    fields = {
        "name": "tried",
        "title": "A model",
        "task": Task.DENOISE,
        "modalities": (Modality.MR,),
        "licence": "MIT",
        "reference": "none",
        "spacing_mm": (0.5, 2.0),
        "noise": (0.01, 0.1),
        "halo": 1,
        "load": lambda context: denoise,
    }
    return ModelSpec(**{**fields, **changes})


def blur(x: torch.Tensor, width: int = 3) -> torch.Tensor:
    pad = torch.nn.functional.pad(x, (width // 2,) * 6, mode="replicate")
    return torch.nn.functional.avg_pool3d(pad, width, stride=1)


def mean_filter(x, sigma, condition):
    return blur(condition.image)


def weighted(x, sigma, condition):
    """Weigh the state and the blurred scan: a denoiser for both outputs."""
    scan = blur(condition.image)
    if math.isinf(sigma):
        return scan
    weight = sigma**2 / (sigma**2 + condition.sigma**2)
    return weight * scan + (1 - weight) * x


def in_place(x, sigma, condition):
    condition.image.mul_(0.5)
    return blur(condition.image)


def folded(x, sigma, condition):
    """Work on blocks of 4 voxels: fine at multiple 4 alone."""
    if any(size % 4 for size in x.shape[2:]):
        raise ValueError("sizes must be multiples of 4")
    small = torch.nn.functional.avg_pool3d(condition.image, 4)
    return torch.nn.functional.interpolate(small, scale_factor=4)


def not_finite(x, sigma, condition):
    return blur(condition.image).sub(0.5).log()


def random(x, sigma, condition):
    return blur(condition.image) + 1e-3 * next(CALLS)


def global_norm(x, sigma, condition):
    return blur(condition.image) / condition.image.std()


def ahead(x, sigma, condition):
    """Look far in one direction alone."""
    return torch.roll(condition.image, -3, dims=2)


def logarithm(x, sigma, condition):
    """Take the logarithm of the map where it lies."""
    gain = torch.ones(1) if condition.gain is None else condition.gain
    return blur(condition.image) + 0.01 * gain.log_()


def one_buffer(x, sigma, condition):
    """Return one tensor for all volumes of a shape."""
    return BUFFERS.setdefault(tuple(x.shape), torch.empty_like(x)).copy_(blur(condition.image))


def batch_norm(x, sigma, condition):
    return blur(condition.image) - condition.image.mean(dim=0, keepdim=True).mean()


@pytest.mark.parametrize(
    ("denoise", "changes"),
    [
        (mean_filter, {}),
        (mean_filter, {**CT, "noise": (0.0, 0.0)}),
        (weighted, {"outputs": frozenset({"mean", "sample"})}),
        (folded, {"multiple": 4, "halo": 4}),
    ],
)
def test_a_model_that_keeps_the_contract_passes(denoise, changes):
    check_model(spec(denoise, **changes))


@pytest.mark.parametrize(
    ("denoise", "changes", "message"),
    [
        (lambda x, sigma, c: None, {}, "returns NoneType; expected a tensor of shape"),
        (
            lambda x, sigma, c: c.image[..., 1:],
            {},
            r"returns a tensor of shape \(1, 1, 24, 24, 23\); expected",
        ),
        (lambda x, sigma, c: c.image.half(), {}, "returns torch.float16; expected float32"),
        (not_finite, {}, r"returns \d+ values that are not finite"),
        (in_place, {}, "changes its input in place"),
        (one_buffer, {}, "writes a result where an earlier one lies"),
        (random, {}, "another result for the same input"),
        (lambda x, sigma, c: blur(x), {}, "depends on the state at an infinite noise level"),
        (lambda x, sigma, c: blur(c.image, 5), {}, "differs by .* along axis 0, 1 voxels"),
        (global_norm, {}, "halo or the multiple is too small, or something is computed over the whole"),
        (batch_norm, {"halo": 300}, "mixes the scans of a batch"),
        (folded, {"multiple": 2, "halo": 4}, "raised ValueError: sizes must be multiples of 4"),
        (lambda x, s, c: blur(c.image) if c.gain is None else c.image, {}, "noise map that is 1 everywhere"),
        (mean_filter, {"outputs": frozenset({"mean", "sample"})}, "moves a state with noise"),
        (
            lambda x, s, c: blur(c.image) + (x - blur(x, 5)),
            {},
            "depends on the state at an infinite noise level",
        ),
        (ahead, {}, "differs by .* along axis 0, 1 voxels"),
        (logarithm, {}, "changes the noise map in place"),
    ],
)
def test_a_break_is_named(denoise, changes, message):
    with pytest.raises(PluginError, match=message) as caught:
        check_model(spec(denoise, **changes))
    assert "model 'tried' breaks its contract" in str(caught.value)


def first_of_all(x, sigma, condition):
    """Give every scan of a batch the result of the first."""
    return blur(condition.image[:1]).repeat(len(x), 1, 1, 1, 1)


def blended(x, sigma, condition):
    """Mix all but the first scan of a batch with it."""
    estimate = blur(condition.image)
    return torch.cat([estimate[:1], 0.5 * (estimate[1:] + estimate[:1])])


def of_their_mean(x, sigma, condition):
    """Share of a batch what is the same in scans that are alike."""
    return condition.image + 1e-2 * condition.image.mean()


@pytest.mark.parametrize("denoise", [first_of_all, blended, of_their_mean])
def test_every_scan_of_a_batch_is_compared_with_itself_alone(denoise):
    with pytest.raises(PluginError, match="mixes the scans of a batch"):
        check_model(spec(denoise, halo=300))


class Streaming:
    """Weigh state and scan, voxel by voxel; slab by slab as it is told."""

    streams = True

    def __init__(self, slab=None):
        self.slab = slab or self

    def __call__(self, x, sigma, condition):
        weight = 1 if math.isinf(sigma) else sigma**2 / (sigma**2 + condition.sigma**2)
        return weight * condition.image / (1 if condition.gain is None else condition.gain) + (1 - weight) * x

    def stream(self, parts, sigma, total):
        for x, condition in parts:
            yield self.slab(x, sigma, condition)


def of_none(x, sigma, condition):
    return torch.zeros_like(x)


def normalised(x, sigma, condition):
    """Look at the whole slab, as a tile of its own would be."""
    return Streaming()(x, sigma, condition) + 1e-2 * x.mean()


def without_the_map(x, sigma, condition):
    return Streaming()(x, sigma, replace(condition, gain=None))


def as_a_mean(x, sigma, condition):
    return Streaming()(x, math.inf, condition)


BOTH = {"outputs": frozenset({"mean", "sample"})}


@pytest.mark.parametrize("slab", [of_none, normalised, without_the_map, as_a_mean])
def test_a_stream_that_gives_something_else_than_the_whole_is_named(slab):
    check_model(spec(Streaming(), **BOTH))
    with pytest.raises(
        PluginError, match=r"`stream` differs by .* in slabs of \d+ planes .*; expected rounding"
    ):
        check_model(spec(Streaming(slab), **BOTH))


def test_a_stream_of_too_few_planes_is_named():
    with pytest.raises(PluginError, match=r"stream: raised PluginError: .*returns a tensor of shape"):
        check_model(spec(Streaming(lambda x, sigma, condition: x[:, :, 1:])))


SLICES = {"task": Task.SUPERRES, "factor": (1.5, 6.0)}


def told(x, sigma, condition):
    """Without a gain: that of a slice's middle."""
    gain = 1 if condition.gain is None else condition.gain
    return condition.image / (1 + condition.sigma * gain + 0 * condition.details[3])


@pytest.mark.parametrize(
    "changes", [{}, {"factor": (3.0, 6.0), "noise": (0.0, 0.0)}, {"factor": (40.0, 60.0)}, {"factor": None}]
)
def test_a_model_for_slices_is_given_slices(changes):
    check_model(spec(told, **{**SLICES, **changes}))


def test_a_model_for_slices_is_held_to_its_halo():
    with pytest.raises(PluginError, match=r"differs by .* along axis 2, 1 voxels"):
        check_model(spec(lambda x, s, c: told(x, s, c) * blur(c.image, 5), **SLICES))


def test_a_network_for_slices_passes(tmp_path):
    from tiny import SUPERRES, model_folder

    check_model(read_model_folder(model_folder(tmp_path / "tiny", **SUPERRES)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factor": (1.5, 6.0)}, "factor is .*; expected .* for the task superres"),
        ({"task": Task.SUPERRES, "factor": (6.0, 1.5)}, "factor is"),
        ({"task": Task.SUPERRES, "factor": (0.0, 1.5)}, "factor is"),
        ({"task": Task.SUPERRES, "factor": (1.0, 1.0)}, "factor is .*; expected .* <= high >= 1.2"),
        ({"task": Task.SUPERRES, "intensity": Intensity.RAW}, "intensity is .*; expected p99 or attenuation"),
    ],
)
def test_a_declaration_that_is_none_for_slices_is_refused(changes, message):
    with pytest.raises(PluginError, match=message):
        spec(told, **changes)


def test_a_load_that_fails_and_a_dtype_that_does_not_work_are_named():
    def load(context):
        if context.dtype == "bfloat16":
            raise RuntimeError("no kernel")
        return mean_filter

    with pytest.raises(PluginError, match="with dtype 'bfloat16': load raised RuntimeError: no kernel"):
        check_model(spec(mean_filter, load=load, dtypes=("float32", "bfloat16")))


def in_doubles(x, sigma, condition):
    torch.set_default_dtype(torch.float64)
    return blur(condition.image)


def leaving(x, sigma, condition):
    raise SystemExit(0)


def test_what_is_changed_of_the_process_and_a_way_out_of_it_are_named():
    with pytest.raises(PluginError, match=r"\n  - changes torch's default dtype; expected what belongs"):
        check_model(spec(in_doubles))
    assert torch.get_default_dtype() is torch.float32
    with pytest.raises(PluginError, match="sizes: raised SystemExit: 0"):
        check_model(spec(leaving))
