"""NIfTI files that are refused, and oddities that are not."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from nifti_files import orient, patched, ramp, save

from medrestore.errors import GeometryError, InputError
from medrestore.io import read


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_refused(tmp_path, suffix, bad):
    data = ramp()
    data[2, 3, 4] = bad
    save(tmp_path / f"in{suffix}", data)
    with pytest.raises(InputError, match=r"in\.nii.*1 of 336 voxels are not finite.*\(2, 3, 4\)"):
        read(tmp_path / f"in{suffix}")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_empty_and_truncated_files_are_refused(tmp_path, suffix):
    rng = np.random.default_rng(0)
    whole = tmp_path / f"whole{suffix}"
    save(whole, rng.normal(size=(12, 12, 12)).astype(np.float32))
    content = whole.read_bytes()
    for keep in [0, 1, 2, 3, 40, 200, 400, len(content) // 2, len(content) - 9, len(content) - 1]:
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(content[:keep])
        with pytest.raises(InputError, match=r"cut\.nii"):
            read(path)


def test_flipped_bit_in_a_gzip_stream_is_noticed(tmp_path):
    path = tmp_path / "in.nii.gz"
    data = np.random.default_rng(0).normal(size=(12, 12, 12)).astype(np.float32)
    save(path, data)
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[1000] ^= 1
    # The same stream with the checksum of the undamaged data.
    bad = bytearray(gzip.compress(bytes(raw)))
    bad[-8:-4] = struct.pack("<I", zlib.crc32(gzip.decompress(path.read_bytes())))
    path.write_bytes(bad)
    with pytest.raises(InputError, match="damaged gzip stream"):
        read(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("version", [1, 2])
def test_declared_size_is_checked_before_memory_is_taken(tmp_path, version, suffix):
    path = tmp_path / "in.nii"
    save(path, ramp(), version=version)
    if version == 1:
        patched(path, 42, "<3h", 30000, 30000, 30000)
    else:
        patched(path, 24, "<3q", 1 << 40, 1 << 40, 1 << 40)
    if suffix == ".nii.gz":
        path = tmp_path / "in.nii.gz"
        path.write_bytes(gzip.compress((tmp_path / "in.nii").read_bytes()))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"declares \d+ bytes of voxels"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_gzip_stream_that_could_hold_the_data_but_ends_early_is_refused(tmp_path):
    path = tmp_path / "in.nii"
    save(path, ramp((20, 20, 20)))
    patched(path, 42, "<3h", 20, 20, 40)
    (tmp_path / "in.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match=r"in\.nii\.gz: the data end at about byte 32352"):
        read(tmp_path / "in.nii.gz")


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        (np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]), "RGB colour"),
        (np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")]), "RGBA colour"),
        (np.dtype("complex64"), "complex"),
    ],
)
def test_colour_and_complex_voxels_are_refused(tmp_path, dtype, words):
    save(tmp_path / "in.nii", np.zeros((4, 5, 6), dtype))
    with pytest.raises(InputError, match=words):
        read(tmp_path / "in.nii")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_voxels_of_one_bit_are_refused(tmp_path, suffix):
    path = tmp_path / "in.nii"
    save(path, ramp((8, 6, 7), "uint8"))
    patched(path, 70, "<2h", 1, 1)  # datatype and bits of a voxel
    content = path.read_bytes()[: 352 + 8 * 6 * 7 // 8]
    (tmp_path / f"mask{suffix}").write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    with pytest.raises(InputError, match=r"mask\.nii.*voxels are of one bit \(NIfTI datatype 1\)"):
        read(tmp_path / f"mask{suffix}")


@pytest.mark.parametrize(
    ("offset", "form", "values", "words"),
    [
        (280, "<4f", (0, 0, 0, 0), "unusable sform.*singular"),
        (296, "<f", (np.nan,), "unusable sform.*nan in row 1"),
        (300, "<f", (np.inf,), "unusable sform.*inf in row 1"),
    ],
)
def test_affines_without_a_place_in_space_are_refused(tmp_path, offset, form, values, words):
    save(tmp_path / "in.nii", ramp())
    patched(tmp_path / "in.nii", offset, form, *values)
    with pytest.raises(GeometryError, match=words):
        read(tmp_path / "in.nii")


@pytest.mark.parametrize(
    ("codes", "patch", "words"),
    [
        ((1, 0), (254, "<h", 10), "sform_code is 10"),
        ((0, 1), (252, "<h", -1), "qform_code is -1"),
        ((0, 1), (84, "<f", -1.5), r"pixdim\[2\] is -1.5"),
        ((0, 1), (84, "<f", np.nan), r"pixdim\[2\] is nan"),
        ((0, 1), (76, "<f", -2.0), r"pixdim\[0\] is -2"),
        ((0, 0), (88, "<f", 0.0), r"pixdim\[3\] is 0"),
    ],
)
def test_a_place_is_not_guessed(tmp_path, codes, patch, words):
    orient(tmp_path / "in.nii", *codes)
    patched(tmp_path / "in.nii", *patch)
    with pytest.raises(GeometryError, match=words):
        read(tmp_path / "in.nii")


def test_voxel_sizes_that_nothing_needs_may_be_missing(tmp_path):
    affine, _ = orient(tmp_path / "in.nii", 1, 0)
    patched(tmp_path / "in.nii", 84, "<f", 0.0)
    assert np.allclose(read(tmp_path / "in.nii").geometry.affine, affine, atol=1e-4)


def test_impossible_quaternion_is_refused(tmp_path):
    orient(tmp_path / "in.nii", 0, 1)
    patched(tmp_path / "in.nii", 256, "<3f", 2.0, 2.0, 2.0)
    with pytest.raises(GeometryError, match="unusable qform"):
        read(tmp_path / "in.nii")


@pytest.mark.parametrize(
    ("offset", "form", "values", "words"),
    [
        (42, "<h", (-6,), "expected 2 to 4 positive ones"),
        (44, "<h", (0,), "expected 2 to 4 positive ones"),
        (40, "<h", (1,), "expected 2 to 4 positive ones"),
        (40, "<6h", (5, 1, 2, 3, 1, 56), "5 axes"),
        (70, "<h", (0,), "unknown type"),
        (70, "<h", (777,), "damaged NIfTI-1 header"),
        (108, "<f", (20.0,), "damaged NIfTI-1 header"),
        (108, "<f", (np.nan,), "damaged NIfTI-1 header"),
        (112, "<2f", (1.0, np.nan), "damaged NIfTI-1 header"),
        (344, "4s", (b"\0\0\0\0",), "Analyze"),
        (344, "4s", (b"XYZ\0",), "none of NIfTI's"),
        (108, "<f", (0.0,), "vox_offset is 0"),
    ],
)
def test_headers_that_make_no_sense_are_refused(tmp_path, offset, form, values, words):
    save(tmp_path / "in.nii", ramp())
    patched(tmp_path / "in.nii", offset, form, *values)
    with pytest.raises(InputError, match=words):
        read(tmp_path / "in.nii")


def test_harmless_oddities_of_a_header_are_read_as_nibabel_does(tmp_path):
    save(tmp_path / "in.nii", ramp())
    patched(tmp_path / "in.nii", 76, "<f", 0.0)  # qfac
    patched(tmp_path / "in.nii", 123, "<B", 7)  # units that NIfTI does not define
    assert np.array_equal(read(tmp_path / "in.nii").array, ramp())


@pytest.mark.parametrize(
    "content", [b"hello, I am no image", b"\x89PNG\r\n\x1a\n" + bytes(600), b"\x1f\x8bnot gzip"]
)
def test_other_files_are_refused_whatever_their_name(tmp_path, content):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"scan\.nii\.gz"):
        read(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.nii: no such file"):
        read(tmp_path / "nowhere.nii")


def test_content_counts_not_the_name(tmp_path):
    save(tmp_path / "in.nii.gz", ramp())
    (tmp_path / "in.nii.gz").rename(tmp_path / "scan")
    assert np.array_equal(read(tmp_path / "scan").array, ramp())
