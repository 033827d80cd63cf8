"""A plugin's estimator sets the noise level where it is named, and the record says so."""

from __future__ import annotations

import json

import numpy as np
import pytest
from plugin_site import Site
from tiny import SUPERRES, model_folder, noisy, phantom, save

import medrestore
from medrestore import Modality, RestoreOptions, Volume
from medrestore.batch.settings import Settings
from medrestore.errors import ConfigError, PluginError
from medrestore.options import FileOptions

NAME = "examples/immerkaer"

ESTIMATOR = """
from medrestore import hookimpl
from medrestore.plugin import NoiseEstimatorSpec

def estimate(array, spacing):
    {body}

@hookimpl
def medrestore_noise_estimators():
    return [NoiseEstimatorSpec(name="odd", title="Odd", estimate=estimate)]
"""


def head(spacing: tuple[float, float, float] = (1, 1, 1)) -> Volume:
    return Volume.from_array(noisy(phantom(24), 0.05), np.diag([*spacing, 1]), Modality.MR)


def test_the_command_takes_its_level_and_the_record_names_it(examples, tiny_model, tmp_path, command):
    scan = save(tmp_path / "scan.nii.gz", noisy(phantom(24), 0.05))
    out = tmp_path / "out.nii.gz"
    named = ("--model", tiny_model, "--noise", NAME, "--device", "cpu")
    status, told, error = command("restore", scan, "-o", out, *named)
    assert status == 0, error
    record = json.loads((tmp_path / "out.json").read_text())
    truth = 0.05 * float(np.percentile(phantom(24), 99))
    assert record["noise"]["sigma"] == pytest.approx(truth, rel=0.25)
    assert record["noise"]["method"] == f"given by {NAME}"
    assert record["settings"]["noise"] == NAME
    assert record["versions"]["medrestore-examples"] == "0.1.0"
    assert f"(given by {NAME})" in told


def test_it_is_given_the_voxels_as_they_are_and_taken_at_its_word(site: Site, tiny_model):
    body = "assert array.shape == (24, 24, 24) and spacing == (1.25, 1.0, 0.75); return 7.0"
    site.add("mine", ESTIMATOR.format(body=body))
    options = RestoreOptions(model=str(tiny_model), noise="mine/odd", device="cpu")
    record = medrestore.restore(head((1.25, 1.0, 0.75)), options).record
    stated = medrestore.restore(head((1.25, 1.0, 0.75)), RestoreOptions(**{**vars(options), "noise": 7.0}))
    assert record.noise["sigma"] == 7.0
    assert {**record.noise, "method": "given"} == stated.record.noise


def test_slices_take_it_too(site: Site, tmp_path):
    site.add("mine", ESTIMATOR.format(body="return 0.5"))
    model = str(model_folder(tmp_path / "sr", **SUPERRES))
    options = RestoreOptions(model=model, noise="mine/odd", device="cpu")
    record = medrestore.restore(head((1, 1, 2)), options).record
    assert (record.noise["sigma"], record.noise["method"]) == (0.5, "given by mine/odd")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1 / 0", "noise estimator 'bad/odd': estimate raised ZeroDivisionError"),
        ("return float('nan')", "estimate returned nan; expected a standard deviation, a finite number"),
        ("return -1.0", "estimate returned -1.0; expected"),
        ("return 10**400", "estimate raised OverflowError"),
        ("return array", r"estimate returned array"),
        ("array[:] = 0; return 1.0", "estimate raised ValueError: assignment destination is read-only"),
        (
            "import torch; torch.from_numpy(array).zero_(); return 1.0",
            "noise estimator 'bad/odd': estimate changes array in place; expected what it is given as it was",
        ),
    ],
)
def test_one_that_breaks_its_contract_is_named(site: Site, tiny_model, body, message):
    site.add("bad", ESTIMATOR.format(body=body))
    scan = head()
    with pytest.raises(PluginError, match=message) as caught:
        medrestore.restore(scan, RestoreOptions(model=str(tiny_model), noise="bad/odd", device="cpu"))
    assert np.array_equal(scan.array, head().array)
    assert "plugin 'bad' (dist-bad 1.2)" in str(caught.value)


def test_a_name_that_no_plugin_has_is_refused_before_anything_runs(examples, tiny_model):
    options = RestoreOptions(model=str(tiny_model), noise="examples/immerker", device="cpu")
    message = "no noise estimator is named 'examples/immerker'; did you mean examples/immerkaer"
    with pytest.raises(ConfigError, match=message):
        medrestore.restore(head(), options)
    with pytest.raises(ConfigError, match=message):
        Settings.of(FileOptions(restore=options))
