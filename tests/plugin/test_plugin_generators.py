"""Volumes of noise: the right distribution and grid, the same for the same seed, and marked as made."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from plugin_site import Site

import medrestore
from medrestore import GenerateOptions
from medrestore.engine import Observers
from medrestore.engine.generate import Grid, generate
from medrestore.errors import ConfigError, PluginError
from medrestore.provenance import sha256_file

GENERATOR = """
import torch
from medrestore import Modality, hookimpl
from medrestore.diffusion import Condition
from medrestore.plugin import GeneratorSpec, Stage

MEAN, FIRST, SECOND = 5.0, 0.5, 0.2

def gaussian(deviation):
    '''The expected value where volumes are a baseline and white noise of a deviation.'''
    def denoiser(x, sigma, condition):
        weight = deviation**2 / (deviation**2 + sigma**2)
        return weight * x + (1 - weight) * condition.image
    return denoiser

def stages(context):
    return [
        Stage(denoiser=gaussian(FIRST), levels=(20.0, 0.01), spacing_mm=8.0, multiple=4,
              condition=lambda baseline, spacing: Condition(torch.full_like(baseline, MEAN), FIRST)),
        Stage(denoiser=gaussian(SECOND), levels=(10.0, 0.01), multiple=8,
              condition=lambda baseline, spacing: Condition(baseline, SECOND)),
    ]

@hookimpl
def medrestore_generators():
    return [GeneratorSpec(name="toy", title="Toy", modality=Modality.MR, licence="MIT", reference="none",
        spacing_mm=(1.0, 4.0), field_mm=(64.0, 96.0, 80.0), load={load}, scale=100.0)]
