"""Headers with fields that make no sense: read where nibabel and ITK agree on them, else refused."""

from __future__ import annotations

import io
import struct
import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nifti_files import AFFINES, affine_of

from medrestore.errors import GeometryError, InputError
from medrestore.findings import BYTES_BEHIND_VOXELS, FIELDS_IGNORED, PLACE_MENDED
from medrestore.geometry import Geometry, lps_to_ras
from medrestore.io import read, reading_findings

sitk = pytest.importorskip("SimpleITK", reason="needs SimpleITK")

SHAPE = (9, 8, 7)
VOXELS = np.random.default_rng(0).integers(0, 2000, SHAPE).astype("<i2")
SCAN = affine_of((20, -15, 40), (2.0, 1.5, 3.0), (-10, 5, 7))
OTHER = affine_of((5, 10, 0), (2.0, 1.5, 3.0), (1, 2, 3))
NAN, INF = float("nan"), float("inf")

FIELDS = {
    **{"sizeof_hdr": (0, "i"), "dim0": (40, "h"), "bitpix": (72, "h"), "vox_offset": (108, "f")},
    **{"qfac": (76, "f"), "pixdim1": (80, "f"), "pixdim3": (88, "f"), "xyzt_units": (123, "B")},
    **{"qform_code": (252, "h"), "sform_code": (254, "h"), "quatern_b": (256, "f"), "qoffset_x": (268, "f")},
    **{"srow": (280, "12f"), "magic": (344, "4s")},
}
"""Where a field of NIfTI-1 lies, and how it is stored."""


def header(sform: int, qform: int, affine=SCAN, other=SCAN, order: str = "<") -> bytearray:
    """Return the 352 bytes before the voxels: a sform with the one affine, a qform with the other."""
    made = nib.Nifti1Header(endianness=order)
    made.set_data_dtype("i2")
    made.set_data_shape(SHAPE)
    made.set_qform(other, code=qform)
    made.set_sform(affine, code=sform)
    made.set_xyzt_units("mm")
    made["vox_offset"] = 352
    stream = io.BytesIO()
    made.write_to(stream)
    return bytearray(stream.getvalue()[:352].ljust(352, b"\0"))


def changed(block: bytearray, order: str = "<", **fields) -> bytearray:
    for name, value in fields.items():
        at, form = FIELDS[name]
        struct.pack_into(order + form, block, at, *(value if isinstance(value, tuple) else (value,)))
    return block


def saved(path: Path, block: bytearray, order: str = "<", behind: bytes = b"") -> Path:
    path.write_bytes(bytes(block) + VOXELS.astype(f"{order}i2").tobytes(order="F") + behind)
    return path


def by_nibabel(path: Path) -> tuple[Geometry, np.ndarray] | None:
    try:
        image = nib.load(path)
        return Geometry(image.shape, image.affine), np.asarray(image.dataobj)
    except (GeometryError, OSError, ValueError, nib.spatialimages.HeaderDataError):
        return None


def by_itk(path: Path) -> tuple[Geometry, np.ndarray] | None:
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    reader.SetFileName(str(path))
    try:
        image = reader.Execute()
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        return Geometry(image.GetSize(), lps_to_ras(affine)), sitk.GetArrayFromImage(image).T
    except (RuntimeError, GeometryError):
        return None


