from __future__ import annotations

import hashlib

import nibabel as nib
import numpy as np
import pytest
from nifti_files import AFFINES, KINDS, orient, patched, ramp, save

from medrestore.errors import InputError, OutputError
from medrestore.geometry import Geometry
from medrestore.io import read, read_series, write
from medrestore.provenance import Step
from medrestore.types import Modality
from medrestore.volume import Volume

# --- affine and voxels, there and back ---


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("name", AFFINES)
def test_round_trip_keeps_every_voxel_in_place(tmp_path, name, suffix, version):
    save(tmp_path / f"in{suffix}", ramp(), AFFINES[name], version)
    volume = read(tmp_path / f"in{suffix}")
    # As far from the origin as the corner of a large head, whatever the shape of the little test volume.
    big = Geometry((512, 512, 256), volume.geometry.affine)
    assert big.allclose(Geometry(big.shape, AFFINES[name]), tol_mm=1e-4)
    write(volume, tmp_path / f"out{suffix}")
    again = read(tmp_path / f"out{suffix}")
    assert big.allclose(Geometry(big.shape, again.geometry.affine), tol_mm=1e-4)
    assert np.array_equal(again.array, ramp())
    other = nib.load(tmp_path / f"out{suffix}")
    assert np.array_equal(other.get_fdata(), ramp())
    assert big.allclose(Geometry(big.shape, other.affine), tol_mm=1e-4)
    assert isinstance(other, KINDS[version]) and other.header["sizeof_hdr"] == {1: 348, 2: 540}[version]


@pytest.mark.parametrize("name", AFFINES)
def test_array_in_memory_is_written_where_it_lies(tmp_path, name):
    volume = Volume.from_array(ramp(), AFFINES[name])
    write(volume, tmp_path / "out.nii")
    assert read(tmp_path / "out.nii").geometry.allclose(volume.geometry)
    assert nib.load(tmp_path / "out.nii").header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize(("sform_code", "qform_code"), [(1, 1), (4, 1), (2, 0), (0, 1), (0, 0)])
def test_affine_is_nibabels_choice_and_the_codes_survive(tmp_path, sform_code, qform_code):
    path, out = tmp_path / "in.nii", tmp_path / "out.nii"
    orient(path, sform_code, qform_code)
    volume = read(path)
    assert np.allclose(volume.geometry.affine, nib.load(path).affine, atol=1e-6)
    write(volume, out)
    written = nib.load(out)
    assert np.allclose(written.affine, nib.load(path).affine, atol=1e-5)
    header = written.header
    assert int(header["qform_code"]) == qform_code
    # A qform alone is promoted: only the sform holds the affine to 1e-4 mm in NIfTI-1.
    assert int(header["sform_code"]) == (sform_code or qform_code)
    if sform_code and qform_code:
        assert np.allclose(header.get_qform(), AFFINES["anisotropic"], atol=1e-4)


def test_two_forms_that_differ_still_do_on_another_grid(tmp_path):
    """The qform says where the scan was in the scanner, the sform where it is in a template."""
    orient(tmp_path / "in.nii", 4, 1)
    image = nib.load(tmp_path / "in.nii")
    turned = np.array([[0, -1, 0, 30], [1, 0, 0, 20], [0, 0, 1, 10], [0, 0, 0, 1.0]])
    image.header.set_qform(turned @ image.affine, code=1)
    nib.save(image, tmp_path / "two.nii")
    volume = read(tmp_path / "two.nii")
    finer = np.diag([0.5, 1, 1, 1.0])
    finer[0, 3] = -0.25
    grid = Geometry((2 * volume.shape[0], *volume.shape[1:]), volume.geometry.affine @ finer)
    write(volume.on_grid(np.repeat(volume.array, 2, axis=0), grid, Step("test", {})), tmp_path / "out.nii")
    header = nib.load(tmp_path / "out.nii").header
    assert np.allclose(header.get_sform(), grid.affine, atol=1e-4)
    assert np.allclose(header.get_qform(), turned @ grid.affine, atol=1e-3)
    assert (int(header["sform_code"]), int(header["qform_code"])) == (4, 1)