"""


@pytest.fixture
def toy(site: Site) -> Site:
    site.add("toys", GENERATOR.format(load="stages"))
    return site


def made(**options: object) -> medrestore.Volume:
    return next(generate("toys/toy", GenerateOptions(**options))).volume  # type: ignore[arg-type]


def test_samples_are_distributed_as_the_denoisers_say(toy):
    volume = made(spacing=2.0, steps=30)
    assert volume.shape == (32, 48, 40)
    # Four fine voxels lie along each coarse one: what the fine stage added is white, the rest is smooth.
    fine = np.asarray(volume.array, dtype=np.float64) / 100
    jump = np.diff(fine, n=2, axis=0)[:, ::4] / np.sqrt(6)
    assert jump.std() == pytest.approx(0.2, rel=0.08)
    coarse = fine.reshape(8, 4, 12, 4, 10, 4).mean(axis=(1, 3, 5))
    assert coarse.mean() == pytest.approx(5.0, abs=0.05)
    # Half way to a neighbour's border, linear interpolation keeps 3/4 and 1/4 of two voxels along each axis.
    whole = next(generate("toys/toy", GenerateOptions(spacing=4.0, steps=30, seed=3))).volume
    assert whole.array[1:-1, 1:-1, 1:-1].std() / 100 == pytest.approx(
        np.hypot(0.2, 0.5 * (0.75**2 + 0.25**2) ** 1.5), rel=0.06
    )


def test_one_name_of_two_plugins_needs_the_plugin(toy):
    toy.add("more_toys", GENERATOR.format(load="stages"))
    with pytest.raises(ConfigError, match=r"the generator 'toy' is ambiguous: .*/toy, .*/toy; pass one of"):
        next(generate("toy", GenerateOptions(steps=4)))


@pytest.mark.parametrize("sampler", ["euler", "heun", "stochastic"])
def test_the_same_seed_makes_the_same_and_each_volume_is_its_own(toy, sampler):
    two = [one.volume.array for one in generate("toy", GenerateOptions(count=2, steps=4, sampler=sampler))]
    assert np.array_equal(two[0], made(steps=4, sampler=sampler))
    assert np.corrcoef(two[0].ravel(), two[1].ravel())[0, 1] < 0.2
    assert not np.array_equal(two[0], made(steps=4, sampler=sampler, seed=1))


def test_the_grid_lies_around_zero_and_a_part_of_the_field_is_its_middle(toy):
    volume = made(shape="21,48,17", spacing=2.0, steps=4)
    assert volume.shape == (21, 48, 17)
    assert volume.spacing == pytest.approx((2.0, 2.0, 2.0))
    middle = (np.array(volume.shape) - 1) / 2
    assert volume.geometry.affine @ [*middle, 1] == pytest.approx([0, 0, 0, 1], abs=1e-9)


def test_interpolation_between_stages_keeps_places():
    grid = Grid((10, 12, 9), 1.5, 8)
    coarse = torch.stack(
        torch.meshgrid(*((torch.arange(n) - (n - 1) / 2) * 4.0 for n in (12, 14, 16)), indexing="ij")
    )
    found = torch.cat([grid.middle(grid.resampled(axis[None, None], 4.0)) for axis in coarse])[:, 0]
    for axis, n in enumerate((10, 12, 9)):
        places = found[axis].movedim(axis, 0).flatten(1)
        expected = (torch.arange(n) - (n - 1) / 2) * 1.5
        assert torch.allclose(places, expected[:, None].expand_as(places), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing": 0.5}, "spacing is 0.5 mm; the generator 'toy' makes voxels of 1 to 4 mm"),
        ({"shape": (33, 8, 8), "spacing": 2.0}, "shape is 33,8,8 at 2 mm; .* holds 32,48,40 of such voxels"),
    ],
)
def test_what_a_generator_cannot_make_is_refused(toy, options, message):
    with pytest.raises(ConfigError, match=message):
        made(**options)


@pytest.mark.parametrize(
    "options", [{"shape": "8,8"}, {"shape": "8,8,0"}, {"count": 0}, {"steps": 0}, {"spacing": -1.0}]
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        GenerateOptions(**options)


def test_a_name_that_nothing_has_is_refused(toy):
    with pytest.raises(ConfigError, match=r"no generator is named 'toys/tot'; did you mean toys/toy\?"):
        next(generate("toys/tot"))


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ("lambda context: []", "load returned .*expected a sequence of medrestore.plugin.Stage"),
        ("lambda context: stages(context)[:1]", "stage 0: spacing_mm is 8.0; expected mm, and None for the"),
        ("lambda context: [Stage(**{**vars(stages(context)[1]), 'levels': (0.1, 1.0)})]", "levels are"),
        (
            "lambda context: [Stage(**{**vars(stages(context)[1]), 'denoiser': lambda x, *_: x / 0})]",
            "the denoiser returns 61440 values that are not finite",
        ),
        (
            "lambda context: [Stage(**{**vars(stages(context)[1]), 'condition': lambda b, s: b})]",
            "condition returned Tensor; expected a medrestore.diffusion.Condition",
        ),
        (
            "lambda context: [Stage(**{**vars(stages(context)[1]), 'levels': 1.0})]",
            "levels are 1.0; expected",
        ),
        ("lambda context: [Stage(**{**vars(stages(context)[1]), 'levels': None})]", "levels are None; exp"),
        (
            "lambda context: [Stage(**{**vars(s), 'spacing_mm': s.spacing_mm and 500.0})"
            " for s in stages(context)]",
            "stage 0: spacing_mm is 500; expected a voxel in each axis of the 64 x 96 x 80 mm at least",
        ),
        ("lambda context: 1 / 0", "load raised ZeroDivisionError"),
    ],
)
def test_a_generator_that_breaks_its_contract_is_named(site, load, message):
    site.add("bad", GENERATOR.format(load=load))
    with pytest.raises(PluginError, match=message) as caught:
        next(generate("bad/toy", GenerateOptions(spacing=2.0)))
    assert "plugin 'bad' (dist-bad 1.2), generator 'bad/toy'" in str(caught.value)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (
            'Condition(b, "1")',
            r"condition returned a Condition whose sigma is '1'; expected a number, 0 or more",
        ),
        (
            "Condition(b, -1.0)",
            r"condition returned a Condition whose sigma is -1.0; expected a number, 0 or more",
        ),
        ("Condition(b, 1.0, gain=[1])", r"a Condition whose gain is list; expected a tensor of shape"),
        (
            "Condition(b, 1.0, gain=b[:, :, :2])",
            r"a Condition whose gain is a tensor of shape \(1, 1, 2, 48, 40\); expected",
        ),
        ("Condition(b * float('nan'), 1.0)", r"a Condition whose image is 61440 values that are not finite"),
        ("Condition(b.to('meta'), 1.0)", r"a Condition whose image is a tensor on meta; expected it on cpu"),
        (
            "Condition(b, 1.0, details=('x',))",
            r"a Condition whose details are \('x',\); expected a tuple of finite",
        ),
    ],
)
def test_a_condition_that_is_none_is_named(site, condition, message):
    load = f"lambda context: [Stage(**{{**vars(stages(context)[1]), 'condition': lambda b, s: {condition}}})]"
    site.add("bad", GENERATOR.format(load=load))
    with pytest.raises(PluginError, match=message) as caught:
        next(generate("bad/toy", GenerateOptions(spacing=2.0, steps=2)))
    assert "plugin 'bad' (dist-bad 1.2), generator 'bad/toy'" in str(caught.value)


def test_progress_and_steps_are_told(toy):
    seen, steps = [], []
    watching = Observers(lambda done, total: seen.append((done, total)), steps.append)
    result = next(generate("toys/toy", GenerateOptions(steps=3, spacing=4.0), observers=watching))
    coarse, fine = 8 * 12 * 12, 16 * 24 * 24  # sizes are multiples of 4 and of 8
    total = 6 * (coarse + fine)  # what is expected, and Heun evaluates 5 times in 3 steps
    assert [done for done, _ in seen] == [n * coarse for n in range(1, 7)] + [
        6 * coarse + n * fine for n in range(1, 7)
    ]
    assert {whole for _, whole in seen} == {total}
    assert [(one.sample, one.index) for one in steps] == [(0, 0), (0, 1), (0, 2)]
    assert np.array_equal(steps[-1].state.array, result.volume.array)


def test_every_file_says_that_it_is_synthetic_and_goes_on_saying_it(toy, tmp_path):
    volume = made(steps=2, spacing=4.0)
    medrestore.write(volume, tmp_path / "made.nii.gz")
    again = medrestore.read(tmp_path / "made.nii.gz")
    medrestore.write(again, tmp_path / "again.nii")
    for name in ("made.nii.gz", "again.nii"):
        descrip = bytes(nib.load(tmp_path / name).header["descrip"].item())
        assert descrip.startswith(b"medrestore: SYNTHETIC"), name
    assert [entry["code"] for entry in again.source.details["findings"]] == ["synthetic"]
    plain = medrestore.Volume.from_array(np.ones((4, 4, 4), np.float32))
    medrestore.write(plain, tmp_path / "plain.nii")
    assert bytes(nib.load(tmp_path / "plain.nii").header["descrip"].item()) == b"medrestore"


def test_the_record_holds_what_makes_it_again(toy):
    result = next(generate("toys/toy", GenerateOptions(steps=3, spacing=4.0, seed=7)))
    record = json.loads(result.record.to_json())
    assert record["model"]["name"] == "toys/toy"
    assert record["seed"] == 7
    assert record["settings"]["shape"] == [16, 24, 20]
    assert record["settings"]["index"] == 0
    assert record["versions"]["dist-toys"] == "1.2"
    assert [finding["code"] for finding in record["findings"]] == ["synthetic"]


def test_the_command_writes_files_with_their_records(toy, command, tmp_path):
    few = ("--steps", 2, "--shape", "8,9,7", "--spacing", 4)
    steps = tmp_path / "steps"
    out = tmp_path / "one.nii.gz"
    status, _, error = command("generate", "toys/toy", "-o", out, *few, "--save-trajectory", steps)
    assert status == 0, error
    record = json.loads((tmp_path / "one.json").read_text())
    assert record["output"]["sha256"] == sha256_file(out)
    assert nib.load(out).shape == (8, 9, 7)
    assert len(list(steps.glob("*_estimate.nii.gz"))) == 2
    status, _, error = command("generate", "toy", "-o", tmp_path, *few, "--count", 2, "--seed", 5)
    assert status == 0, error
    assert {path.name for path in tmp_path.glob("toy_*")} == {
        f"toy_seed5_{index:03}.{ending}" for index in (0, 1) for ending in ("nii.gz", "json")
    }


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("one.mha", (), "the name does not end in .nii or .nii.gz"),
        ("one.nii.gz", ("--count", 2), "2 volumes are asked for; pass a folder that exists"),
        ("there.nii.gz", (), "exists already; pass --overwrite"),
        ("record.nii.gz", (), "record.json: exists already"),
        ("nowhere/one.nii.gz", (), "does not exist; make it first"),
    ],
)
def test_names_are_checked_before_anything_runs(toy, command, tmp_path, name, more, message):
    for taken in ("there.nii.gz", "record.json"):
        (tmp_path / taken).write_text("mine")
    status, _, error = command("generate", "toys/toy", "-o", tmp_path / name, *more)
    assert status == 2
    assert message in error
    assert (tmp_path / "there.nii.gz").read_text() == (tmp_path / "record.json").read_text() == "mine"
