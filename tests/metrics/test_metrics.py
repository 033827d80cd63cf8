"""Metrics against scikit-image, closed forms, and the cases where there is no value."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from medrestore.errors import InputError
from medrestore.metrics import evaluate, head_mask, mae, psnr, reference_range, rmse, ssim, ssim_map
from medrestore.metrics.mask import otsu_threshold

SHAPE = (37, 24, 29)  # three different lengths, the first no multiple of the slab


def _phantom(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A ball of smooth texture in air: values 0 to about 1."""
    rng = np.random.default_rng(seed)
    texture = ndimage.gaussian_filter(rng.random(shape), 1.2)
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = sum(axis**2 for axis in grid) < 0.8
    return np.where(inside, 0.4 + 2.0 * (texture - 0.5), 0.0)


def _noisy(reference: np.ndarray, level: float = 0.05) -> np.ndarray:
    return reference + np.random.default_rng(1).normal(0.0, level, reference.shape)


def _skimage(image: np.ndarray, reference: np.ndarray, data_range: float) -> tuple[float, np.ndarray]:
    value, full = structural_similarity(
        reference,
        image,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=data_range,
        full=True,
    )
    return float(value), full


@pytest.mark.parametrize(
    ("scale", "offset"),
    [(1.0, 0.0), (254.0, 0.0), (3000.0, -1024.0), (100.0, 1000.0), (1e-6, 0.0)],
    ids=["unit", "8-bit", "hounsfield", "narrow range on a pedestal", "tiny values"],
)
def test_ssim_is_that_of_scikit_image(scale: float, offset: float) -> None:
    reference = _phantom() * scale + offset
    image = _noisy(_phantom()) * scale + offset
    data_range = reference_range(reference)
    expected, full = _skimage(image, reference, data_range)
    assert ssim(image, reference, data_range=data_range) == pytest.approx(expected, abs=1e-4)
    np.testing.assert_allclose(
        ssim_map(image, reference, data_range=data_range), full[5:-5, 5:-5, 5:-5], atol=1e-3
    )


def test_ssim_in_a_mask_is_the_mean_of_the_map_over_it() -> None:
    reference = _phantom()
    image = _noisy(reference)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:20, 8:15, 7:28] = True  # reaches into the border, where there is no SSIM
    _, full = _skimage(image, reference, 1.0)
    interior = np.zeros(SHAPE, dtype=bool)
    interior[5:-5, 5:-5, 5:-5] = True
    expected = full[mask & interior].mean()
    assert ssim(image, reference, data_range=1.0, mask=mask) == pytest.approx(expected, abs=1e-4)
    assert abs(expected - full[interior].mean()) > 0.01  # else this test could not tell the two apart


def test_ssim_does_not_depend_on_the_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = _phantom()
    image = _noisy(reference)
    whole = ssim_map(image, reference, data_range=1.0)
    monkeypatch.setattr("medrestore.metrics.structural._SLAB", 5)
    np.testing.assert_allclose(ssim_map(image, reference, data_range=1.0), whole, atol=1e-5)


def test_psnr_is_that_of_scikit_image() -> None:
    reference = _phantom()
    image = _noisy(reference)
    expected = peak_signal_noise_ratio(reference, image, data_range=1.3)
    assert psnr(image, reference, data_range=1.3) == pytest.approx(expected, abs=1e-9)


def test_errors_in_a_mask_are_those_of_its_voxels_alone() -> None:
    reference = np.zeros((4, 4, 4))
    image = np.full((4, 4, 4), 7.0)
    image[0] = 3.0
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[0] = True
    assert mae(image, reference, mask=mask) == 3.0
    assert rmse(image, reference, mask=mask) == 3.0
    assert psnr(image, reference, data_range=30.0, mask=mask) == pytest.approx(20.0)
    assert mae(image, reference) == 6.0


def test_unsigned_voxels_do_not_wrap_around() -> None:
    reference = np.full((3, 3, 3), 10, dtype=np.uint8)
    image = np.full((3, 3, 3), 7, dtype=np.uint8)
    assert mae(image, reference) == 3.0
    assert rmse(image, reference) == 3.0
    assert reference_range(np.array([3, 250], dtype=np.uint8)) == 247.0
    assert reference_range(np.array([-32768, 32767], dtype=np.int16)) == 65535.0


def test_identical_volumes() -> None:
    reference = _phantom()
    assert psnr(reference, reference, data_range=1.0) == math.inf
    found = evaluate(reference, reference, data_range=1.0)
    assert (found["psnr"].value, found["psnr"].reason) == (None, "identical")
    assert found["ssim"].value == pytest.approx(1.0, abs=1e-6)
    assert found["mae"].value == 0.0


def test_evaluate_agrees_with_the_single_functions_and_is_json() -> None:
    reference = _phantom()
    image = _noisy(reference)
    mask = reference > 0
    found = evaluate(image, reference, data_range=0.9, mask=mask)
    assert list(found) == ["psnr", "ssim", "mae", "rmse"]
    assert found["psnr"].value == psnr(image, reference, data_range=0.9, mask=mask)
    assert found["ssim"].value == ssim(image, reference, data_range=0.9, mask=mask)
    assert found["mae"].value == mae(image, reference, mask=mask)
    assert found["rmse"].value == rmse(image, reference, mask=mask)
    json.dumps({name: asdict(value) for name, value in found.items()}, allow_nan=False)
    assert "data range 0.9" in found["psnr"].definition
    assert str(int(mask.sum())) in found["psnr"].definition
    assert "sigma 1.5" in found["ssim"].definition


