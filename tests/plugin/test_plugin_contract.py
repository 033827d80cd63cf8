"""A model of a plugin is held to its contract while it is loaded and while it runs."""

from __future__ import annotations

import json
import math
import os
import re

import numpy as np
import pytest
import torch
from plugin_site import GOOD, Site
from tiny import CommandLine, model_folder, noisy, phantom, save

import medrestore
from medrestore.diffusion import Condition
from medrestore.engine import RestoreOptions, load_model
from medrestore.engine.sampling.tiled_denoiser import StreamedDenoiser, TiledDenoiser
from medrestore.errors import ModelError, PluginError, is_out_of_memory
from medrestore.networks.fold import unfold
from medrestore.plugin import LoadContext
from medrestore.plugin.containment import describe
from medrestore.plugin.contract import ContractDenoiser, load_denoiser
from medrestore.plugin.host import plugins

ORIGIN = "plugin 'bad' (dist-bad 1.2), model 'bad/smooth'"

MODEL = f"""
import os, sys
{GOOD.format(models="[model(load=load, halo=0)]")}
def load(context):
    import torch
    def denoise(x, sigma, condition):
        BODY
    return denoise
"""
BODY_LINE = MODEL.splitlines().index("        BODY") + 1


def plugin(site: Site, body: str) -> None:
    """Install the plugin `bad` with a denoiser of this body."""
    site.add("bad", MODEL.replace("BODY", body.replace("\n", "\n        ")))


@pytest.fixture
def cli(monkeypatch, capsys):
    plugins.cache_clear()
    yield CommandLine(monkeypatch, capsys)
    plugins.cache_clear()


@pytest.fixture
def scan(tmp_path):
    (tmp_path / "out").mkdir()
    return save(tmp_path / "head_T1w.nii.gz", noisy(phantom(24), 0.05))


BROKEN = {
    "zero": ("x.zero_()\nreturn x", "changes condition.image in place; expected what it is given as it was"),
    "view": ("x.numpy()[0, 0, 0, 0, 0] += 1\nreturn x.clone()", "changes condition.image in place"),
    "data": ("condition.image.data.mul_(2)\nreturn x.clone()", "changes condition.image in place"),
    "resized": ("x.resize_(0)\nreturn condition.image", "changes condition.image in place"),
    "exit": (
        "sys.exit(0)",
        rf"the denoiser raised SystemExit: 0 \(.*plugin_.*\.py:{BODY_LINE}\); expected an estimate of",
    ),
    "nan": (
        "y = x.clone()\ny[..., :2] = float('nan')\nreturn y",
        r"returns 1152 values that are not finite on \(1, 1, 24, 24, 24\)",
    ),
    "infinite": ("return x / 0", "returns 13824 values that are not finite"),
    "shape": (
        "return x[..., 1:]",
        r"returns a tensor of shape \(1, 1, 24, 24, 23\); expected .* \(1, 1, 24, 24, 24\)",
    ),
    "nothing": ("return None", "returns NoneType; expected a tensor of shape"),
    "array": ("return x.numpy()", "returns ndarray; expected a tensor of shape"),
    "double": ("return x.double()", "returns torch.float64; expected float32"),
    "elsewhere": ("return x.to('meta')", "returns a tensor on meta; expected it on cpu, as what it is given"),
    "sparse": ("return x.to_sparse()", "raised NotImplementedError"),
    "raises": (
        "return torch.zeros(2) @ torch.zeros(3)",
        rf"raised RuntimeError: .* \(.*plugin_.*\.py:{BODY_LINE}\)",
    ),
    "cancelled": ("import asyncio\nraise asyncio.CancelledError", "raised asyncio.*CancelledError"),
    "stopped": ("raise StopIteration", "raised StopIteration"),
    "unprintable": (
        "class Odd(Exception):\n    def __str__(self):\n        raise OSError\nraise Odd",
        "raised .*Odd: <exception str",
    ),
    "blames": (
        "from medrestore.errors import InputError\nraise InputError('a bad scan')",
        "the denoiser raised a bad scan; expected an estimate",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_model_that_breaks_its_contract_is_named_and_writes_nothing(site, cli, scan, name):
    body, message = BROKEN[name]
    plugin(site, body)
    out = scan.parent / "out" / "out.nii.gz"
    status, _, said = cli("restore", scan, "-o", out, "--model", "bad/smooth", "-q")
    assert status == 2
    assert list(out.parent.iterdir()) == []
    assert said.startswith(f"medrestore: {ORIGIN}: "), said
    assert "Traceback" not in said
    assert "the scan is not the cause" in said
    assert "before restoring" not in said
    assert re.search(message, said), said


def test_what_was_raised_is_the_cause(site):
    denoiser = ContractDenoiser(lambda x, sigma, condition: 1 / 0, ORIGIN)
    with pytest.raises(PluginError, match="ZeroDivisionError") as caught:
        denoiser(*arguments())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def arguments(side: int = 6, gain: bool = False) -> tuple[torch.Tensor, float, Condition]:
    shape = (1, 1, side, side, side)
    image = torch.linspace(0, 1, side**3).reshape(shape)
    return image, math.inf, Condition(image, 0.1, torch.ones(shape) if gain else None)


def raising(error: BaseException):
    def denoise(x, sigma, condition):
        raise error

    return ContractDenoiser(denoise, ORIGIN)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    ],
)
def test_want_of_memory_stays_what_it_is(error):
    assert is_out_of_memory(error)
    with pytest.raises(type(error)) as caught:
        raising(error)(*arguments())
    assert caught.value is error


