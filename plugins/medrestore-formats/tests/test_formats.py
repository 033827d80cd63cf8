"""Every format against the library that reads it; what is refused, and what is written."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import medrestore_formats
import nibabel as nib
import numpy as np
import pytest

from medrestore import ReadRequest, Volume
from medrestore.errors import InputError, MedrestoreError, OutputError
from medrestore.geometry import Geometry, lps_to_ras

sitk = pytest.importorskip("SimpleITK", reason="needs SimpleITK")

FORMATS = {spec.name: spec.load() for spec in medrestore_formats.medrestore_formats()}
WRITTEN = sorted(name for name, one in FORMATS.items() if one.write is not None)
ANGLE = np.deg2rad(23)
AXIAL = np.eye(3)
OBLIQUE = np.array(
    [[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]]
) @ np.array([[1, 0, 0], [0, np.cos(0.4), -np.sin(0.4)], [0, np.sin(0.4), np.cos(0.4)]])
DIRECTIONS = {
    "axial": AXIAL,
    "oblique": OBLIQUE,
    "flipped": AXIAL * [1, -1, -1],
    "left-handed": OBLIQUE * [-1, 1, 1],
    "sagittal": AXIAL[:, [1, 2, 0]],
}


def volume(count: int | None = None, direction: np.ndarray = OBLIQUE, dtype: str = "float32"):
    """One scan on an anisotropic grid away from the origin, or several on one."""
    affine = np.eye(4)
    affine[:3, :3] = direction * [0.9, 1.1, 2.3]
    affine[:3, 3] = -77.25, 33.1, 121.7
    random = np.random.default_rng(4)
    scans = [
        Volume.from_array((random.normal(50, 20, (5, 6, 7))).astype(dtype), affine) for _ in range(count or 1)
    ]
    return scans if count else scans[0]


def read(path: Path, name: str):
    header = FORMATS[name].header(path, ReadRequest())
    return header, FORMATS[name].read(header)


def geometry_of_sitk(path: Path) -> Geometry:
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, 3] = image.TransformContinuousIndexToPhysicalPoint((0.0, 0.0, 0.0))
    for axis in range(3):
        index = [0.0, 0.0, 0.0]
        index[axis] = 1.0
        affine[:3, axis] = np.subtract(image.TransformContinuousIndexToPhysicalPoint(index), affine[:3, 3])
    return Geometry(image.GetSize(), lps_to_ras(affine))


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=list(DIRECTIONS))
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["nrrd", "nhdr", "mha", "mhd"])
def test_what_simpleitk_writes_is_read_as_it_reads_it(tmp_path, name, compressed, direction):
    path, scan = tmp_path / f"head_T1w.{name}", volume(direction=direction)
    sitk.WriteImage(scan.to_sitk(), str(path), compressed)
    header, (found,) = read(path, name)
    assert found.geometry.allclose(geometry_of_sitk(path), 1e-4)
    assert found.geometry.allclose(scan.geometry, 1e-4)
    assert np.array_equal(found.array, scan.array) and found.array.dtype == np.float32
    assert (header.volumes, found.modality, header.stated) == (1, "MR", "MR")
    files = [path] if name in {"nrrd", "mha"} else list(FORMATS[name].files(path))
    sums = sorted(hashlib.sha256(one.read_bytes()).hexdigest() for one in files)
    joined = sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
    assert len(files) == (1 if name in {"nrrd", "mha"} else 2) and found.source.sha256 == joined


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=list(DIRECTIONS))
@pytest.mark.parametrize("name", ["mgz", "mgh"])
def test_what_nibabel_writes_is_read_as_it_reads_it(tmp_path, name, direction):
    path, scan = tmp_path / f"head.{name}", volume(direction=direction)
    nib.save(nib.MGHImage(np.asarray(scan), scan.geometry.affine), path)
    _, (found,) = read(path, "mgz")
    assert found.geometry.allclose(Geometry(scan.shape, nib.load(path).affine), 1e-4)
    assert found.geometry.allclose(scan.geometry, 1e-4) and np.array_equal(found.array, scan.array)
    assert "findings" not in found.source.details


@pytest.mark.parametrize("kind", ["AnalyzeImage", "Spm99AnalyzeImage", "Spm2AnalyzeImage"])
@pytest.mark.parametrize("ending", ["hdr", "img"])
def test_a_pair_is_read_as_nibabel_reads_it_by_either_of_its_names(tmp_path, kind, ending):
    scan = volume()
    image = getattr(nib, kind)(np.asarray(scan), np.diag([-0.9, 1.1, 2.3, 1]))
    nib.save(image, tmp_path / "head.img")
    (tmp_path / "head.mat").unlink(missing_ok=True)
    path, expected = tmp_path / f"head.{ending}", nib.load(tmp_path / "head.img")
    _, (found,) = read(path, "analyze")
    assert np.allclose(found.geometry.affine, expected.affine, atol=1e-4)
    assert np.array_equal(found.array, expected.get_fdata(dtype=np.float32))
    assert "which side is left" in found.source.details["findings"][0]["text"]
    assert list(FORMATS["analyze"].files(path)) == [tmp_path / "head.hdr", tmp_path / "head.img"]


def test_a_matrix_of_spm_says_where_a_pair_lies(tmp_path):
    scan = volume()
    nib.save(nib.Spm2AnalyzeImage(np.asarray(scan), scan.geometry.affine), tmp_path / "head.img")
    _, (found,) = read(tmp_path / "head.img", "analyze")
    assert found.geometry.allclose(scan.geometry, 1e-4) and "findings" not in found.source.details
    assert [one.suffix for one in FORMATS["analyze"].files(tmp_path / "head.hdr")] == [".hdr", ".img", ".mat"]


def test_scaled_integers_are_what_nibabel_makes_of_them(tmp_path):
    image = nib.Spm2AnalyzeImage(np.asarray(volume()), np.diag([-1.0, 1, 1, 1]))
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "head.img")
    _, (found,) = read(tmp_path / "head.img", "analyze")
    expected = nib.load(tmp_path / "head.img")
    assert expected.dataobj.slope != 1
    assert np.array_equal(found.array, expected.get_fdata().astype(np.float32))
    assert found.source.details["dtype"] == "int16"
    assert found.source.details["slope"] == pytest.approx(float(expected.dataobj.slope))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float64"])
def test_numbers_of_any_type_are_read_by_value(tmp_path, dtype):
    scan = volume(dtype=dtype)
    for name in ("nrrd", "mha"):
        sitk.WriteImage(scan.to_sitk(), str(tmp_path / f"a.{name}"))
        _, (found,) = read(tmp_path / f"a.{name}", name)
        assert np.array_equal(found.array, scan.array.astype(np.float32))
        assert found.source.details == {"dtype": dtype, "slope": 1.0, "inter": 0.0}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_is_read_back_in_the_same_place(tmp_path, name, count):
    path, scans = tmp_path / f"a{FORMATS[name].suffixes[0]}", volume(count)
    stored = FORMATS[name].write(scans, path, "float32")
    header, found = read(path, name)
    assert (stored.dtype, stored.clipped_voxels, header.volumes) == ("float32", 0, count)
    for one, scan in zip(found, scans, strict=True):
        assert one.geometry.allclose(scan.geometry, 1e-4) and np.array_equal(one.array, scan.array)
        assert "findings" not in one.source.details
    before = path.read_bytes()
    FORMATS[name].write(scans, path, "float32")
    assert path.read_bytes() == before, "the same voxels make the same bytes"


@pytest.mark.parametrize("name", WRITTEN)
def test_integers_are_rounded_and_what_they_do_not_hold_is_counted(tmp_path, name):
    path, scan = tmp_path / f"a{FORMATS[name].suffixes[0]}", volume()
    wide = Volume.from_array(scan.array * 10000, scan.geometry.affine)
    stored = FORMATS[name].write([wide], path, "int16")
    _, (found,) = read(path, name)
    fits = np.abs(wide.array) < 32767
    assert stored.clipped_voxels == np.count_nonzero(~fits) > 0
    assert np.array_equal(found.array[fits], np.rint(wide.array[fits]))
    with pytest.raises(OutputError, match="voxel type 'bool', expected"):
        FORMATS[name].write([wide], path, "bool")


@pytest.mark.parametrize("name", WRITTEN)
def test_no_text_of_a_header_goes_into_what_is_written(tmp_path, name):
    image = volume().to_sitk()
    for key in ("Name", "Comment", "Doe^Jane"):
        image.SetMetaData(key, "CANARY")
    sitk.WriteImage(image, str(tmp_path / "in.nrrd"))
    _, scans = read(tmp_path / "in.nrrd", "nrrd")
    FORMATS[name].write(scans, path := tmp_path / f"out{FORMATS[name].suffixes[0]}", "float32")
    assert b"CANARY" in (tmp_path / "in.nrrd").read_bytes() and "CANARY" not in str(scans[0].source)
    assert b"CANARY" not in path.read_bytes()


def write_mgh(path: Path, start: int, changed: bytes) -> None:
    """A file with other bytes in its header."""
    nib.save(nib.MGHImage(np.zeros((2, 3, 4), np.float32), np.diag([1.0, 2, 3, 1])), path)
    whole = bytearray(path.read_bytes())
    whole[start : start + len(changed)] = changed
    path.write_bytes(whole)


def nrrd(*lines: str, voxels: bytes = bytes(4 * 24), shape: str = "sizes: 2 3 4") -> bytes:
    head = ["NRRD0005", "type: float", "dimension: 3", shape, "endian: little", "encoding: raw", *lines]
    return "\n".join([*head, "", ""]).encode() + voxels


@pytest.mark.parametrize("axis", [0, 3])
def test_an_axis_of_kind_list_is_a_series_wherever_it_stands(tmp_path, axis):
    values = np.arange(2 * 24, dtype="<f4").reshape(2, 4, 3, 2)
    kinds, sizes, places = ["domain"] * 3, ["2", "3", "4"], ["(1,0,0)", "(0,2,0)", "(0,0,3)"]
    for words, one in ((kinds, "list"), (sizes, "2"), (places, "none")):
        words.insert(axis, one)
    lines = ["NRRD0005", "type: float", "dimension: 4", "space: RAS", f"sizes: {' '.join(sizes)}"]
    lines += [f"space directions: {' '.join(places)}", f"kinds: {' '.join(kinds)}", "endian: little"]
    lines += ["encoding: raw", "space origin: (1,2,3)", "", ""]
    stored = values if axis == 3 else np.moveaxis(values, 0, -1)
    (tmp_path / "a.nrrd").write_bytes("\n".join(lines).encode() + stored.tobytes())
    header, found = read(tmp_path / "a.nrrd", "nrrd")
    assert header.volumes == 2
    assert np.allclose(header.geometry.affine, [[1, 0, 0, 1], [0, 2, 0, 2], [0, 0, 3, 3], [0, 0, 0, 1]])
    for one, expected in zip(found, values, strict=True):
        assert np.array_equal(one.array, expected.T)


def test_what_does_not_say_where_it_lies_is_read_with_a_note(tmp_path):
    (tmp_path / "a.nrrd").write_bytes(nrrd("spacings: 1 2 3"))
    text = "ObjectType = Image\nNDims = 3\nDimSize = 2 3 4\nElementType = MET_FLOAT\nElementSpacing = 1 2 3\n"
    (tmp_path / "a.mha").write_bytes(text.encode() + b"ElementDataFile = LOCAL\n" + bytes(96))
    write_mgh(tmp_path / "a.mgh", 28, bytes(2))
    for name in ("nrrd", "mha", "mgz"):
        _, (found,) = read(tmp_path / ("a.mgh" if name == "mgz" else f"a.{name}"), name)
        assert "which side is left" in found.source.details["findings"][0]["text"]


def test_an_image_is_a_volume_of_one_slice(tmp_path):
    image = sitk.GetImageFromArray(np.arange(12, dtype=np.float32).reshape(4, 3))
    image.SetSpacing((0.5, 2.0))
    for name in ("nrrd", "mha"):
        sitk.WriteImage(image, str(tmp_path / f"a.{name}"))
        _, (found,) = read(tmp_path / f"a.{name}", name)
        assert (found.shape, found.spacing) == ((3, 4, 1), (0.5, 2.0, 1.0))


def refused(path: Path, name: str) -> str:
    """The sentence with which a file is refused, by its header or by its voxels."""
    with pytest.raises(MedrestoreError) as error:
        read(path, name)
    assert str(error.value).startswith(str(path)) and "CANARY" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["nrrd", "mha"])
def test_colour_vectors_and_complex_numbers_are_refused(tmp_path, name):
    path, flat = tmp_path / f"a.{name}", np.zeros((4, 3, 2, 3), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(flat, isVector=True), str(path))
    assert "3 numbers for each voxel" in refused(path, name)
    if name == "nrrd":
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b"kinds: vector", b"kinds: RGB-color"))
        assert "3 numbers for each voxel" in refused(path, name)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 3, 2), np.complex64)), str(path))
    assert any(words in refused(path, name) for words in ("complex", "2 numbers for each voxel"))


@pytest.mark.parametrize("dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])])
def test_a_pair_of_colour_or_complex_numbers_is_refused(tmp_path, dtype):
    nib.save(nib.AnalyzeImage(np.zeros((2, 3, 4), dtype), np.eye(4)), tmp_path / "a.img")
    assert "expected real numbers" in refused(tmp_path / "a.hdr", "analyze")


def damaged_files(tmp_path: Path):
    """A good file of every format, with the file of its voxels: (name, path, voxels)."""
    scan = volume()
    for name in ("nrrd", "nhdr", "mha", "mhd"):
        for compressed in (False, True):
            folder = tmp_path / f"{name}{compressed}"
            folder.mkdir()
            sitk.WriteImage(scan.to_sitk(), str(folder / f"a.{name}"), compressed)
            yield name, folder / f"a.{name}", FORMATS[name].files(folder / f"a.{name}")[-1]
    for ending in ("mgz", "mgh"):
        nib.save(nib.MGHImage(np.asarray(scan), scan.geometry.affine), tmp_path / f"a.{ending}")
        yield "mgz", tmp_path / f"a.{ending}", tmp_path / f"a.{ending}"
    nib.save(nib.AnalyzeImage(np.asarray(scan), np.eye(4)), tmp_path / "b.img")
    yield "analyze", tmp_path / "b.hdr", tmp_path / "b.img"


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, -1])
def test_truncated_files_are_refused(tmp_path, share, capfd):
    for name, path, voxels in damaged_files(tmp_path):
        whole = voxels.read_bytes()
        assert read(path, name)
        if share < 0 and path.suffix == ".mgh":
            continue  # what is behind its voxels may be missing
        voxels.write_bytes(whole[: len(whole) - 9 if share < 0 else int(share * len(whole))])
        sentence = refused(path, name)
        assert any(words in sentence for words in ("truncated", "damaged", "empty")), (path, sentence)
    assert "ITK" not in capfd.readouterr().out


def test_damage_within_compressed_voxels_is_refused(tmp_path):
    for name, path, voxels in damaged_files(tmp_path):
        whole = bytearray(voxels.read_bytes())
        packed = "True" in path.parent.name or path.suffix == ".mgz"
        if packed:
            middle = len(whole) // 2
            whole[middle : middle + 60] = b"\x55" * 60
            voxels.write_bytes(whole)
            assert "damaged" in refused(path, name)


def test_voxels_that_are_not_finite_are_refused(tmp_path):
    array = np.ones((2, 3, 4), np.float32)
    array[1, 2, 3] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(array.T), str(tmp_path / "a.nrrd"))
    sitk.WriteImage(sitk.GetImageFromArray(array.T), str(tmp_path / "a.mha"))
    nib.save(nib.MGHImage(array, np.eye(4)), tmp_path / "a.mgz")
    nib.save(nib.AnalyzeImage(array, np.eye(4)), tmp_path / "a.img")
    for ending, name in (("nrrd", "nrrd"), ("mha", "mha"), ("mgz", "mgz"), ("img", "analyze")):
        assert "1 of 24 voxels are not finite (1 NaN" in refused(tmp_path / f"a.{ending}", name)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("data file: none.raw", "is missing"),
        ("data file: ../a.raw", "outside of its folder"),
        ("data file: /etc/hostname", "outside of its folder"),
        ("data file: a%02d.raw 1 4 1", "in several files"),
        ("data file: LIST", "in several files"),
    ],
)
def test_voxels_elsewhere_than_in_one_file_beside_are_refused(tmp_path, line, words):
    (tmp_path / "a.nhdr").write_bytes(nrrd(line, voxels=b""))
    assert words in refused(tmp_path / "a.nhdr", "nhdr")
    text = "ObjectType = Image\nNDims = 3\nDimSize = 2 3 4\nElementType = MET_FLOAT\n"
    (tmp_path / "a.mhd").write_text(f"{text}ElementDataFile = {line.removeprefix('data file: ')}\n")
    assert words in refused(tmp_path / "a.mhd", "mhd")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_what_is_no_such_file_is_refused(tmp_path, name):
    for content in (b"", b"CANARY " * 100, bytes(2000)):
        for suffix in FORMATS[name].suffixes:
            (tmp_path / f"a{suffix}").write_bytes(content)
        refused(tmp_path / f"a{FORMATS[name].suffixes[0]}", name)


def test_a_pair_without_its_header_is_refused(tmp_path):
    (tmp_path / "a.img").write_bytes(bytes(96))
    assert ".hdr of the pair is missing" in refused(tmp_path / "a.img", "analyze")


def test_a_header_that_declares_more_than_the_file_holds_costs_no_memory(tmp_path):
    (tmp_path / "a.nrrd").write_bytes(nrrd(shape="sizes: 20000 20000 20000"))
    assert "truncated" in refused(tmp_path / "a.nrrd", "nrrd")
    text = "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 20000 20000 20000\n"
    (tmp_path / "a.mha").write_text(f"{text}ElementType = MET_FLOAT\nElementDataFile = LOCAL\n")
    assert "truncated" in refused(tmp_path / "a.mha", "mha")
    write_mgh(tmp_path / "a.mgh", 4, np.full(3, 20000, ">i4").tobytes())
    assert "truncated" in refused(tmp_path / "a.mgh", "mgz")


def test_a_grid_without_extent_is_a_matter_of_its_place(tmp_path):
    flat = nrrd("space: RAS", "space directions: (1,0,0) (1,0,0) (0,0,1)", "space origin: (0,0,0)")
    (tmp_path / "a.nrrd").write_bytes(flat)
    with pytest.raises(InputError):
        read(tmp_path / "a.nrrd", "nrrd")


def test_the_folder_of_a_detached_header_may_move(tmp_path):
    sitk.WriteImage(volume().to_sitk(), str(tmp_path / "a.nhdr"), True)
    (tmp_path / "sub").mkdir()
    for path in (tmp_path / "a.nhdr", tmp_path / "a.raw.gz"):
        shutil.move(path, tmp_path / "sub" / path.name)
    _, (found,) = read(tmp_path / "sub" / "a.nhdr", "nhdr")
    assert np.array_equal(found.array, volume().array)
