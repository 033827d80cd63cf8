"""What a model undoes beside the noise is no anatomy in the residual, where its scans' operator is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from plugin_site import GOOD, Site
from scipy import ndimage
from tiny import phantom

import medrestore
from medrestore import Modality, ModelSpec, RestoreOptions, Volume
from medrestore.engine.models.find import declared_operator
from medrestore.errors import ModelError, PluginError
from medrestore.plugin import OperatorSpec
from medrestore.plugin.extensions.operators import DeclaredOperator
from medrestore.plugin.host import plugins
from medrestore.testing import TrialOptions, check_operator, verify
from medrestore.testing.scenes import computed

LEVEL = 0.02


def found(name: str) -> DeclaredOperator:
    return DeclaredOperator(declared_operator(name))


@pytest.fixture
def scan(examples) -> Volume:
    """A head behind the example's blur, and Gaussian noise that leaves negative values."""
    blurred = found("examples/blur").forward(phantom(32), (1.0, 1.0, 1.0))
    sigma = LEVEL * float(np.percentile(blurred, 99))
    noise = sigma * np.random.default_rng(0).standard_normal(blurred.shape)
    return Volume.from_array((blurred + noise).astype(np.float32), np.eye(4), Modality.MR)


def test_the_residual_is_that_of_the_scan_and_the_operator_of_the_result(scan, monkeypatch):
    options = RestoreOptions(model="examples/deblur", noise=f"{100 * LEVEL}%", device="cpu")
    result = medrestore.restore(scan, options)
    assert result.record.noise["operator"] == "examples/blur"
    seen = found("examples/blur").forward(result.volume.array, scan.spacing)
    inside = ndimage.uniform_filter(result.volume.array, 3) > 0.3 * np.percentile(scan.array, 99)
    expected = float(np.std((scan.array - seen)[inside])) / float(result.record.noise["sigma"])
    assert result.record.noise["std_over_sigma"] == pytest.approx(expected, rel=0.05)

    declared = plugins().declared(ModelSpec)
    without = {**declared, "examples/deblur": replace(declared["examples/deblur"], operator=None)}
    monkeypatch.setattr(plugins(), "declared", lambda kind: without if kind is ModelSpec else {})
    plain = medrestore.restore(scan, options).record.noise
    assert plain["operator"] is None
    # Without the operator, the edges that were sharpened stand in the residual.
    assert plain["edge_correlation"] > 0.1 > result.record.noise["edge_correlation"]
    assert plain["std_over_sigma"] > 1 > result.record.noise["std_over_sigma"]


def test_a_trial_shows_a_model_what_its_operator_makes_of_the_truth(examples):
    declared = plugins().declared(ModelSpec)["examples/deblur"]
    scene, plain = computed(declared, 48, 0), computed(replace(declared, operator=None), 48, 0)
    np.testing.assert_array_equal(scene.truth, plain.truth)
    blurred = found("examples/blur").forward(scene.truth, (1.0, 1.0, 1.0))
    left = (scene.scan.array - blurred)[scene.deep]
    assert left.std() == pytest.approx(scene.sigma, rel=0.05)
    assert np.abs(blurred - scene.truth)[scene.deep].max() > scene.sigma


def test_a_blurred_scan_without_noise_is_to_be_reproduced_not_kept(examples):
    declared = plugins().declared(ModelSpec)["examples/deblur"]
    only = TrialOptions(only=("clean",), side=48)
    changes = [
        verify(one, only).outcomes["clean"].figures[1].value
        for one in (declared, replace(declared, operator=None))
    ]
    # A blur that is undone is no change of the scan.
    assert changes[0] < 0.7 * changes[1]


def test_the_record_has_the_version_of_its_plugin(scan):
    record = medrestore.restore(
        scan, RestoreOptions(model="examples/deblur", noise="2%", device="cpu")
    ).record
    assert record.versions["medrestore-examples"] == "0.1.0"


def test_a_model_whose_operator_is_not_there_is_refused(site: Site, scan):
    site.add("lone", GOOD.format(models="[model('blind', operator='nobody/psf', noise=(0, 1))]"))
    with pytest.raises(ModelError, match="no operator is named 'nobody/psf'"):
        medrestore.restore(scan, RestoreOptions(model="lone/blind", device="cpu"))


@pytest.mark.parametrize(
    "changes", ["operator='psf'", "operator='a/b/c'", "operator='a/b', task=Task.SUPERRES"]
)
def test_an_operator_is_named_with_its_plugin_and_for_denoising(site: Site, changes):
    site.add("odd", GOOD.format(models=f"[model({changes})]"))
    (info,) = (one for one in site.manager().plugins if one.name == "odd")
    assert "operator is" in str(info.error)
    assert "expected plugin/name for the task denoise" in str(info.error)


OPERATOR = """
import torch
from medrestore import hookimpl
from medrestore.plugin import OperatorSpec

class Odd:
    def forward(self, image):
        {body}

@hookimpl
def medrestore_operators():
    return [OperatorSpec(name="odd", title="Odd", build=lambda {arguments}: Odd())]
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1 / 0", "operator 'bad/odd': forward raised ZeroDivisionError"),
        (
            "return image[:, :, 1:]",
            r"forward returns a tensor of shape \(1, 1, 3, 4, 4\); expected",
        ),
        ("return image / 0 * 0", "forward returns 64 values that are not finite"),
    ],
)
def test_one_that_breaks_its_contract_is_named(site: Site, body, message):
    site.add("bad", OPERATOR.format(body=body, arguments="shape, spacing"))
    with pytest.raises(PluginError, match=message) as caught:
        found("bad/odd").forward(np.ones((4, 4, 4), dtype=np.float32), (1.0, 1.0, 1.0))
    assert "plugin 'bad' (dist-bad 1.2)" in str(caught.value)


def test_one_of_api_1_is_broken_with_what_to_change(site: Site):
    site.add("old", OPERATOR.format(body="return image", arguments="shape"))
    (info,) = (one for one in site.manager().plugins if one.name == "old")
    assert info.status == "broken"
    assert "expected a function of shape and voxel sizes, (X, Y, Z) and mm; in API 1" in str(info.error)


class Shift:
    """Moves by a voxel; `back` is by how many its adjoint does."""

    def __init__(self, back: int) -> None:
        self.back = back

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.roll(1, dims=2)

    def adjoint(self, measured: torch.Tensor) -> torch.Tensor:
        return measured.roll(self.back, dims=2)


class Squared(Shift):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.square()


class InPlace(Shift):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mul_(1.5)


def test_the_check_takes_an_adjoint_and_sees_what_is_none():
    check_operator(OperatorSpec(name="shift", title="Shift", build=lambda shape, spacing: Shift(-1)))
    for broken, message in (
        (Shift(1), "the adjoint is another's"),
        (Squared(-1), "the adjoint is another's"),
        (InPlace(-1), "forward changes its argument in place"),
    ):
        spec = OperatorSpec(name="odd", title="Odd", build=lambda shape, spacing, one=broken: one)
        with pytest.raises(PluginError, match=message):
            check_operator(spec)