def test_the_user_can_interrupt():
    with pytest.raises(KeyboardInterrupt):
        raising(KeyboardInterrupt())(*arguments())


@pytest.mark.parametrize("what", ["x", "condition.image", "condition.gain"])
def test_a_change_is_named_and_reaches_nothing_of_the_caller(what):
    scan, sigma, condition = arguments(gain=True)
    state = scan + 1

    def denoise(x, sigma, condition):
        changed = {"x": x, "condition.image": condition.image, "condition.gain": condition.gain}[what]
        changed.zero_()
        return x + 1

    before = (state.clone(), scan.clone())
    with pytest.raises(PluginError, match=f"the denoiser changes {what} in place"):
        ContractDenoiser(denoise, ORIGIN)(state, sigma, condition)
    assert torch.equal(state, before[0])
    assert torch.equal(scan, before[1])
    assert bool((condition.gain == 1).all())


def test_the_state_of_the_mean_is_the_scan_for_the_model_too():
    seen = []
    ContractDenoiser(lambda x, s, c: seen.append(x is c.image) or x + 1, ORIGIN)(*arguments())
    assert seen == [True]


def test_no_gradient_graph_is_kept_and_a_model_may_use_gradients():
    weight = torch.nn.Parameter(torch.ones(()))
    modes = []

    def denoise(x, sigma, condition):
        modes.append(torch.is_grad_enabled())
        with torch.enable_grad():
            guided = (weight * x).square()
            (slope,) = torch.autograd.grad(guided.sum(), weight, retain_graph=True)
            assert float(slope) > 0
            return guided

    result = ContractDenoiser(denoise, ORIGIN)(*arguments())
    assert modes == [False]
    assert not result.requires_grad
    assert torch.is_grad_enabled()


def test_what_a_model_changes_of_the_process_does_not_reach_the_next():
    seen = []

    def denoise(x, sigma, condition):
        seen.append((torch.get_default_dtype(), torch.is_grad_enabled(), os.environ.get("ODD")))
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(True)
        os.environ["ODD"] = "1"
        return x + 1

    denoiser = ContractDenoiser(denoise, ORIGIN)
    for _ in range(2):
        denoiser(*arguments())
    assert seen == [(torch.float32, False, None)] * 2
    assert torch.get_default_dtype() is torch.float32


# --- loading ---------------------------------------------------------------------------------------------


class Spec:
    """As much of a `ModelSpec` as loading looks at."""

    def __init__(self, load) -> None:
        self.load = load


def failing(error: BaseException):
    def load(context):
        raise error

    return load


@pytest.mark.parametrize(
    ("load", "kind", "message"),
    [
        (failing(OSError("no such file")), PluginError, "load raised OSError: no such file"),
        (failing(SystemExit(0)), PluginError, "load raised SystemExit: 0"),
        (failing(ModelError("w.pt: other weights")), ModelError, r"model 'bad/smooth': w\.pt: other weights"),
        (failing(MemoryError("2 GiB")), MemoryError, "2 GiB"),
        (lambda context: None, PluginError, "load returned NoneType; expected a function of x"),
    ],
)
def test_loading_is_held_to_its_contract_too(load, kind, message):
    with pytest.raises(kind, match=message) as caught:
        load_denoiser(Spec(load), LoadContext(), ORIGIN)
    assert str(caught.value).startswith(ORIGIN) or kind is MemoryError


def test_loading_leaves_the_process_as_it_was():
    def load(context):
        torch.set_default_dtype(torch.float64)
        return print

    load_denoiser(Spec(load), LoadContext(), ORIGIN)
    assert torch.get_default_dtype() is torch.float32


def test_a_folder_is_named_where_its_model_fails(tmp_path):
    folder = model_folder(tmp_path / "tiny")
    held = load_model(RestoreOptions(model=str(folder)))
    held.denoiser.denoiser.network = lambda inputs, levels: torch.full_like(inputs[:, :1], math.nan)
    image, sigma, condition = arguments(8)
    with pytest.raises(
        PluginError, match=f"^model folder {folder}: the denoiser returns 512 values that are"
    ):
        held.denoiser(image, sigma, condition)


# --- streams ---------------------------------------------------------------------------------------------


class Stream:
    """A denoiser that returns what it is given, slab by slab; `spoil` is called with each slab."""

    streams = True

    def __init__(self, spoil=lambda slab, number: slab, more=()) -> None:
        self.spoil = spoil
        self.more = more

    def __call__(self, x, sigma, condition):
        return condition.image + 0

    def stream(self, parts, sigma, total):
        for number, (x, _) in enumerate(parts):
            yield self.spoil(x, number)
        yield from self.more


