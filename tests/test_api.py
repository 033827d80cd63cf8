"""`medrestore.restore`: whatever holds a scan is taken, and nothing around the call changes the result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from tiny import model_folder, noisy, phantom, save

import medrestore
from medrestore import Modality, RestoreOptions, Volume, restore
from medrestore.engine import load_model
from medrestore.errors import ConfigError, GeometryError, InputError
from medrestore.io import reading_findings

AFFINE = np.diag([1.0, 1.0, 1.2, 1.0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def model(folder):
    return load_model(RestoreOptions(model=folder, device="cpu"))


@pytest.fixture(scope="module")
def array():
    return noisy(phantom(24), 0.05)


@pytest.fixture(scope="module")
def expected(array, model):
    return restore(Volume.from_array(array, AFFINE, Modality.MR), model=model).volume


def same(result: medrestore.Restoration, expected: Volume) -> bool:
    assert result.volume.geometry.allclose(expected.geometry)
    return np.array_equal(result.volume.array, expected.array)


def test_a_path_an_array_and_images_are_restored_as_the_volume_is(array, model, expected, tmp_path):
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "scan.nii.gz")
    path = tmp_path / "scan.nii.gz"
    for scan in (path, str(path), nib.load(path), nib.Nifti1Image(array, AFFINE)):
        result = restore(scan, modality="mr", model=model)
        assert same(result, expected)
        assert result.volume.modality is Modality.MR
    for scan in (array, torch.from_numpy(array)):
        assert same(restore(scan, affine=AFFINE.tolist(), modality="Mr", model=model), expected)


def test_an_image_of_simpleitk_is_restored_as_the_volume_is(array, model, expected):
    pytest.importorskip("SimpleITK", reason="needs SimpleITK, which is no dependency")
    image = Volume.from_array(array, AFFINE).to_sitk()
    result = restore(image, modality="MR", model=model)
    assert same(result, expected)
    assert result.volume.to_sitk().GetSize() == image.GetSize()


def test_a_reference_may_be_whatever_a_scan_may_be(array, model, tmp_path):
    clean = phantom(24)
    nib.save(nib.Nifti1Image(clean, AFFINE), tmp_path / "clean.nii")
    scan = Volume.from_array(array, AFFINE, "mr")
    scores = [
        restore(scan, model=model, reference=reference).metrics["result"]["psnr"].value
        for reference in (clean, tmp_path / "clean.nii", Volume.from_array(clean, AFFINE))
    ]
    assert scores[0] > 20
    assert len(set(scores)) == 1
    with pytest.raises(GeometryError, match="another grid"):
        restore(scan, model=model, reference=clean[1:])


@pytest.mark.parametrize(
    ("scan", "more", "words"),
    [
        (None, {}, "a scan of type NoneType; expected a path, an array with affine=, an image of nibabel or"),
        ([1, 2], {}, "a scan of type list; expected a path"),
        (np.zeros((4, 4, 4)), {}, "pass affine=, 4x4 from voxel indices"),
        (np.zeros((4, 4, 4, 2)), {"affine": AFFINE}, "one volume at a time"),
        (nib.Nifti1Image(np.zeros((4, 4, 4), "f4"), AFFINE), {"affine": AFFINE}, "a Nifti1Image has its own"),
        (nib.gifti.GiftiImage(), {}, "GiftiImage; expected a spatial image of nibabel"),
        ("missing.nii", {}, r"missing\.nii: no such file"),
        (np.zeros((4, 4, 4)), {"affine": AFFINE, "modality": "pet"}, "modality is 'pet'; expected one of MR"),
    ],
)
def test_what_holds_no_scan_is_refused_in_a_sentence(scan, more, words):
    with pytest.raises(InputError, match=words):
        restore(scan, **more)


def test_options_that_are_none_and_words_that_are_none_are_refused(array):
    with pytest.raises(ConfigError, match=r"options are dict; expected medrestore\.RestoreOptions"):
        restore(array, {"noise": 5}, affine=AFFINE)
    with pytest.raises(TypeError, match="refrence"):
        restore(array, affine=AFFINE, refrence=array)


def test_a_file_of_several_volumes_is_refused_with_what_to_do(array, tmp_path):
    path = save(tmp_path / "bold.nii", np.stack([array, array], axis=-1))
    with pytest.raises(InputError, match=r"a series of 2 volumes.*read_series.*restore_file"):
        restore(path, modality="MR")


def test_a_modality_that_contradicts_the_scan_is_noted(array, model, tmp_path):
    scan = Volume.from_array(array, AFFINE, Modality.CT)
    result = restore(scan, modality="mr", model=model)
    assert (result.volume.modality, result.volume.units) == (Modality.MR, "arbitrary")
    assert "the scan says CT, modality= says MR" in result.record.sentences
    measured = replace(Volume.from_array(array, AFFINE, "mr"), units="percent")
    assert restore(measured, modality="MR", model=model).volume.units == "percent"


def test_what_was_odd_in_a_file_is_in_the_record(array, model, tmp_path):
    nib.save(nib.Nifti1Image(array, None), tmp_path / "unplaced.nii")
    (note,) = reading_findings(medrestore.read(tmp_path / "unplaced.nii"))
    result = restore(tmp_path / "unplaced.nii", modality="MR", model=model)
    assert note.text in result.record.sentences


def test_a_modality_is_taken_in_any_case():
    assert Modality("mr") is Modality("Mr") is Modality.MR
    assert Modality("UNKNOWN") is Modality.UNKNOWN
    assert Volume.from_array(np.zeros((2, 2, 2)), modality="ct").units == "HU"
    assert Volume.from_array(np.zeros((2, 2, 2))).as_modality("Ct").modality is Modality.CT
    for name in ("mri", "", None, 3):
        with pytest.raises(InputError, match=r"modality is .*; expected one of MR, CT, unknown"):
            Volume.from_array(np.zeros((2, 2, 2)), modality=name)


def test_a_mask_is_never_dropped(array):
    masked = np.ma.masked_less(array, 50)
    with pytest.raises(InputError, match=r"\d+ of 13824 voxels are masked.* array\.filled\(0\)"):
        restore(masked, affine=AFFINE)
    volume = Volume.from_array(array, AFFINE)
    with pytest.raises(InputError, match="masked"):
        Volume(masked, volume.geometry)
    with pytest.raises(InputError, match="masked"):
        Volume.from_nibabel(nib.Nifti1Image(masked, AFFINE))
    with pytest.raises(InputError, match=r"image: .* voxels are masked"):
        medrestore.metrics.psnr(masked, array, data_range=1.0)
    assert np.array_equal(Volume.from_array(np.ma.array(array), AFFINE).array, array)


@pytest.mark.parametrize("dtype", ["float16", "bool"])
@pytest.mark.filterwarnings("error")
def test_half_floats_and_booleans_are_restored_as_the_float32_that_they_are(array, model, dtype):
    values = array > 300 if dtype == "bool" else array.astype(dtype)
    mine, wide = (
        restore(scan, RestoreOptions(noise="5%"), affine=AFFINE, modality="MR", model=model).volume.array
        for scan in (values, values.astype(np.float32))
    )
    assert mine.dtype == np.float32
    assert np.array_equal(mine, wide)


@pytest.mark.parametrize("scale", [1e300, 1e15, 1e-30, 1e-320])
def test_voxels_beyond_what_is_computed_with_are_refused(array, model, scale):
    scan = np.float64(scale) * (array > 300)
    with pytest.raises(InputError, match=r"the largest magnitude is .* 1e-20 to 1e\+09: multiply the voxels"):
        restore(scan, affine=AFFINE, modality="MR", model=model)


@pytest.mark.parametrize("exponent", [-60, 20])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_voxels_within_it_are_restored_as_well_as_any(array, model, expected, exponent):
    scan = array * np.float32(2.0**exponent)
    result = restore(scan, affine=AFFINE, modality="MR", model=model)
    assert np.array_equal(result.volume.array / np.float32(2.0**exponent), expected.array)


def test_what_was_not_measured_in_ct_does_not_count(tmp_path):
    ct = load_model(
        RestoreOptions(
            model=model_folder(tmp_path / "ct", modalities=["CT"], intensity="attenuation"), device="cpu"
        )
    )
    array = noisy(phantom(16, 1000), 0.02) - 1000
    array[0] = -1e12
    result = restore(array, affine=AFFINE, modality="ct", model=ct)
    assert np.array_equal(result.volume.array[0], array[0])


@pytest.mark.parametrize("said", [{"model": "mr-denoise"}, {"device": "cuda"}, {"dtype": "bfloat16"}])
def test_options_that_contradict_the_model_are_refused(array, model, said):
    ((name, value),) = said.items()
    with pytest.raises(ConfigError, match=rf"{name} is '{value}' in the options and '.*' in the model that"):
        restore(array, RestoreOptions(**said), affine=AFFINE, modality="mr", model=model)


def test_options_that_agree_with_the_model_are_taken(array, model, folder, expected):
    options = RestoreOptions(model=folder, device=torch.device("cpu"), dtype=torch.float32)
    assert same(restore(array, options, affine=AFFINE, modality="mr", model=model), expected)


@pytest.mark.parametrize(
    ("device", "requested"), [("cuda", "cuda:0"), ("cuda:1", "cuda"), ("cuda:1", "cuda:1")]
)
def test_a_device_has_two_names(model, device, requested):
    elsewhere = replace(model, device=device)
    elsewhere.check_options(RestoreOptions(device=requested))
    for other in ("cuda:2", "cpu"):
        with pytest.raises(ConfigError, match="device is"):
            elsewhere.check_options(RestoreOptions(device=other))


def test_values_of_other_packages_are_taken_for_what_they_name(folder):
    options = RestoreOptions(
        model=folder,
        noise=np.float32(2.5),
        spacing=np.float64(1.5),
        slice_thickness=torch.tensor(4.0),
        samples=np.int64(2),
        steps=np.float64(5),
        seed=np.uint8(7),
        tile=np.array(64),
        ensemble=np.int16(2),
        max_memory=np.int64(6e9),
        device=torch.device("cuda", 1),
        dtype=torch.bfloat16,
        force=np.True_,
    )
    assert options == RestoreOptions(
        model=str(folder),
        noise=2.5,
        spacing=1.5,
        slice_thickness=4.0,
        samples=2,
        steps=5,
        seed=7,
        tile=64,
        ensemble=2,
        max_memory=6_000_000_000,
        device="cuda:1",
        dtype="bfloat16",
        force=True,
    )
    kinds = {type(value) for value in vars(options).values() if value is not None}
    assert kinds == {str, int, float, bool, medrestore.Task}


@pytest.mark.parametrize("name", ["samples", "steps", "seed", "tile", "ensemble"])
@pytest.mark.parametrize("value", [1.5, float("nan"), float("inf"), "4", True, 1j, [1], np.float64(0.5)])
def test_a_count_that_is_no_whole_number_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} is .*; expected a whole number"):
        RestoreOptions(**{name: value})


@pytest.mark.parametrize(
    "said",
    [
        *({"samples": None}, {"noise": None}, {"noise": np.zeros(3)}, {"device": None}, {"model": 3}),
        *({"slice_thickness": "4"}, {"force": "no"}, {"output": ["mean"]}, {"dtype": np.zeros(2)}),
        *({"spacing": True}, {"max_memory": np.ones((2, 2))}, {"tile": np.zeros((1, 1))}),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_name(said):
    with pytest.raises(ConfigError, match=f"^{next(iter(said))} is "):
        RestoreOptions(**said)


def random_states() -> tuple[bytes, str]:
    return torch.get_rng_state().numpy().tobytes(), str(np.random.get_state())  # noqa: NPY002


@pytest.mark.parametrize("options", [{}, {"samples": 2, "steps": 1}])
def test_random_numbers_of_the_caller_are_left_alone(array, folder, options):
    before = random_states()
    restore(array, RestoreOptions(model=folder, device="cpu", **options), affine=AFFINE, modality="mr")
    assert random_states() == before


@pytest.fixture(params=["float64", "device", "one thread", "more threads"])
def disturbed(request) -> Iterator[None]:
    """Another default of torch while a test runs."""
    threads = torch.get_num_threads()
    if request.param == "float64":
        torch.set_default_dtype(torch.float64)
    elif request.param == "device":
        torch.set_default_device("meta")
    else:
        torch.set_num_threads(1 if request.param == "one thread" else threads + 1)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_num_threads(threads)


SHIPPED = ("mr-denoise", "ct-denoise", "mr-superres", "ct-superres")


def run_shipped(name: str) -> tuple[bytes, bytes]:
    ct, thick = name.startswith("ct"), name.endswith("superres")
    array = noisy(phantom(16, 1000 if ct else 800), 0.03) - (1000 if ct else 0)
    array, affine = (array[..., ::2], np.diag([1, 1, 2, 1])) if thick else (array, np.eye(4))
    options = RestoreOptions(model=name, device="cpu", noise=30.0, samples=2, steps=1)
    result = restore(array, options, affine=affine, modality="ct" if ct else "mr")
    assert np.ptp(result.volume.array) > 0
    return result.volume.array.tobytes(), result.std.array.tobytes()


@pytest.fixture(scope="module")
def undisturbed():
    return {name: run_shipped(name) for name in SHIPPED}


@pytest.mark.parametrize("name", SHIPPED)
def test_defaults_of_torch_do_not_change_the_result_of_a_shipped_model(name, undisturbed, disturbed):
    assert run_shipped(name) == undisturbed[name]
