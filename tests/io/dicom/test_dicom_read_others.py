"""What is read, beside what dcm2niix makes of it: the same voxels in the same places, or a reason."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from scipy.ndimage import map_coordinates
from test_dicom_write_others import PYDICOM, SAMPLE, neighbours

from medrestore.errors import GeometryError, InputError
from medrestore.io import ReadPolicy, plan_dicom, read, read_series
from medrestore.io.dicom.parse.files import is_dicom
from medrestore.types import UNMEASURED_HU

FAR = 0.02
"""In mm. dcm2niix rounds directions: at the far end its slices lie up to 0.010 mm from their positions."""


def converted(source: Path, folder: Path, *options: str) -> dict[str, nib.Nifti1Image]:
    """Return what dcm2niix makes of a folder, by series number and echo."""
    dcm2niix = pytest.importorskip("dcm2niix")
    folder.mkdir(parents=True)
    command = [dcm2niix.bin, "-b", "n", "-z", "n", "-m", "n", *options, "-f", "%s_%e", "-o", folder, source]
    subprocess.run([*map(str, command)], capture_output=True, check=False)
    return {path.name.removesuffix(".nii"): nib.load(path) for path in sorted(folder.glob("*.nii"))}


def upright(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return voxels with axes that run nearest to right, front and top, and their affine."""
    out = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(array, np.float32), affine))
    return out.get_fdata(dtype=np.float32), out.affine


def differing(volumes, image: nib.Nifti1Image, tolerance: float = 0.0) -> np.ndarray:
    """Check that grids are the same; return the voxels of dcm2niix where values are not."""
    theirs = image.get_fdata(dtype=np.float32).reshape(*image.shape[:3], -1)
    assert theirs.shape[3] == len(volumes)
    found = []
    for number, volume in enumerate(volumes):
        ours, our_affine = upright(volume.array, volume.geometry.affine)
        them, their_affine = upright(theirs[..., number], image.affine)
        assert ours.shape == them.shape
        corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(ours.shape) - 1)
        apart = corners @ (our_affine - their_affine)[:3, :3].T + (our_affine - their_affine)[:3, 3]
        if ours.shape.count(1) == 0:  # the slices' distance of one slice says nothing
            assert np.abs(apart).max() < FAR
        found.append(them[np.abs(ours - them) > tolerance])
    return np.concatenate(found)