def through(stream: object, rows: int = 8) -> torch.Tensor:
    """Return what a stream makes of a volume."""
    image = torch.linspace(0, 1, 40 * 16).reshape(1, 1, 40, 4, 4)
    tiled = StreamedDenoiser(ContractDenoiser(stream, ORIGIN), 2**31, 0, 1)
    assert torch.equal(image, torch.linspace(0, 1, 40 * 16).reshape(1, 1, 40, 4, 4))
    return tiled(image, math.inf, Condition(image, 0.1))


def test_a_stream_that_keeps_its_contract_passes():
    assert torch.equal(through(Stream()), torch.linspace(0, 1, 40 * 16).reshape(1, 1, 40, 4, 4))


def leave(slab, number):
    raise SystemExit


def stopped(parts, sigma, total):
    yield next(iter(parts))[0]


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (Stream(lambda slab, n: slab.mul_(2)), "changes condition.image in place"),
        (Stream(lambda slab, n: slab.mul_(2) if n == 2 else slab + 0), "changes condition.image in place"),
        (Stream(lambda slab, n: slab / 0), "returns 256 values that are not finite"),
        (
            Stream(lambda slab, n: slab[:, :, 1:]),
            r"of shape \(1, 1, 15, 4, 4\); expected .*\(1, 1, 16, 4, 4\)",
        ),
        (Stream(leave), "stream raised SystemExit"),
        (Stream(more=[torch.zeros(1, 1, 8, 4, 4)]), "returns more than the 40 planes"),
        (Stream(lambda slab, n: None), "returns 0 planes; expected 40"),
    ],
)
def test_a_stream_that_breaks_its_contract_is_named(stream, message):
    with pytest.raises(PluginError, match=message) as caught:
        through(stream)
    assert str(caught.value).startswith(ORIGIN)


def test_a_stream_that_ends_early_is_named():
    stream = Stream()
    stream.stream = stopped
    with pytest.raises(PluginError, match="returns 16 planes; expected 40"):
        through(stream)


class Swallowing(Stream):
    """A stream that does not mind what its parts raise."""

    def stream(self, parts, sigma, total):
        try:
            yield next(iter(parts))[0]
        except Exception:  # noqa: BLE001 - what is tried
            yield torch.zeros(1, 1, 2, 2, 2)


@pytest.mark.parametrize("stream", [Stream(), Swallowing()])
@pytest.mark.parametrize("error", [OSError("disk"), MemoryError(), KeyboardInterrupt()])
def test_what_fails_on_the_side_of_the_caller_stays_what_it_is(stream, error):
    def parts():
        raise error
        yield

    with pytest.raises(type(error)) as caught:
        list(ContractDenoiser(stream, ORIGIN).stream(parts(), math.inf, 2))
    assert caught.value is error


def test_whether_it_streams_is_asked_with_care():
    class Odd:
        @property
        def streams(self):
            raise SystemExit(0)

    with pytest.raises(PluginError, match="streams raised SystemExit"):
        _ = ContractDenoiser(Odd(), ORIGIN).streams


# --- shipped models --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [TiledDenoiser, StreamedDenoiser])
def test_the_result_of_a_model_is_the_same_with_and_without(tmp_path, kind):
    held = load_model(RestoreOptions(model=str(model_folder(tmp_path / "tiny")))).denoiser
    assert isinstance(held, ContractDenoiser)
    assert held.streams
    image = torch.from_numpy(noisy(phantom(24), 0.05) / np.float32(800))[None, None]
    condition = Condition(image, 0.05, 1 + 0.2 * torch.linspace(0, 1, 24).expand(image.shape))
    found = [kind(denoiser, 2**31, 8, 2)(image, math.inf, condition) for denoiser in (held, held.denoiser)]
    assert torch.equal(*found)


def test_a_plugin_of_doubles_does_not_reach_another_model(site, cli, scan, tmp_path):
    plugin(site, "torch.set_default_dtype(torch.float64)\nreturn x + 0")
    volume, other = medrestore.read(scan), RestoreOptions(model=str(model_folder(tmp_path / "tiny")))
    before = medrestore.restore(volume, other).volume.array
    medrestore.restore(volume, RestoreOptions(model="bad/smooth"))
    assert np.array_equal(medrestore.restore(volume, other).volume.array, before)


def test_what_a_plugin_calls_of_the_host_is_not_where_it_failed():
    """A page of `verify` would quote where medrestore is installed, and no line of the plugin's."""
    with pytest.raises(AttributeError) as raised:
        unfold(None)
    assert re.search(r"\(\S*test_plugin_contract\.py:\d+\)$", describe(raised.value))


def test_what_a_model_on_trial_prints_does_not_come_into_the_json(site: Site, command):
    load = "def load(context):\n    print('loud')\n    return lambda x, sigma, c: c.image\n"
    site.add("loud", load + GOOD.format(models="[model(load=load)]"))
    _, told, error = command("verify", "loud/smooth", "--only", "contract", "--json")
    assert "loud" in error
    assert [check["check"] for check in json.loads(told)["checks"]] == ["contract"]
