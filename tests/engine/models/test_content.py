"""What is said of the content of a scan before it is restored: each rule by a scan that breaks it alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from tiny import model_folder, noisy, phantom

from medrestore import Modality, RestoreOptions, read, restore
from medrestore.engine.models.checks import check_zero
from medrestore.engine.models.content import check_content
from medrestore.engine.models.find import find_model
from medrestore.geometry import Geometry
from medrestore.noise.intensity import bright_level
from medrestore.volume import Volume

SIDE, SPACING = 96, 1.8


@cache
def head() -> np.ndarray:
    """Return a head of 150 to 165 mm in air, with 3 % of noise."""
    return noisy(phantom(SIDE), 0.03)


@cache
def body() -> np.ndarray:
    """Return a computed body in HU: air, fat, tissue and some bone, with noise."""
    tissue = phantom(SIDE, 1.0)
    hounsfield = np.interp(tissue, [0, 0.5, 0.6, 0.9, 1.0], [-1000, -100, 30, 60, 300])
    return np.round(hounsfield + np.random.default_rng(1).normal(0, 15, tissue.shape)).astype(np.int16)


def codes(array: np.ndarray, modality: str = "MR", sizes: tuple[float, float, float] = (SPACING,) * 3):
    """Return the codes of what is said of the content of a scan."""
    spec = find_model(RestoreOptions(model=f"{modality.lower()}-denoise"), Modality(modality))[1]
    volume = Volume(array, Geometry(array.shape, np.diag([*sizes, 1.0])), Modality(modality))
    found = (
        *check_content(volume, spec),
        *check_zero(volume, 0.03 * bright_level(array), spec),
    )
    return {one.code for one in found}


def shuffled(array: np.ndarray, axis: int) -> np.ndarray:
    """Return a scan with its slices in another order."""
    order = np.random.default_rng(2).permutation(array.shape[axis])
    return np.take(array, order, axis)


def test_a_head_and_a_body_are_what_they_should_be() -> None:
    assert codes(head()) == set()
    assert codes(head()[24:72, 24:72, 24:72]) == set()
    assert codes(body(), "CT") == set()
    assert codes(body()[:, :, 40:60], "CT") == set()


def test_values_of_another_modality_are_found() -> None:
    assert "values-outside-model" in codes(body(), "MR")
    assert "values-outside-model" in codes(body() + 1024, "MR")
    assert codes(body() + 1024, "CT") == {"values-outside-model"}
    assert codes(head(), "CT") == {"values-outside-model"}


def test_hounsfield_with_an_offset_are_told_from_what_is_no_ct() -> None:
    spec = find_model(RestoreOptions(model="ct-denoise"), Modality.CT)[1]

    def said(array: np.ndarray) -> str:
        grid = Geometry(array.shape, np.diag([SPACING] * 3 + [1]))
        return check_content(Volume(array, grid, Modality.CT), spec)[0].text

    assert "subtract 1024" in said(body() + 1024)
    assert "no CT" in said(head())


def test_a_small_head_in_a_wide_field_of_view_is_a_scan_and_shuffled_is_none() -> None:
    wide = np.abs(np.random.default_rng(4).normal(0, 5, (240, 96, 96)))
    wide[72:168] = head()
    assert "slices-unrelated" not in codes(wide.astype(np.float32))
    assert "slices-unrelated" in codes(shuffled(wide, 0).astype(np.float32))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda head: head.max() - head, "air-is-bright"),
        (lambda head: np.round(head / 200), "regions-are-flat"),
        (lambda head: np.full_like(head, 7), "regions-are-flat"),
        (lambda head: np.repeat(head[:, :, ::48], 48, axis=2), "regions-are-flat"),
        (lambda head: shuffled(head, 0), "slices-unrelated"),
        (lambda head: shuffled(head, 2), "slices-unrelated"),
        (lambda head: np.abs(np.random.default_rng(3).normal(0, 9, head.shape)), "slices-unrelated"),
        (lambda head: (head - head.mean()) / head.std(), "zero-moved"),
        (lambda head: np.where(head > 200, head - 600, 0), "zero-moved"),
    ],
    ids=[
        "inverted",
        "labels",
        "constant",
        "repeated",
        "shuffled-i",
        "shuffled-k",
        "noise",
        "z-scored",
        "signed",
    ],
)
def test_what_is_no_scan_is_found(change: Callable[[np.ndarray], np.ndarray], code: str) -> None:
    assert code in codes(change(head()).astype(np.float32))


@pytest.mark.parametrize(
    "sizes",
    [(0.9, 0.9, 0.9), (3.6, 3.6, 3.6), (1.8, 3.6, 1.8)],
    ids=["half", "double", "deep"],
)
def test_a_voxel_size_that_no_head_has_is_doubted(sizes: tuple[float, float, float]) -> None:
    assert codes(head(), sizes=sizes) == {"voxel-size-doubted"}


def test_a_small_volume_is_not_judged() -> None:
    assert codes(np.full((47, 47, 64), 7.0)) == set()
    assert codes(np.full((48, 48, 4), 7.0)) == {"regions-are-flat"}


def test_padding_a_slice_alone_and_small_numbers_are_no_reason() -> None:
    padded = np.zeros((SIDE, SIDE, 3 * SIDE), np.float32)
    padded[:, :, SIDE : 2 * SIDE] = head()
    assert codes(padded) == set()
    assert codes(head()[:, :, 48:49]) == set()
    assert codes(head() * np.float32(1e-20)) == set()
    sparse = np.zeros((64, 64, 64), np.float32)
    sparse[::9, ::9, ::9] = np.arange(512).reshape(8, 8, 8) + 5
    assert "regions-are-flat" not in codes(sparse)
    assert codes(np.full((64, 64, 64), 0.1, np.float32)) == {"regions-are-flat"}


def test_a_restoration_says_it_before_it_begins(tmp_path) -> None:
    folder = model_folder(tmp_path / "model")
    small = head()[::2, ::2, ::2]
    grid = np.diag([1.5, 1.5, 1.5, 1])  # of 72 mm, and still a phantom: enough to be doubted

    def found(array: np.ndarray) -> set[str]:
        volume = Volume.from_array(array, grid, "MR")
        result = restore(volume, RestoreOptions(model=str(folder), noise="3%"))
        codes = {one.code for one in result.record.findings}
        # The network is one that nobody trained, and the phantom has no noise, whatever it is told.
        return {code for code in codes if not code.startswith("verdict-")} - {"noise-contradicted"}

    assert found(small.max() - small) == {"air-is-bright"}
    assert found(small) == {"voxel-size-doubted"}


@pytest.mark.needs_shared
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_voxel_stated_too_long_along_one_axis_shows_in_the_detail(shared, axis: int) -> None:
    scan = read(shared / "data" / "mr" / "niimath_brain_t1w_0p8mm.nii.gz")
    array, sizes = np.asarray(scan.array), list(scan.geometry.spacing)
    assert codes(array, sizes=tuple(sizes)) == set()
    sizes[axis] *= 3
    assert codes(array, sizes=tuple(sizes)) == {"voxel-size-doubted"}


@pytest.mark.needs_shared
def test_a_ct_is_a_ct_to_the_rules_whatever_part_is_seen(shared) -> None:
    scan = read(shared / "data" / "ct" / "totalseg_torso_1p5mm.nii.gz")
    array = np.asarray(scan.array)
    for part in (array, array[:, :, 70:90], array[20:116, 20:116, 20:116]):
        assert codes(part, "CT", scan.geometry.spacing) == set()
    assert "values-outside-model" in codes(array, "MR", scan.geometry.spacing)
