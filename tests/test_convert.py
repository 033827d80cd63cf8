"""Volumes as other packages have them: nibabel, SimpleITK, torch, numpy, and a notebook."""

from __future__ import annotations

import io
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from skimage.io import imread

from medrestore import Geometry, Modality, Volume, read, write
from medrestore.errors import ConfigError, InputError
from medrestore.provenance import Source

OBLIQUE = np.array([[0.0, -1.5, 0.2, 11.0], [0.9, 0.0, 0.3, -7.0], [-0.2, 0.1, 2.0, 30.0], [0, 0, 0, 1]])


def voxels(dtype="float32") -> np.ndarray:
    return np.arange(120).reshape(4, 5, 6).astype(dtype)


@pytest.fixture
def volume():
    return Volume.from_array(voxels(), OBLIQUE, "mr")


def test_an_image_of_nibabel_keeps_its_place(volume):
    image = volume.to_nibabel()
    assert isinstance(image, nib.Nifti1Image)
    assert np.array_equal(image.affine, OBLIQUE)
    assert np.array_equal(np.asarray(image.dataobj), volume.array)
    assert image.header.get_xyzt_units()[0] == "mm"
    back = Volume.from_nibabel(image, "MR")
    assert (back.geometry, back.modality) == (volume.geometry, Modality.MR)
    assert np.array_equal(back.array, volume.array)
    np.asarray(image.dataobj)[0] = 7
    assert volume.array[0, 0, 0] == 0


@pytest.mark.parametrize("dtype", ["bool", "float16", "int64", "uint8", "int16", "float64"])
def test_voxels_of_any_type_go_to_nibabel_and_into_a_file(dtype, tmp_path):
    values = voxels("int64") > 50 if dtype == "bool" else voxels(dtype)
    nib.save(Volume.from_array(values).to_nibabel(), tmp_path / "a.nii")
    assert np.array_equal(nib.load(tmp_path / "a.nii").get_fdata(), values.astype(float))


@pytest.mark.parametrize("scale", [None, (0.37, -12.5)])
def test_a_loaded_image_is_what_read_makes_of_the_file(scale, tmp_path):
    image = nib.Nifti1Image(voxels("int16")[..., np.newaxis], OBLIQUE)
    if scale is not None:
        image.header.set_slope_inter(*scale)
    nib.save(image, tmp_path / "Doe_Jane.nii.gz")
    mine, files = (
        Volume.from_nibabel(nib.load(tmp_path / "Doe_Jane.nii.gz")),
        read(tmp_path / "Doe_Jane.nii.gz"),
    )
    assert mine.array.dtype == files.array.dtype == np.float32
    assert np.array_equal(mine.array, files.array)
    assert mine.geometry.allclose(files.geometry)
    assert "Doe" not in repr(mine) + repr(mine.source) + repr(files)


@pytest.mark.parametrize(("sform", "qform"), [(0, 0), (1, 0), (0, 1), (4, 1)])
def test_what_the_codes_of_a_header_say_is_said_again(sform, qform, tmp_path):
    image = nib.Nifti1Image(voxels(), None)
    image.set_qform(np.eye(4) if qform else None, qform)
    image.set_sform(np.eye(4) if sform else None, sform)
    volume = Volume.from_nibabel(image)
    header = volume.to_nibabel().header
    write(volume, tmp_path / "out.nii")
    written = nib.load(tmp_path / "out.nii").header
    assert int(header["sform_code"]) == (sform or qform)
    assert (int(written["sform_code"]), int(written["qform_code"])) == (sform or qform, qform)
    assert np.allclose(volume.to_nibabel().affine, image.affine)