def test_codes_of_a_lost_grid_are_not_kept_as_unknown(tmp_path):
    orient(tmp_path / "in.nii", 0, 0)
    volume = read(tmp_path / "in.nii")
    moved = Volume(volume.array, Geometry(volume.shape, AFFINES["oblique"]), source=volume.source)
    write(moved, tmp_path / "out.nii")
    assert read(tmp_path / "out.nii").geometry.allclose(moved.geometry)


def test_a_finer_grid_of_a_scan_without_a_place_has_none_either(tmp_path):
    orient(tmp_path / "in.nii", 0, 0)
    volume = read(tmp_path / "in.nii")
    assert "which side is left is not known" in volume.source.details["findings"][0]["text"]
    affine = volume.geometry.affine @ np.diag([1, 1, 0.5, 1])
    affine[:3, 3] = volume.geometry.world([0, 0, -0.25])
    fine = Volume(np.repeat(volume.array, 2, axis=2), Geometry((6, 7, 16), affine), source=volume.source)
    write(fine, tmp_path / "out.nii")
    header = nib.load(tmp_path / "out.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)
    assert read(tmp_path / "out.nii").geometry.allclose(fine.geometry, tol_mm=1e-3)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("micron", 1e-3), ("meter", 1e3), ("unknown", 1)])
def test_lengths_are_turned_into_mm(tmp_path, unit, factor):
    image = nib.Nifti1Image(ramp(), np.diag([2.0, 3.0, 4.0, 1.0]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "in.nii")
    assert read(tmp_path / "in.nii").spacing == pytest.approx((2 * factor, 3 * factor, 4 * factor))


# --- values ---


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_real_type_in_both_byte_orders(tmp_path, dtype, order):
    data = ramp((4, 5, 6), order + dtype)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(dtype)
    nib.save(nib.Nifti1Image(data, AFFINES["plain"], header), tmp_path / "in.nii")
    volume = read(tmp_path / "in.nii")
    assert volume.array.dtype == np.float32
    assert volume.array.dtype.isnative
    assert np.array_equal(volume.array, ramp((4, 5, 6)).astype(dtype))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("scale", [(0.25, -1024.0), (-2.0, 7.0), (1.0, 0.5)])
def test_scale_slope_is_honoured_as_nibabel_does(tmp_path, scale, suffix):
    path = tmp_path / f"in{suffix}"
    stored = ramp(dtype="int16")
    image = nib.Nifti1Image(stored, AFFINES["plain"])
    image.header.set_slope_inter(*scale)
    nib.save(image, path)
    volume = read(path)
    assert np.array_equal(volume.array, (stored * scale[0] + scale[1]).astype(np.float32))
    assert np.allclose(volume.array, nib.load(path).get_fdata())


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf])
def test_unset_slope_means_no_scaling(tmp_path, slope):
    save(tmp_path / "in.nii", ramp(dtype="int16"))
    patched(tmp_path / "in.nii", 112, "<ff", slope, 5.0)
    assert np.array_equal(read(tmp_path / "in.nii").array, ramp())


def test_input_type_gives_the_same_stored_values_back(tmp_path):
    image = nib.Nifti1Image(ramp(dtype="int16"), AFFINES["plain"])
    image.header.set_slope_inter(0.1, -3.7)
    nib.save(image, tmp_path / "in.nii.gz")
    report = write(read(tmp_path / "in.nii.gz"), tmp_path / "out.nii.gz", dtype="input")
    out = nib.load(tmp_path / "out.nii.gz")
    assert out.get_data_dtype() == np.int16
    assert (out.dataobj.slope, out.dataobj.inter) == pytest.approx((0.1, -3.7))
    assert np.array_equal(out.dataobj.get_unscaled(), ramp())
    assert report.clipped_voxels == 0


def test_integers_are_rounded_and_clipped_voxels_counted(tmp_path):
    save(tmp_path / "in.nii", ramp((2, 3, 4), "uint8"))
    volume = read(tmp_path / "in.nii")
    values = np.full((2, 3, 4), 7.5, np.float32)
    values[0, 0, :] = [-0.6, 255.4, 255.6, 1e9]
    values[1, 0, :] = [-0.4, 0.0, 2.51, -1e30]
    report = write(volume.with_array(values, Step("test")), tmp_path / "out.nii", dtype="input")
    out = np.asarray(nib.load(tmp_path / "out.nii").dataobj)
    assert out.dtype == np.uint8
    assert out[0, 0].tolist() == [0, 255, 255, 255]
    assert out[1, 0].tolist() == [0, 0, 3, 0]
    assert out[1, 1, 1] == 8
    assert report.clipped_voxels == 4