def cases() -> dict[str, bytearray]:
    """Return headers with a field of every kind that makes no sense, under every pair of form codes."""
    found = {}
    for code in (-1, 6, 99, 256):
        for other in (0, 1, 2):
            for name, affine in (("same", SCAN), ("elsewhere", OTHER), ("sheared", AFFINES["sheared"])):
                key = f"{other} {name}"
                found[f"sform_code {code}, {key}"] = changed(header(1, other, affine), sform_code=code)
                found[f"qform_code {code}, {key}"] = changed(header(other, 1, affine), qform_code=code)
    values = {
        "pixdim1": (0.0, -2.0, -3.0, NAN, INF, -INF),
        "pixdim3": (0.0, -3.0, NAN, INF),
        "qfac": (-2.0, 2.0, NAN, INF),
        "quatern_b": (2.0, 1.0, NAN, INF),
        "qoffset_x": (NAN, INF),
        "srow": ((0.0,) * 12, (NAN,) * 12, (INF, *(0.0,) * 11), (1.0, 0, 0, 0, 0, 1.0, *(0.0,) * 6)),
    }
    for field, bad in values.items():
        for value in bad:
            for codes in ((1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (4, 2)):
                # A form without a code is not looked at.
                used = field.startswith("pixdim") or codes[0 if field == "srow" else 1]
                if not used:
                    continue
                found[f"{field} {value}, {codes}"] = changed(header(*codes), **{field: value})
    for field, bad in {
        "sizeof_hdr": (0, 12345, 349, 540, 0x5C010000),
        "bitpix": (0, 1, 8, 99),
        "magic": (b"ni1\0",),
        "xyzt_units": (7, 255),
    }.items():
        for value in bad:
            found[f"{field} {value}"] = changed(header(1, 1), **{field: value})
    return found


CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_a_field_that_makes_no_sense(tmp_path, name):
    """The rule: a sound sform is enough; else nibabel and ITK decide, who must agree."""
    path = saved(tmp_path / "scan.nii", CASES[name])
    one, two = by_nibabel(path), by_itk(path)
    agree = one is not None and two is not None and one[0].allclose(two[0], tol_mm=1e-3)
    if agree:
        assert np.array_equal(one[1], two[1])
    try:
        volume = read(path)
    except GeometryError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        field = name.split(" ")[0].replace("pixdim", "pixdim[").replace("qfac", "pixdim[0")
        assert not agree
        assert field in refused or "form in the header" in refused
        return
    (finding,) = reading_findings(volume)
    assert finding.code in (PLACE_MENDED.code, FIELDS_IGNORED.code)
    assert np.array_equal(volume.array, VOXELS)
    places = [found[0] for found in (one, two) if found is not None]
    sform_is_nan = name.startswith("srow (nan")  # which ITK takes for a place
    assert sform_is_nan or any(volume.geometry.allclose(place, tol_mm=1e-3) for place in places)
    if agree:
        assert volume.geometry.allclose(one[0], tol_mm=1e-3)
    elif finding.code == PLACE_MENDED.code and "sform" in finding.text.rpartition("; ")[2]:
        assert "elsewhere" in finding.text


def test_the_cases_are_of_both_kinds(tmp_path):
    agreed = 0
    for block in CASES.values():
        path = saved(tmp_path / "scan.nii", block)
        one, two = by_nibabel(path), by_itk(path)
        agreed += one is not None and two is not None and one[0].allclose(two[0], tol_mm=1e-3)
    assert 0.3 < agreed / len(CASES) < 0.8


@pytest.mark.parametrize("codes", [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (4, 2), (5, 5)])
def test_a_sound_header_has_no_finding_of_its_fields(tmp_path, codes):
    found = reading_findings(read(saved(tmp_path / "scan.nii", header(*codes))))
    assert [finding.code for finding in found] == (["place-not-stated"] if codes == (0, 0) else [])


@pytest.mark.parametrize("value", [0.0, NAN, INF])
def test_a_scan_without_a_place_needs_its_voxel_sizes(tmp_path, value):
    path = saved(tmp_path / "scan.nii", changed(header(0, 0), pixdim3=value))
    with pytest.raises(GeometryError, match=r"pixdim\[3\] is"):
        read(path)


def test_a_form_that_is_not_believed_is_not_written_again(tmp_path):
    from medrestore.io import write

    path = saved(tmp_path / "scan.nii", changed(header(1, 1, OTHER), srow=(0.0,) * 12))
    write(read(path), tmp_path / "out.nii")
    again = by_nibabel(tmp_path / "out.nii")
    assert again[0].allclose(Geometry(SHAPE, SCAN), tol_mm=1e-3)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("extension", "sound"),
    [
        (("ii", 32, 6), True),
        (("ii", 0, 0), False),
        (("ii", 8, 6), False),
        (("ii", 20, 6), False),
        (("ii", 1 << 30, 6), False),
        (("ii", -16, 6), False),
    ],
)
def test_damaged_extensions_change_no_voxel(tmp_path, order, extension, sound):
    form, *values = extension
    block = changed(header(1, 1, order=order), order, vox_offset=384.0)
    block[348] = 1
    block += struct.pack(order + form, *values).ljust(32, b"\0")
    path = saved(tmp_path / "scan.nii", block, order)
    volume = read(path)
    itk = by_itk(path)
    assert np.array_equal(volume.array, itk[1])
    assert volume.geometry.allclose(itk[0], tol_mm=1e-3)
    assert [finding.code for finding in reading_findings(volume)] == ([] if sound else ["fields-ignored"])


