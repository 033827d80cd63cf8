"""A plugin's sampler draws the samples, by its name; its memory and its evaluations are foreseen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from plugin_site import Site
from tiny import noisy, phantom, save

import medrestore
from medrestore import Modality, RestoreOptions, Volume
from medrestore.batch.settings import Settings
from medrestore.diffusion import SamplerStep
from medrestore.engine import Observers
from medrestore.engine.cost.budget import sampling_volumes
from medrestore.engine.models.find import find_model
from medrestore.engine.sampling.posterior import evaluations, plugin_sampler
from medrestore.errors import ConfigError, PluginError
from medrestore.options import FileOptions

NAME = "examples/dpm2m"


def options(tiny_model: Path, **changes: object) -> RestoreOptions:
    given = {"model": str(tiny_model), "device": "cpu", "sampler": NAME, "samples": 2, "steps": 3}
    return RestoreOptions(**{**given, **changes})  # type: ignore[arg-type]


@pytest.fixture
def scan() -> Volume:
    return Volume.from_array(noisy(phantom(16), 0.05), np.eye(4), Modality.MR)


def test_the_command_draws_with_it_and_the_record_names_it(examples, tiny_model, tmp_path, command):
    scan = save(tmp_path / "scan.nii.gz", noisy(phantom(16), 0.05))
    drawn = ("--samples", 2, "--steps", 3, "--sampler", NAME, "--save-std", "--device", "cpu")
    out = tmp_path / "out.nii.gz"
    status, told, error = command("restore", scan, "-o", out, "--model", tiny_model, *drawn)
    assert status == 0, error
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["settings"]["sampler"] == NAME
    assert record["versions"]["medrestore-examples"] == "0.1.0"
    assert f"2 samples of 3 steps ({NAME})" in told
    assert (tmp_path / "out_std.nii.gz").is_file()


def test_the_same_seed_gives_the_same_and_other_samplers_another(examples, tiny_model, scan):
    def drawn(**changes: object) -> np.ndarray:
        return medrestore.restore(scan, options(tiny_model, output="sample", **changes)).volume.array

    first = drawn()
    assert np.array_equal(first, drawn())
    assert not np.array_equal(first, drawn(sampler="euler"))
    assert not np.array_equal(first, drawn(seed=1))


def test_progress_steps_and_memory_are_those_that_it_declares(examples, tiny_model, scan):
    asked, seen, steps = options(tiny_model), [], []
    watching = Observers(lambda done, total: seen.append(done / total), steps.append)
    medrestore.restore(scan, asked, observers=watching)
    spec = find_model(asked, Modality.MR)[1]
    assert evaluations(asked, spec) == 1 + 2 * 3
    assert seen[-1] == 1.0
    assert [(step.sample, step.index) for step in steps] == [(n, i) for n in range(2) for i in range(3)]
    assert sampling_volumes(NAME) == sampling_volumes("euler") + 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("examples/dpm2n", r"no sampler is named 'examples/dpm2n'; did you mean examples/dpm2m\?"),
        ("nobody/fast", "no sampler is named 'nobody/fast'; known: heun, euler, stochastic, examples/dpm2m"),
    ],
)
def test_a_name_that_no_plugin_has_is_refused_before_anything_runs(examples, tiny_model, scan, name, message):
    with pytest.raises(ConfigError, match=message):
        medrestore.restore(scan, options(tiny_model, sampler=name))
    with pytest.raises(ConfigError, match=message):
        Settings.of(FileOptions(restore=options(tiny_model, sampler=name)))


def test_a_word_that_is_no_sampler_is_refused_without_looking_at_plugins():
    with pytest.raises(ConfigError, match="expected one of heun, euler, stochastic, or plugin/name"):
        RestoreOptions(sampler="huen")


SAMPLER = """
import torch
from medrestore import hookimpl
from medrestore.plugin import SamplerSpec

def sample(denoise, x, levels, draw, on_step):
    {body}

@hookimpl
def medrestore_samplers():
    return [SamplerSpec(name="odd", title="Odd", sample=sample, evaluations=lambda steps: {count})]
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1 / 0", "sampler 'bad/odd': sample raised ZeroDivisionError: division by zero"),
        ("return None", "sample returns NoneType; expected a tensor of shape"),
        ("return x.double()", "sample returns torch.float64; expected float32"),
        ("return x * float('nan')", "sample returns 8 values that are not finite"),
        ("return x.to('meta')", "sample returns a tensor on meta; expected it on cpu"),
        ("import sys; sys.exit(1)", "sample raised SystemExit: 1"),
    ],
)
def test_one_that_breaks_its_contract_is_named(site: Site, body, message):
    site.add("bad", SAMPLER.format(body=body, count="steps"))
    x = torch.zeros(1, 1, 2, 2, 2)
    with pytest.raises(PluginError, match=message) as caught:
        plugin_sampler("bad/odd")(lambda x, sigma: x, x, (1.0, 0.0), torch.zeros)
    assert "plugin 'bad' (dist-bad 1.2)" in str(caught.value)


def test_samples_in_one_buffer_are_told_apart(site: Site):
    start = "import torch\nBUFFER = torch.empty(1, 1, 2, 2, 2)\n"
    site.add("odd", start + SAMPLER.format(body="return BUFFER.copy_(x)", count="steps"))
    draw = plugin_sampler("odd/odd")
    states = (torch.full((1, 1, 2, 2, 2), value) for value in (1.0, 2.0))
    one, two = (draw(lambda x, sigma: x, x, (1.0, 0.0), torch.zeros) for x in states)
    assert (one.mean(), two.mean()) == (1, 2)


@pytest.mark.parametrize("count", ["1.5", "0", "None", "1 / 0"])
def test_evaluations_are_a_number(site: Site, count):
    site.add("bad", SAMPLER.format(body="return x", count=count))
    with pytest.raises(PluginError, match="sampler 'bad/odd': evaluations r"):
        plugin_sampler("bad/odd").evaluations(10)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), PluginError("the model's own")])
def test_what_fails_in_the_model_is_not_the_samplers_even_if_it_hides_it(site: Site, error):
    hiding = "try:\n        return denoise(x, 1.0)\n    except BaseException:\n        return x"
    site.add("good", SAMPLER.format(body="return denoise(x, 1.0)", count="steps"))
    site.add("hiding", SAMPLER.format(body=hiding, count="steps"))

    def failing(x, sigma):
        raise error

    x = torch.zeros(1, 1, 2, 2, 2)
    for name in ("good/odd", "hiding/odd"):
        with pytest.raises(type(error)) as caught:
            plugin_sampler(name)(failing, x, (1.0, 0.0), torch.zeros)
        assert caught.value is error


def test_what_hears_of_steps_is_given_steps_alone(site: Site):
    told = "on_step(None); on_step(SamplerStep(0, 1.0, x, x)); return x"
    start = "from medrestore.diffusion import SamplerStep\n"
    site.add("odd", start + SAMPLER.format(body=told, count="steps"))
    heard: list[SamplerStep] = []
    plugin_sampler("odd/odd")(
        lambda x, sigma: x, torch.zeros(1, 1, 2, 2, 2), (1.0, 0.0), torch.zeros, heard.append
    )
    assert [step.index for step in heard] == [0]