@pytest.mark.parametrize(("unit", "edge"), [("meter", 1e-3), ("micron", 1e3), ("mm", 1.0), ("unknown", 1.0)])
def test_the_unit_of_length_of_a_header_counts_as_in_a_file(unit, edge, tmp_path):
    image = nib.Nifti1Image(voxels(), np.diag([edge, edge, 2 * edge, 1]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "scan.nii")
    volume = Volume.from_nibabel(nib.load(tmp_path / "scan.nii"))
    assert volume.spacing == pytest.approx((1, 1, 2))
    assert volume.geometry.allclose(read(tmp_path / "scan.nii").geometry)
    assert np.allclose(volume.to_nibabel().affine, np.diag([1, 1, 2, 1]))
    assert np.allclose(image.affine, np.diag([edge, edge, 2 * edge, 1]))  # what was given stays


@pytest.mark.parametrize("kind", [nib.spatialimages.SpatialImage, nib.MGHImage, nib.Spm99AnalyzeImage])
def test_an_image_of_another_format_has_a_place_and_no_codes(kind):
    volume = Volume.from_nibabel(kind(voxels("float32"), OBLIQUE))
    assert volume.geometry.allclose(Geometry(voxels().shape, OBLIQUE))
    assert np.array_equal(volume.array, voxels("float32"))
    assert np.allclose(volume.to_nibabel().affine, OBLIQUE, atol=1e-4)


def test_a_code_that_nifti_does_not_know_counts_as_none():
    image = nib.Nifti1Image(voxels(), OBLIQUE)
    image.header["sform_code"] = 99
    assert int(Volume.from_nibabel(image).to_nibabel().header["sform_code"]) in range(6)


def test_the_voxels_of_an_image_in_memory_are_not_copied():
    mine = voxels("float64")
    assert np.shares_memory(Volume.from_nibabel(nib.Nifti1Image(mine, OBLIQUE)).array, mine)


def test_an_image_that_is_no_volume_is_refused():
    with pytest.raises(InputError, match=r"shape \(2, 2, 2, 3\).* one volume at a time"):
        Volume.from_nibabel(nib.Nifti1Image(np.zeros((2, 2, 2, 3), "f4"), np.eye(4)))
    with pytest.raises(InputError, match="ndarray; expected a spatial image of nibabel"):
        Volume.from_nibabel(voxels())
    with pytest.raises(InputError, match="modality is 'PET'"):
        Volume.from_nibabel(nib.Nifti1Image(voxels(), np.eye(4)), "PET")


@pytest.fixture
def sitk():
    return pytest.importorskip("SimpleITK", reason="needs SimpleITK, which is no dependency")


@pytest.mark.parametrize("dtype", ["bool", "float16", "int64", "uint16", "float32", "float64"])
def test_an_image_of_simpleitk_shows_the_same_voxel_in_the_same_place(sitk, dtype):
    values = voxels("int64") > 50 if dtype == "bool" else voxels(dtype)
    volume = Volume.from_array(values, OBLIQUE)
    image = volume.to_sitk()
    assert image.GetSize() == (4, 5, 6)
    assert image[3, 1, 2] == values[3, 1, 2]
    assert np.allclose(image.GetSpacing(), volume.spacing)
    right, anterior, superior = volume.geometry.world((3, 1, 2))
    assert np.allclose(
        image.TransformIndexToPhysicalPoint((3, 1, 2)), (-right, -anterior, superior), atol=1e-6
    )
    back = Volume.from_sitk(image, "ct")
    assert np.array_equal(back.array, values)
    assert back.geometry.allclose(volume.geometry, 1e-6)
    assert (back.modality, back.units) == (Modality.CT, "HU")


def test_nibabel_and_simpleitk_read_one_file_alike(sitk, tmp_path):
    scan = Volume.from_array(voxels(), np.diag([-1.0, 2.0, 3.0, 1.0]))
    write(scan, tmp_path / "a.nii")
    theirs = Volume.from_sitk(sitk.ReadImage(str(tmp_path / "a.nii")))
    assert theirs.geometry.allclose(scan.geometry)
    assert np.array_equal(theirs.array, scan.array)


def test_a_slice_of_simpleitk_is_a_volume_of_one(sitk):
    image = sitk.GetImageFromArray(np.arange(6.0).reshape(2, 3))
    image.SetSpacing((0.5, 2.0))
    volume = Volume.from_sitk(image)
    assert (volume.shape, volume.spacing) == ((3, 2, 1), (0.5, 2.0, 1.0))
    assert volume.array[2, 1, 0] == 5


def test_an_image_of_simpleitk_that_is_no_volume_is_refused(sitk):
    with pytest.raises(InputError, match="4 axes and 1 numbers a voxel; expected 2 or 3"):
        Volume.from_sitk(sitk.Image([2, 2, 2, 2], sitk.sitkFloat32))
    with pytest.raises(InputError, match="3 axes and 3 numbers a voxel"):
        Volume.from_sitk(sitk.Image([2, 2, 2], sitk.sitkVectorUInt8, 3))
    with pytest.raises(InputError, match="complex"):
        Volume.from_sitk(sitk.Image([2, 2, 2], sitk.sitkComplexFloat32))
    with pytest.raises(InputError, match="ndarray; expected a SimpleITK image"):
        Volume.from_sitk(voxels())


def test_simpleitk_that_is_missing_is_named(volume, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    for call in (volume.to_sitk, lambda: Volume.from_sitk(object())):
        with pytest.raises(ConfigError, match="SimpleITK is not installed; run: pip install SimpleITK"):
            call()


@pytest.mark.parametrize("dtype", ["bool", "float16", ">i2", "uint16", "float64", "longdouble"])
@pytest.mark.filterwarnings("error")
def test_a_tensor_is_a_copy_in_the_order_of_the_axes(dtype):
    volume = Volume.from_array(np.asfortranarray(voxels(dtype)))
    tensor = volume.to_torch()
    assert (tensor.dtype, tensor.device.type) == (torch.float32, "cpu")
    assert tensor.is_contiguous()
    assert np.array_equal(tensor.numpy(), volume.array)
    tensor[0, 0, 0] = 9
    assert volume.array[0, 0, 0] == 0
    assert volume.to_torch(torch.float64).dtype == torch.float64


@pytest.mark.parametrize("scale", [1e300, 1e-320])
def test_voxels_that_float32_does_not_hold_become_neither_zero_nor_infinite(scale, tmp_path):
    volume = Volume.from_array(np.full((2, 2, 2), scale))
    with pytest.raises(
        InputError, match=r"the largest magnitude is 1e[+-]3\d\d, which float32 does not hold"
    ):
        volume.to_torch()
    assert volume.to_torch(torch.float64)[0, 0, 0] == scale
    assert np.asarray(volume.to_nibabel().dataobj)[0, 0, 0] == scale
    nib.save(volume.to_nibabel(), tmp_path / "a.nii")
    for load in (read, lambda path: Volume.from_nibabel(nib.load(path))):
        with pytest.raises(InputError, match=r"float32|infinite"):
            load(tmp_path / "a.nii")


def test_numpy_takes_a_volume_for_its_voxels(volume):
    assert np.asarray(volume) is not None
    assert np.shares_memory(np.asarray(volume), volume.array)
    assert np.asarray(volume).flags.writeable is False
    assert np.asarray(volume, dtype="float64").dtype == np.float64
    copy = np.array(volume)
    copy[0] = 5
    assert volume.array[0, 0, 0] == 0
    assert not np.shares_memory(np.array(volume, copy=True), volume.array)
    assert np.shares_memory(np.array(volume, copy=False), volume.array)
    with pytest.raises(ValueError, match="copy"):
        np.array(volume, dtype="float64", copy=False)
    assert np.percentile(volume, 50) == np.percentile(volume.array, 50)


def test_a_volume_is_not_taken_for_an_array_without_a_place(volume):
    with pytest.raises(InputError, match="a Volume, which has a grid already"):
        Volume.from_array(volume)


def test_a_volume_says_what_it_is_and_not_whose():
    source = Source("/data/Doe_Jane/t1.nii", "nifti", details={"note": "Doe"})
    grid = Geometry((4, 5, 6), np.diag([1.0, 2.0, 1.25, 1.0]))
    scan = Volume(voxels() - 20, grid, Modality.CT, "HU", source)
    assert repr(scan) == "Volume(4 x 5 x 6 voxels of 1 x 2 x 1.25 mm, CT, -20 to 99 HU)"
    plain = Volume.from_array(voxels("bool"))
    assert repr(plain) == "Volume(4 x 5 x 6 voxels of 1 x 1 x 1 mm, unknown, 0 to 1 arbitrary units)"


def picture(volume: Volume) -> np.ndarray:
    return imread(io.BytesIO(volume._repr_png_()))


def test_a_notebook_shows_three_slices_to_scale():
    array = np.zeros((20, 20, 10), np.float32)
    array[12:, :, :] = 100  # right
    shown = picture(Volume.from_array(array, np.diag([1, 1, 2, 1])))
    assert shown.shape == (256, 3 * 256 + 2 * 4)
    sagittal, coronal, axial = shown[:, :256], shown[:, 260:516], shown[:, 520:]
    for part in (coronal, axial):
        assert part[128, 100] == 0
        assert part[128, 200] == 255
    assert np.unique(sagittal).size == 1
    turned = Volume.from_array(array[::-1], np.diag([-1, 1, 2, 1]))
    assert np.array_equal(picture(turned)[:, 520:], axial)


@pytest.mark.parametrize("shape", [(1, 1, 1), (64, 64, 1), (3, 300, 2)])
@pytest.mark.parametrize("dtype", ["bool", "int16", "float16", "float64"])
@pytest.mark.filterwarnings("error")
def test_odd_volumes_have_pictures_too(shape, dtype):
    shown = picture(Volume.from_array(np.ones(shape, dtype), modality="CT"))
    assert 0 < max(shown.shape) <= 3 * 256 + 8
    faint = picture(Volume.from_array(np.linspace(0, 1e-20, 1000).reshape(10, 10, 10)))
    assert np.ptp(faint) > 200