@pytest.mark.parametrize("dtype", ["int64", "uint64", "int32"])
def test_widest_integers_do_not_wrap_around(tmp_path, dtype):
    volume = Volume.from_array(np.array([[-1e30, 1e30, 5.0]], np.float32))
    report = write(volume, tmp_path / "out.nii", dtype=dtype)
    out = np.asarray(nib.load(tmp_path / "out.nii").dataobj)[0, :, 0]
    assert report.clipped_voxels == 2
    assert out[0] == np.iinfo(dtype).min
    assert out[1] >= np.iinfo(dtype).max // 2 + 1
    assert out[2] == 5


def test_float64_beyond_float32_is_clipped_and_counted_not_infinite(tmp_path):
    report = write(Volume.from_array(np.array([[1e300, 1.0]])), tmp_path / "out.nii")
    assert report.clipped_voxels == 1
    assert np.isfinite(read(tmp_path / "out.nii").array).all()


def test_unknown_output_types_are_refused(tmp_path):
    volume = Volume(ramp(), Geometry((6, 7, 8), np.eye(4)))
    for dtype, words in (("complex64", "expected 'input' or one of"), ("input", "is not known")):
        with pytest.raises(OutputError, match=words):
            write(volume, tmp_path / "out.nii", dtype=dtype)
    assert list(tmp_path.iterdir()) == []


# --- images and series ---


def test_image_of_two_axes_is_one_slice(tmp_path):
    save(tmp_path / "in.nii", ramp((6, 7)))
    volume = read(tmp_path / "in.nii")
    assert volume.shape == (6, 7, 1)
    write(volume, tmp_path / "out.nii.gz", dtype="input")
    again = read(tmp_path / "out.nii.gz")
    assert again.geometry.allclose(volume.geometry)
    assert np.array_equal(again.array[:, :, 0], ramp((6, 7)))


def test_series_is_read_volume_by_volume_and_written_back(tmp_path):
    data = ramp((4, 5, 6, 3), "int16")
    image = nib.Nifti2Image(data, AFFINES["oblique"])
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = 2500.0
    nib.save(image, tmp_path / "in.nii.gz")
    with pytest.raises(InputError, match=r"3 volumes.*read_series"):
        read(tmp_path / "in.nii.gz")
    series = read_series(tmp_path / "in.nii.gz")
    assert len(series) == 3
    for index, volume in enumerate(series):
        assert np.array_equal(volume.array, data[..., index])
        assert volume.source.details["volume"] == index
    write(series, tmp_path / "out.nii.gz", dtype="input")
    out = nib.load(tmp_path / "out.nii.gz")
    assert np.array_equal(np.asarray(out.dataobj), data)
    assert out.header.get_xyzt_units() == ("mm", "msec")
    assert out.header.get_zooms()[3] == 2500.0
    assert out.header["sizeof_hdr"] == 540


def test_series_of_one_is_a_volume(tmp_path):
    save(tmp_path / "in.nii", ramp((4, 5, 6, 1)))
    assert read(tmp_path / "in.nii").shape == (4, 5, 6)
    assert len(read_series(tmp_path / "in.nii")) == 1


def test_series_on_two_grids_is_refused(tmp_path):
    volumes = [Volume.from_array(ramp()), Volume.from_array(ramp(), np.diag([1, 1, 1.01, 1]))]
    with pytest.raises(OutputError, match="volume 1 lies on another grid"):
        write(volumes, tmp_path / "out.nii")
    with pytest.raises(OutputError, match="no volume"):
        write([], tmp_path / "out.nii")


def test_bad_voxel_in_a_series_names_its_volume(tmp_path):
    data = ramp((4, 5, 6, 3))
    data[1, 2, 3, 1] = np.nan
    save(tmp_path / "in.nii", data)
    with pytest.raises(InputError, match=r"in\.nii.*1 of 120 .*\(1, 2, 3\).*volume 1 of 3"):
        read_series(tmp_path / "in.nii")