@pytest.mark.parametrize("offset", [353.0, 360.0, 368.5])
def test_an_odd_offset_is_kept_to(tmp_path, offset):
    block = changed(header(1, 1), vox_offset=offset) + bytes(int(offset) - 352)
    path = saved(tmp_path / "scan.nii", block)
    assert np.array_equal(read(path).array, VOXELS)
    assert np.array_equal(by_itk(path)[1], VOXELS)


@pytest.mark.parametrize("offset", [0.0, 1.0, 348.0, 351.0, -352.0, NAN, INF, 1e9])
def test_an_offset_that_leads_nowhere_is_refused(tmp_path, offset):
    with pytest.raises(InputError, match=r"vox_offset|voxels from byte"):
        read(saved(tmp_path / "scan.nii", changed(header(1, 1), vox_offset=offset)))


@pytest.mark.parametrize("behind", [b"\0", b"x" * 1000, bytes(5000)])
def test_bytes_behind_the_voxels_are_counted(tmp_path, behind):
    path = saved(tmp_path / "scan.nii", header(1, 1), behind=behind)
    volume = read(path)
    assert np.array_equal(volume.array, by_nibabel(path)[1])
    (finding,) = reading_findings(volume)
    assert (finding.code, finding.data["bytes"]) == (BYTES_BEHIND_VOXELS.code, len(behind))


ARCHIVE = Path(__file__).resolve().parents[4] / "shared" / "cases" / "cases.tar.xz"


@pytest.fixture(scope="module")
def files_of_people(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    with tarfile.open(ARCHIVE) as archive:
        members = [one for one in archive.getmembers() if "nifti/" in one.name and one.isfile()]
        archive.extractall(folder, members, filter="data")
    return next(folder.rglob("code_neg.nii")).parent


@pytest.mark.skipif(not ARCHIVE.is_file(), reason="needs ../shared/cases")
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("code_neg.nii", "place-mended"),
        ("qform_code99_s1.nii", "place-mended"),
        ("sform99.nii", "place-mended"),
        ("sform_zero_q1.nii", "place-mended"),
        ("magic_ni1.nii", "fields-ignored"),
        ("gz_trailing_garbage.nii.gz", "bytes-behind-voxels"),
        ("gz_bitflip.nii.gz", ""),
        ("gz_badcrc.nii.gz", ""),
    ],
)
def test_the_files_that_people_have(files_of_people, name, code):
    path = files_of_people / name
    if not code:
        with pytest.raises(InputError, match="damaged gzip stream"):
            read(path)
        return
    volume = read(path)
    assert [finding.code for finding in reading_findings(volume)] == [code]
    assert np.array_equal(volume.array, by_itk(path)[1])
    assert volume.geometry.allclose(by_itk(path)[0], tol_mm=1)