def lies_where_the_files_say(folder: Path) -> None:
    for planned in plan_dicom(folder).series:
        for volume in planned.volumes:
            for k, head in enumerate(volume.stack.heads):
                where = planned.geometry.world(np.array([0, 0, k])) * [-1, -1, 1]
                np.testing.assert_allclose(where, head.position, atol=2e-4)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Unpack an archive of the shared scans, once."""
    done: dict[str, Path] = {}

    def unpack(shared: Path, name: str) -> Path:
        if name not in done:
            done[name] = tmp_path_factory.mktemp(name)
            with tarfile.open(shared / "data" / "dicom" / f"{name}.tar.xz") as packed:
                packed.extractall(done[name], filter="data")
        return done[name]

    return unpack


REAL = {
    "ct_chest": {1: "4_0"},
    "mr_t1w_sagittal": {1: "5_1"},
    "qa_decubitus": {1: "2_1", 2: "3_1"},
    "qa_frag": {1: "5001_1"},
    "qa_enh": {1: "6_1", 2: "801_1", 3: "801_2_fieldmaphz"},
}
"""Archives; for each series of the plan what dcm2niix calls it."""


@pytest.mark.needs_shared
@pytest.mark.parametrize("name", REAL)
def test_real_series(shared, archive, tmp_path, name):
    folder = archive(shared, name)
    images = converted(folder, tmp_path / "nii", "-p", "n")
    assert [item.number for item in plan_dicom(folder).series] == [*REAL[name]]
    assert sorted(images) == sorted(REAL[name].values())
    lies_where_the_files_say(folder)
    for number, called in REAL[name].items():
        volumes = read_series(folder, series=str(number))
        image = images[called]
        # Of Philips' scaled values the header of NIfTI keeps seven digits.
        differ = differing(volumes, image, tolerance=1e-6 * float(np.abs(image.get_fdata()).max()))
        padding = volumes[0].source.details.get("padding", {"voxels": 0})
        assert differ.size == padding["voxels"]
        assert np.all(differ < UNMEASURED_HU)


@pytest.mark.needs_shared
def test_philips_floating_point_values(shared, archive, tmp_path):
    folder = archive(shared, "qa_enh") / "qa_enh" / "In" / "Philips"
    images = converted(folder, tmp_path / "nii", "-p", "y")
    volumes = read_series(folder, series="1", policy=ReadPolicy(values="philips"))
    image = images["801_1"]
    assert differing(volumes, image, tolerance=1e-6 * float(image.get_fdata().max())).size == 0


@pytest.mark.needs_shared
@pytest.mark.parametrize(("name", "count"), [("qa_12bit", 3), ("qa_ts", 9)])
def test_real_mosaics_are_unfolded(shared, archive, tmp_path, name, count):
    """Copies of one scan: signed, unsigned, garbage above twelve bits, every transfer syntax."""
    files = sorted((archive(shared, name) / name / "In").iterdir())
    assert len(files) == count
    for number, path in enumerate(files):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(path, folder)
        volume = read(folder)
        assert volume.shape == (64, 64, 35)
        (image,) = converted(folder, tmp_path / "nii" / str(number)).values()
        assert differing([volume], image).size == 0


@pytest.mark.needs_shared
@pytest.mark.parametrize("number", [1, 2])
def test_a_real_tilt_is_refused_or_resampled(shared, archive, tmp_path, number):
    folder = archive(shared, "qa_ct_tilt")
    planned = plan_dicom(folder).series[number - 1]
    assert (planned.kind, planned.action) == ("tilt(18.5)", "fail")
    (tmp_path / "in").mkdir()
    for head in planned.heads:  # dcm2niix makes one uneven stack of the two series
        shutil.copy(head.path, tmp_path / "in")
    with pytest.raises(GeometryError, match=r"18\.50 degrees"):
        read(tmp_path / "in")
    volume = read(tmp_path / "in", policy=ReadPolicy(on_tilt="resample"))
    image = converted(tmp_path / "in", tmp_path / "nii")["2_0_Tilt_1"]
    to_theirs = np.linalg.inv(image.affine) @ volume.geometry.affine
    index = np.indices(volume.shape).reshape(3, -1)
    theirs = map_coordinates(
        image.get_fdata(), to_theirs[:3, :3] @ index + to_theirs[:3, 3:], order=1, cval=-9999
    ).reshape(volume.shape)
    both = (theirs > -1000) & (volume.array > -1000)
    assert both.mean() > 0.5
    # dcm2niix rounds to whole HU; what is left are edges of what slices cover.
    assert np.percentile(np.abs(theirs - volume.array)[both], 99) <= 0.51


def pydicom_files() -> list[str]:
    """Name the images of MR and CT among pydicom's own test files."""
    found = []
    for path in sorted(path for path in PYDICOM.rglob("*") if path.is_file()):
        if is_dicom(path) and plan_dicom(path).series:
            found.append(path.relative_to(PYDICOM).as_posix())
    return found


THEY_DIFFER = {
    "J2K_pixelrep_mismatch.dcm": "dcm2niix takes the header's word for the sign, and has 0 to 8191 HU",
}


@pytest.mark.parametrize("name", pydicom_files())
def test_single_files_of_pydicom(tmp_path, name):
    if name == "MR_truncated.dcm":
        with pytest.raises(InputError, match="bytes of pixel data is less than expected"):
            read(PYDICOM / name)
        return
    (tmp_path / "in").mkdir()
    shutil.copy(PYDICOM / name, tmp_path / "in")
    images = converted(tmp_path / "in", tmp_path / "nii")
    volume = read(tmp_path / "in")
    if name in THEY_DIFFER:
        return
    # One file has an overlay, which dcm2niix makes an image of its own.
    (image,) = [image for called, image in images.items() if "ROI" not in called]
    differ = differing([volume], image)
    assert differ.size == volume.source.details.get("padding", {"voxels": 0})["voxels"]
    assert np.all(differ < UNMEASURED_HU)


# --- clones of the sample series ---


@pytest.fixture
def scan(tmp_path):
    return neighbours(sorted(SAMPLE.glob("*.dcm")), tmp_path / "in")