# --- what goes out and what stays in ---


def test_texts_and_extensions_of_the_input_are_not_copied(tmp_path):
    secret = b"DOE^JANE 1970"
    image = nib.Nifti1Image(ramp(), AFFINES["plain"])
    for field, size in (("descrip", 80), ("aux_file", 24), ("intent_name", 16), ("db_name", 18)):
        image.header[field] = secret[:size]
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", secret))
    nib.save(image, tmp_path / "in.nii")
    volume = read(tmp_path / "in.nii")
    assert np.array_equal(volume.array, ramp())
    write(volume, tmp_path / "out.nii", dtype="input")
    assert secret in (tmp_path / "in.nii").read_bytes()
    assert b"JANE" not in (tmp_path / "out.nii").read_bytes()
    assert nib.load(tmp_path / "out.nii").header["descrip"] == b"medrestore"
    assert "JANE" not in repr(volume.source)


def test_source_and_report_carry_the_hashes_of_the_files(tmp_path):
    save(tmp_path / "in.nii.gz", ramp())
    volume = read(tmp_path / "in.nii.gz")
    assert volume.source.sha256 == hashlib.sha256((tmp_path / "in.nii.gz").read_bytes()).hexdigest()
    report = write(volume, tmp_path / "out.nii.gz")
    assert report.path == tmp_path / "out.nii.gz"
    assert report.sha256 == hashlib.sha256(report.path.read_bytes()).hexdigest()


def test_same_voxels_make_the_same_bytes_under_any_name(tmp_path):
    volume = Volume.from_array(ramp())
    assert write(volume, tmp_path / "a.nii.gz").sha256 == write(volume, tmp_path / "b.nii.gz").sha256


def test_existing_output_is_kept_unless_told_otherwise(tmp_path):
    path = tmp_path / "out.nii"
    write(Volume.from_array(ramp()), path)
    with pytest.raises(OutputError, match="exists already"):
        write(Volume.from_array(ramp() * 2), path)
    assert np.array_equal(read(path).array, ramp())
    write(Volume.from_array(ramp() * 2), path, overwrite=True)
    assert np.array_equal(read(path).array, ramp() * 2)


@pytest.mark.parametrize("name", ["out.mgz", "out", "out.nii.bz2", "out.gz"])
def test_other_suffixes_are_refused(tmp_path, name):
    with pytest.raises(OutputError, match=r"expected an ending of \.nii\.gz, \.nii"):
        write(Volume.from_array(ramp()), tmp_path / name)


@pytest.mark.parametrize(
    ("name", "modality", "units"),
    [
        ("sub-01_T1w.nii", Modality.MR, "arbitrary"),
        ("sub-01_ses-2_run-1_FLAIR.nii.gz", Modality.MR, "arbitrary"),
        ("x_t2w.nii", Modality.MR, "arbitrary"),
        ("head_ct.nii", Modality.CT, "HU"),
        ("ct.nii", Modality.UNKNOWN, "arbitrary"),
        ("abstract.nii", Modality.UNKNOWN, "arbitrary"),
        ("T1w_mask.nii", Modality.UNKNOWN, "arbitrary"),
    ],
)
def test_modality_comes_from_a_bids_like_name(tmp_path, name, modality, units):
    save(tmp_path / name, ramp())
    volume = read(tmp_path / name)
    assert (volume.modality, volume.units) == (modality, units)


def test_strided_arrays_are_written_in_the_right_order(tmp_path):
    data = np.random.default_rng(0).normal(size=(12, 14, 16)).astype(np.float32)
    write(Volume.from_array(data[::2, ::-1, 3:].transpose(2, 0, 1)), tmp_path / "out.nii")
    assert np.array_equal(
        np.asarray(nib.load(tmp_path / "out.nii").dataobj), data[::2, ::-1, 3:].transpose(2, 0, 1)
    )


def test_axis_too_long_for_nifti_1_is_written_as_nifti_2(tmp_path):
    write(Volume.from_array(np.zeros((40000, 1, 1), np.float32)), tmp_path / "out.nii")
    assert nib.load(tmp_path / "out.nii").header["sizeof_hdr"] == 540
    assert read(tmp_path / "out.nii").shape == (40000, 1, 1)
