from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from medrestore.errors import GeometryError, InputError
from medrestore.geometry import Geometry
from medrestore.provenance import Source, Step
from medrestore.types import Modality
from medrestore.volume import Volume

GRID = Geometry((4, 5, 6), np.diag([1.0, 2.0, 3.0, 1.0]))


def voxels(dtype="float32") -> np.ndarray:
    return np.arange(120).reshape(4, 5, 6).astype(dtype)


def test_volume_is_frozen_and_its_voxels_are_read_only_without_a_copy():
    mine = voxels()
    volume = Volume(mine, GRID)
    assert np.shares_memory(volume.array, mine)
    assert mine.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        volume.array[0, 0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        volume.units = "HU"


def test_with_array_keeps_the_grid_and_adds_to_history():
    source = Source("a.nii", "nifti")
    first = Volume(voxels(), GRID, Modality.CT, "HU", source)
    second = first.with_array(voxels() * 2, Step("double", {"by": 2})).with_array(voxels() * 4, Step("again"))
    assert [step.name for step in second.history] == ["double", "again"]
    assert first.history == ()
    assert (second.geometry, second.modality, second.units, second.source) == (
        GRID,
        Modality.CT,
        "HU",
        source,
    )
    assert second.array[1, 0, 0] == 120
    with pytest.raises(InputError, match=r"\(4, 5, 5\) on a grid of shape \(4, 5, 6\)"):
        first.with_array(voxels()[..., 1:], Step("crop"))


@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_non_finite_voxels_are_counted_and_located(order):
    bad = (
        np.zeros((8, 5, 6), np.float32)[::2] if order == "strided" else np.zeros((4, 5, 6), np.float32, order)
    )
    bad[3, 4, 5] = np.nan
    bad[2, 1, 0] = np.nan
    bad[2, 1, 4] = -np.inf
    with pytest.raises(InputError, match=r"3 of 120 .*2 NaN, 1 infinite.*first at index \(2, 1, 0\)"):
        Volume(bad, GRID)
    with pytest.raises(InputError, match=r"scan\.nii: 3 of"):
        Volume(bad, GRID, source=Source("scan.nii", "nifti"))


def test_non_finite_voxels_are_found_past_the_first_block():
    bad = np.zeros((128, 128, 80), np.float32)
    bad[-1, -1, -1] = np.inf
    with pytest.raises(InputError, match=r"\(127, 127, 79\)"):
        Volume.from_array(bad)


@pytest.mark.parametrize("dtype", ["complex64", "object", "U3", "datetime64[s]"])
def test_voxels_that_are_not_real_are_refused(dtype):
    with pytest.raises(InputError, match="expected real numbers"):
        Volume(np.zeros((4, 5, 6), dtype), GRID)


@pytest.mark.parametrize("dtype", ["bool", "uint8", ">i2", "float64", ">f4"])
def test_real_voxels_of_any_type_and_byte_order_are_kept_in_native_order(dtype):
    volume = Volume(voxels(dtype), GRID)
    assert volume.array.dtype.isnative
    assert volume.array.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(volume.array, voxels(dtype))


def test_from_array_makes_one_slice_of_an_image():
    volume = Volume.from_array(np.ones((7, 9)))
    assert volume.shape == (7, 9, 1)
    assert np.array_equal(volume.geometry.affine, np.eye(4))
    assert volume.source is not None
    assert volume.source.format == "array"


def test_from_array_takes_units_from_the_modality():
    assert Volume.from_array(voxels(), modality=Modality.CT).units == "HU"
    assert Volume.from_array(voxels(), modality=Modality.MR).units == "arbitrary"
    assert Volume.from_array(voxels(), GRID.affine, Modality.CT, "arbitrary").units == "arbitrary"
    assert Volume.from_array(voxels(), GRID.affine).spacing == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("array", "affine", "kind", "words"),
    [
        (np.zeros((4, 5, 6, 2)), None, InputError, "one volume at a time"),
        (np.zeros(4), None, InputError, "expected"),
        (np.zeros((4, 0, 6)), None, GeometryError, "positive"),
        (np.zeros((4, 5, 6)), np.zeros((4, 4)), GeometryError, "last row"),
        (np.zeros((4, 5, 6)), np.diag([0, 1, 1, 1]), GeometryError, "singular"),
        ([["a"]], None, InputError, "real"),
    ],
)
def test_from_array_refuses_what_is_no_volume(array, affine, kind, words):
    with pytest.raises(kind, match=words):
        Volume.from_array(array, affine)


def test_volume_survives_pickling_read_only():
    volume = Volume(voxels(), GRID, Modality.MR, history=(Step("a", {"n": 1}),))
    again = pickle.loads(pickle.dumps(volume))
    assert np.array_equal(again.array, volume.array)
    assert (again.geometry, again.history, again.modality) == (GRID, volume.history, Modality.MR)
    assert not again.array.flags.writeable


def test_a_file_that_does_not_say_its_modality_can_be_told():
    volume = Volume.from_array(np.zeros((2, 2, 2)))
    told = volume.as_modality("CT")
    assert (told.modality, told.units, volume.modality) == (Modality.CT, "HU", Modality.UNKNOWN)
    with pytest.raises(InputError, match="modality is 'MRT'; expected one of MR, CT, unknown"):
        volume.as_modality("MRT")