def rewrite(folder: Path, change) -> None:
    """Edit every file, in the order of places: `change(index, data)`; False removes the file."""
    files = [(pydicom.dcmread(path), path) for path in folder.iterdir()]
    normal = np.cross(*np.reshape(files[0][0].ImageOrientationPatient, (2, 3)))
    files.sort(key=lambda item: float(np.dot(item[0].ImagePositionPatient, normal)))
    for index, (data, path) in enumerate(files):
        if change(index, data) is False:
            path.unlink()
        else:
            data.save_as(path)


def move(data, along, by: float) -> None:
    data.ImagePositionPatient = [
        f"{x:.8g}" for x in np.asarray(data.ImagePositionPatient, float) + np.multiply(along, by)
    ]


def axes(data) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    row, column = np.reshape(np.asarray(data.ImageOrientationPatient, float), (2, 3))
    return row, column, np.cross(row, column)


def same_for_both(folder: Path, out: Path) -> None:
    (image,) = converted(folder, out).values()
    assert differing([read(folder)], image).size == 0


def test_shuffled_names(scan, tmp_path):
    for number, path in enumerate(np.random.default_rng(1).permutation(sorted(scan.iterdir()))):
        path.rename(scan / f"x{number}")
    same_for_both(scan, tmp_path / "nii")


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_again(scan, tmp_path, syntax):
    rewrite(scan, lambda _, data: data.compress(syntax, generate_instance_uid=False))
    same_for_both(scan, tmp_path / "nii")


def test_turned_over(scan, tmp_path):
    """Feet first, prone: other axes of the patient, the same scan."""

    def turn(_, data):
        data.ImageOrientationPatient = [
            float(x) * s for x, s in zip(data.ImageOrientationPatient, [-1, 1, -1] * 2, strict=True)
        ]
        data.ImagePositionPatient = [
            float(x) * s for x, s in zip(data.ImagePositionPatient, [-1, 1, -1], strict=True)
        ]
        data.PatientPosition = "FFP"

    before = read(scan)
    rewrite(scan, turn)
    after = read(scan)
    np.testing.assert_allclose(
        after.geometry.affine, np.diag([-1, 1, -1, 1]) @ before.geometry.affine, atol=1e-6
    )
    same_for_both(scan, tmp_path / "nii")


def test_two_series_mixed(scan, tmp_path):
    (tmp_path / "other").mkdir()
    for path in sorted(scan.iterdir()):
        data = pydicom.dcmread(path)
        data.SeriesInstanceUID, data.SeriesNumber = "1.2.3.4.5", 77
        data.PixelData = (data.pixel_array // 2).tobytes()
        data.save_as(scan / f"other_{path.name}")
    with pytest.raises(InputError, match="2 DICOM series"):
        read(scan)
    images = sorted(converted(scan, tmp_path / "nii").items(), key=lambda item: int(item[0].split("_")[0]))
    assert len(images) == 2
    for (_, image), number in zip(images, "12", strict=True):
        assert differing([read(scan, series=number)], image).size == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n, _: n != 3, r"1 slice\(s\) missing"),
        (lambda n, data: move(data, axes(data)[1], n * np.tan(np.deg2rad(15.0))), r"15\.00 degrees off"),
        (lambda n, data: move(data, axes(data)[2], 0.3 * (n > 3)), "unevenly spaced"),
    ],
    ids=["gap", "tilt", "uneven"],
)
def test_broken_clones_are_refused_with_the_right_reason(scan, change, words):
    rewrite(scan, change)
    with pytest.raises(GeometryError, match=words):
        read(scan)


def test_a_doubled_slice_is_refused_unless_it_is_a_copy(scan, tmp_path):
    path = sorted(scan.iterdir())[2]
    shutil.copy(path, scan / "copy")
    before = read(scan)
    (scan / "copy").unlink()
    same_for_both(scan, tmp_path / "nii")
    assert np.array_equal(before.array, read(scan).array)
    data = pydicom.dcmread(path)
    data.PixelData = (data.pixel_array // 2).tobytes()
    data.save_as(scan / "other")
    with pytest.raises(GeometryError, match="1 slices lie where another one does"):
        read(scan)