def test_without_a_reference_values_are_absent_with_the_reason() -> None:
    found = evaluate(_phantom(), None, data_range=1.0)
    assert list(found) == ["psnr", "ssim", "mae", "rmse"]
    assert all(value.value is None and value.reason == "no reference" for value in found.values())


def test_other_shape_is_a_reason_not_a_crash() -> None:
    found = evaluate(np.zeros((12, 12, 12)), np.zeros((12, 12, 13)), data_range=1.0)
    for value in found.values():
        assert value.value is None
        assert value.reason is not None
        assert "(12, 12, 12)" in value.reason
        assert "(12, 12, 13)" in value.reason


@pytest.mark.parametrize("shape", [(20, 20, 1), (20, 20, 10), (10, 20, 20)])
def test_too_thin_for_ssim(shape: tuple[int, int, int]) -> None:
    reference = _phantom(shape=(20, 20, 20))[: shape[0], :, : shape[2]]
    image = _noisy(reference)
    with pytest.raises(InputError, match="11 voxels"):
        ssim(image, reference, data_range=1.0)
    found = evaluate(image, reference, data_range=1.0)
    assert found["ssim"].value is None
    assert "11 voxels" in (found["ssim"].reason or "")
    assert found["psnr"].value is not None


def test_smallest_volume_with_an_ssim() -> None:
    reference = _phantom(shape=(11, 11, 11))
    image = _noisy(reference)
    expected, _ = _skimage(image, reference, 1.0)
    assert ssim(image, reference, data_range=1.0) == pytest.approx(expected, abs=1e-4)


def test_mask_with_no_voxel_inside_the_ssim_map() -> None:
    reference = _phantom()
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:5] = True
    with pytest.raises(InputError, match="inside the volume"):
        ssim(_noisy(reference), reference, data_range=1.0, mask=mask)


def test_bad_arguments_say_what_is_wrong() -> None:
    reference = _phantom()
    broken = reference.copy()
    broken[1, 2, 3] = np.nan
    with pytest.raises(InputError, match="1 NaN or infinite"):
        mae(broken, reference)
    with pytest.raises(InputError, match="complex128"):
        mae(reference.astype(complex), reference)
    with pytest.raises(InputError, match="selects no voxel"):
        mae(reference, reference, mask=np.zeros(SHAPE))
    with pytest.raises(InputError, match="the mask has shape"):
        mae(reference, reference, mask=np.ones((2, 2, 2)))
    for data_range in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="data_range"):
            psnr(_noisy(reference), reference, data_range=data_range)


def test_constant_reference_has_absent_psnr_not_nan() -> None:
    reference = np.full((12, 12, 12), 5.0)
    found = evaluate(_noisy(reference), reference, data_range=reference_range(reference))
    assert found["psnr"].value is None
    assert "data_range" in (found["psnr"].reason or "")
    assert found["mae"].value is not None
    assert found["mae"].value > 0


def test_otsu_is_that_of_scikit_image() -> None:
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(10, 3, 4000), rng.normal(60, 9, 2500)])
    assert otsu_threshold(values) == pytest.approx(float(threshold_otsu(values)), abs=1e-9)


@pytest.mark.parametrize("values", [np.float32([1000, 1000.0001]), np.array([1.0, 1 + 1e-15]), np.ones(3)])
def test_otsu_of_values_that_hardly_differ_lies_between_them(values) -> None:
    assert values.min() <= otsu_threshold(values) <= values.max()


def _head(
    shape: tuple[int, int, int], ball: float, skull: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """A noisy ball with a dark shell (the skull) in it, a bright speck beside it; and the ball's mask."""
    centre = [(n - 1) / 2 for n in shape]
    index = np.indices(shape)
    radius = np.sqrt(sum((i - c) ** 2 for i, c in zip(index, centre, strict=True)))
    volume = np.where(radius < ball, 100.0, 0.0)
    volume[(radius > skull[0]) & (radius < skull[1])] = 2.0
    volume[:3, :3, :3] = 120.0
    return np.abs(volume + np.random.default_rng(0).normal(0, 8, shape)), radius < ball


def test_head_mask_fills_the_skull_and_drops_the_speck() -> None:
    volume, truth = _head((40, 44, 36), ball=15, skull=(9, 12))
    mask = head_mask(volume)
    assert mask.dtype == np.bool_
    assert mask.shape == volume.shape
    assert not mask[:3, :3, :3].any()
    assert mask[ndimage.distance_transform_edt(truth) > 2].all()
    assert not mask[ndimage.distance_transform_edt(~truth) > 2].any()


def test_head_mask_of_a_cropped_head_fills_the_open_skull() -> None:
    volume, truth = _head((48, 48, 48), ball=23, skull=(9, 18))
    cut = np.s_[24:, 24:, 24:]  # the dark shell is open to the border on three sides, and in every slice
    mask = head_mask(volume[cut])
    assert mask[(ndimage.distance_transform_edt(truth) > 2)[cut]].all()
    assert not mask[(ndimage.distance_transform_edt(~truth) > 2)[cut]].any()


def test_head_mask_refuses_what_has_no_head() -> None:
    with pytest.raises(InputError, match="constant"):
        head_mask(np.ones((12, 12, 12)))
    with pytest.raises(InputError, match="volume"):
        head_mask(np.ones((12, 12)))


def test_importing_the_metrics_imports_no_torch() -> None:
    code = (
        "import sys, medrestore.metrics as m; import numpy as np; m.head_mask(np.indices((12, 12, 12))[0]);"
        "assert not {'torch', 'monai'} & set(sys.modules), sorted({'torch', 'monai'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
