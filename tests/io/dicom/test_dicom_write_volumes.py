"""Derived series of several volumes, of enhanced images, and of scans with padding that nobody declared."""

from __future__ import annotations

import tarfile
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from dicom_series import SLICES, dicom_errors, is_part_10, write_series
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage
from test_dicom_enhanced import SHUFFLED, enhanced, frame, item, voxels
from test_dicom_read_others import converted, differing
from test_dicom_write import images, record_of, regridded, thin
from test_io_dicom import ORIENTATIONS, SPACING, STEP

from medrestore.errors import OutputError
from medrestore.io import ReadPolicy, check_derivable, plan_dicom, read, read_series, write_dicom
from medrestore.provenance import Step


def rewritten(source, out, edit=lambda array: array + 7, **options):
    """Write the volumes of a folder as a derived series; return what was written and the report."""
    volumes = [v.with_array(edit(v.array).astype(np.float32), Step("test")) for v in read_series(source)]
    records = [record_of(volume) for volume in volumes]
    return volumes, write_dicom(volumes, out, records, **options)


def same_volumes(found, expected, atol: float = 0.0) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.geometry.allclose(other.geometry, 1e-6)
        np.testing.assert_allclose(one.array, other.array, atol=atol)
        assert one.source.details.get("label") == other.source.details.get("label")


# --- classic series of several volumes ---


def four_d(folder, changes) -> None:
    """Write a series for each change into one folder: volumes of one series."""
    for n, change in enumerate(changes):
        part = folder.parent / f"{folder.name}{n}"

        def edit(index, data, n=n, change=change):
            data.SOPInstanceUID = f"{data.SOPInstanceUID}.{n}"
            data.InstanceNumber = 1 + n * SLICES + index
            pixels = np.frombuffer(data.PixelData, np.int16) // (n + 1)
            data.PixelData = pixels.tobytes()
            change(data)

        write_series(part, "MR", edit)
        folder.mkdir(exist_ok=True)
        for path in part.iterdir():
            path.rename(folder / f"{n}_{path.name}")


def setting(**attributes):
    def change(data):
        for name, value in attributes.items():
            setattr(data, name, value)

    return change


def siemens(value, direction=None):
    def change(data):
        block = data.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0C, "IS", value)
        if direction is not None:
            block.add_new(0x0E, "FD", direction)

    return change


VOLUMES = {
    "echo": [setting(EchoTime=3, EchoNumbers=1), setting(EchoTime=9, EchoNumbers=2)],
    "time": [
        setting(TemporalPositionIdentifier=n, NumberOfTemporalPositions=3, AcquisitionTime=f"10111{n}")
        for n in (1, 2, 3)
    ],
    "diffusion": [siemens(0), siemens(700, [1.0, 0, 0]), siemens(700, [0, 0.6, 0.8])],
}


@pytest.mark.parametrize("kind", VOLUMES)
def test_volumes_of_a_classic_series_stay_apart(tmp_path, kind):
    four_d(tmp_path / "in", VOLUMES[kind])
    volumes, report = rewritten(tmp_path / "in", tmp_path / "out")
    assert len(volumes) == len(VOLUMES[kind])
    same_volumes(read_series(tmp_path / "out"), volumes)
    assert report.files == len(volumes) * SLICES
    assert len({str(data.SOPInstanceUID) for data in images(tmp_path / "out")}) == report.files
    for path in (tmp_path / "out").iterdir():
        assert dicom_errors(path) == []


def test_b_values_of_private_elements_are_said_in_standard_ones(tmp_path):
    four_d(tmp_path / "in", VOLUMES["diffusion"])
    rewritten(tmp_path / "in", tmp_path / "out")
    found = {
        (data.DiffusionBValue, tuple(data.get("DiffusionGradientOrientation", ())))
        for data in images(tmp_path / "out")
    }
    assert found == {(0, ()), (700, (1, 0, 0)), (700, (0, 0.6, 0.8))}
    assert not [element for data in images(tmp_path / "out") for element in data if element.tag.is_private]


def niftis(folder, out):
    """What dcm2niix makes of a folder, as a list of volumes."""
    found = []
    for _, image in sorted(converted(folder, out).items()):
        array = image.get_fdata(dtype=np.float32).reshape(*image.shape[:3], -1)
        found += [image.__class__(array[..., n], image.affine) for n in range(array.shape[3])]
    return found


@pytest.mark.parametrize("kind", ["echo", "time"])
def test_dcm2niix_finds_the_same_volumes(tmp_path, kind):
    four_d(tmp_path / "in", VOLUMES[kind])
    volumes, _ = rewritten(tmp_path / "in", tmp_path / "out")
    found = niftis(tmp_path / "out", tmp_path / "nii")
    assert len(found) == len(volumes)
    for volume, image in zip(volumes, found, strict=True):
        assert differing([volume], image).size == 0


def test_dcm2niix_finds_b_values_and_directions(tmp_path):
    four_d(tmp_path / "in", VOLUMES["diffusion"])
    volumes, _ = rewritten(tmp_path / "in", tmp_path / "out")
    found = niftis(tmp_path / "out", tmp_path / "nii")
    values = np.loadtxt(next((tmp_path / "nii").glob("*.bval")))
    vectors = np.loadtxt(next((tmp_path / "nii").glob("*.bvec"))).T
    assert len(found) == len(volumes) == 3
    for volume in volumes:
        label = volume.source.details["label"]
        (index,) = (n for n, image in enumerate(found) if differing([volume], image).size == 0)
        assert values[index] == label["b-value"]
        x, y, z = label["direction"] or (0, 0, 0)
        np.testing.assert_allclose(vectors[index], [x, -y, z])  # dcm2niix counts rows from below


def test_volumes_on_a_finer_grid(tmp_path):
    four_d(tmp_path / "in", VOLUMES["echo"])
    volumes = [regridded(volume, thin(volume.geometry, 2)) for volume in read_series(tmp_path / "in")]
    report = write_dicom(volumes, tmp_path / "out", [record_of(volume) for volume in volumes])
    assert sorted(data.InstanceNumber for data in images(tmp_path / "out")) == [*range(1, 25)]
    same_volumes(read_series(tmp_path / "out"), volumes, atol=report.slope)


def test_volumes_of_two_series_are_no_series(tmp_path):
    write_series(tmp_path / "a")
    write_series(tmp_path / "b", change=lambda _, data: setattr(data, "EchoTime", 5))
    with pytest.raises(OutputError, match="not all read from there"):
        check_derivable([read(tmp_path / "a"), read(tmp_path / "b")])


# --- enhanced images ---


def enhanced_mr(path, echoes=(4.5,), order=SHUFFLED):
    """An enhanced image, and its pixels; frames in any order, in places counted from 0."""
    frames = [(n, k) for n in range(len(echoes)) for k in order]
    kind = item(
        FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
        ComplexImageComponent="MAGNITUDE",
        AcquisitionContrast="T1",
    )
    groups = [
        frame(
            k,
            np.eye(3),
            MREchoSequence=item(EffectiveEchoTime=echoes[n]),
            MRImageFrameTypeSequence=kind,
            PixelValueTransformationSequence=item(RescaleSlope=n + 1, RescaleIntercept=0, RescaleType="US"),
            FrameVOILUTSequence=item(WindowCenter=100, WindowWidth=200),
        )
        for n, k in frames
    ]
    for group in groups:
        group.private_block(0x0021, "SECRET", create=True).add_new(1, "LO", "private words")
    return enhanced(
        path,
        np.stack([voxels()[k] for _, k in frames]),
        groups,
        kind=EnhancedMRImageStorage,
        StudyInstanceUID="1.2",
        ContentDate="20240102",
        ContentTime="101112",
        ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        PulseSequenceName="GRE",
        LossyImageCompression="00",
    )


def test_enhanced_in_enhanced_out(tmp_path):
    source = enhanced_mr(tmp_path / "in.dcm")
    (volume,), report = rewritten(tmp_path / "in.dcm", tmp_path / "out")
    (data,) = images(tmp_path / "out")
    assert (report.files, report.clipped_voxels) == (1, 0)
    assert data.SOPClassUID == data.file_meta.MediaStorageSOPClassUID == EnhancedMRImageStorage
    assert data.NumberOfFrames == 7
    assert list(data.ImageType) == ["DERIVED", "PRIMARY", "VOLUME", "FILTERED"]
    assert data.ImageComments.startswith("PROCESSED IMAGE, NOT AN ORIGINAL")
    assert data.SeriesInstanceUID == report.series_uid != source.SeriesInstanceUID
    assert not [element for element in data.iterall() if element.tag.is_private]
    assert "PulseSequenceName" not in data
    for n, group in enumerate(data.PerFrameFunctionalGroupsSequence):
        assert list(group.MRImageFrameTypeSequence[0].FrameType) == list(data.ImageType)
        assert group.FrameContentSequence[0].DimensionIndexValues == [1, n + 1]
        (derivation,) = group.DerivationImageSequence
        (origin,) = derivation.SourceImageSequence
        assert origin.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert origin.ReferencedFrameNumber == SHUFFLED.index(n) + 1  # where the place was in the source
        assert group.FrameVOILUTSequence[0].WindowWidth == 200
    (study,) = data.SourceImageEvidenceSequence
    (referenced,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert referenced.ReferencedSOPInstanceUID == source.SOPInstanceUID
    same_volumes(read_series(tmp_path / "out"), [volume])
    again = rewritten(tmp_path / "in.dcm", tmp_path / "again")[1]
    assert again.sha256 == report.sha256


def test_volumes_of_an_enhanced_image_are_a_file_each(tmp_path):
    enhanced_mr(tmp_path / "in.dcm", echoes=(4.5, 9.0))
    volumes, report = rewritten(tmp_path / "in.dcm", tmp_path / "out")
    assert [data.NumberOfFrames for data in images(tmp_path / "out")] == [7, 7]
    assert report.files == 2
    same_volumes(read_series(tmp_path / "out"), volumes)
    # Here dcm2niix names the files in no order; the second echo is the brighter one.
    found = sorted(niftis(tmp_path / "out", tmp_path / "nii"), key=lambda image: image.get_fdata().mean())
    for volume, image in zip(volumes, found, strict=True):
        assert differing([volume], image).size == 0


def test_an_enhanced_image_on_a_finer_grid(tmp_path):
    enhanced_mr(tmp_path / "in.dcm")
    volume = read(tmp_path / "in.dcm")
    fine = regridded(volume, thin(volume.geometry, 2))
    report = write_dicom(fine, tmp_path / "out", record_of(fine))
    same_volumes([read(tmp_path / "out")], [fine], atol=report.slope)
    (data,) = images(tmp_path / "out")
    (shared,) = data.SharedFunctionalGroupsSequence
    assert data.NumberOfFrames == 14
    assert data.ImageType[3] == "RESAMPLED"
    assert shared.PixelMeasuresSequence[0].SliceThickness == volume.spacing[2] / 2
    named = data.PerFrameFunctionalGroupsSequence[1].DerivationImageSequence[0].SourceImageSequence[0]
    assert list(named.ReferencedFrameNumber) == [SHUFFLED.index(0) + 1, SHUFFLED.index(1) + 1]


def test_the_standard_deviation_of_an_enhanced_image(tmp_path):
    enhanced_mr(tmp_path / "in.dcm")
    _, report = rewritten(tmp_path / "in.dcm", tmp_path / "out", lambda a: a / 1000, quantity="std")
    (data,) = images(tmp_path / "out")
    assert data.ImageType[3] == "STD_DEVIATION"
    assert data.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0].WindowWidth < 1
    assert "FrameVOILUTSequence" not in data.PerFrameFunctionalGroupsSequence[0]
    assert report.slope < 1e-3


def enhanced_ct(path, lean=0.0, tilt=None):
    """An enhanced CT of 7 slices, each moved by `lean` mm along the columns against the one before."""
    kind = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    said = {"PixelPresentation": "MONOCHROME", "VolumetricProperties": "VOLUME"}
    said["VolumeBasedCalculationTechnique"] = "NONE"
    acquired = {
        "CTAcquisitionTypeSequence": item(AcquisitionType="SEQUENCED", ConstantVolumeFlag="NO"),
        "CTAcquisitionDetailsSequence": item(RotationDirection="CW", RevolutionTime=1.0, TableHeight=1.0),
        "CTTableDynamicsSequence": item(TableSpeed=1.0),
        "CTGeometrySequence": item(DistanceSourceToDetector=1000.0),
        "CTReconstructionSequence": item(ReconstructionAlgorithm="FILTER_BACK_PROJ", ConvolutionKernel="B"),
        "CTExposureSequence": item(ExposureTimeInms=1000.0, ExposureModulationType="NONE", CTDIvol=10.0),
        "CTXRayDetailsSequence": item(KVP=120, FocalSpots=1.2, FilterType="NONE"),
        "CTImageFrameTypeSequence": item(FrameType=kind, **said),
        "PixelValueTransformationSequence": item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU"),
        "FrameVOILUTSequence": item(WindowCenter=40, WindowWidth=400),
    }
    if tilt is not None:
        acquired["CTAcquisitionDetailsSequence"].GantryDetectorTilt = tilt
    groups = [frame(k, np.eye(3), **acquired) for k in range(7)]
    for k, group in enumerate(groups):
        x, y, z = group.PlanePositionSequence[0].ImagePositionPatient
        group.PlanePositionSequence[0].ImagePositionPatient = [x, float(y) + k * lean, z]
    said |= {"ImageType": kind, "AcquisitionDateTime": "20240102101112", "AcquisitionDuration": 1.0}
    said |= {"ContentDate": "20240102", "ContentTime": "101112", "StudyInstanceUID": "1.2"}
    said["Manufacturer"] = "Acme"
    enhanced(path, voxels(), groups, kind=EnhancedCTImageStorage, **said)


def test_enhanced_ct_is_in_hounsfield_units(tmp_path):
    enhanced_ct(tmp_path / "in.dcm")
    volumes, report = rewritten(tmp_path / "in.dcm", tmp_path / "out")
    (data,) = images(tmp_path / "out")
    assert data.SOPClassUID == EnhancedCTImageStorage
    assert data.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0].RescaleType == "HU"
    assert (report.slope, report.inter) == (1, -1024)
    same_volumes(read_series(tmp_path / "out"), volumes)
    assert set(dicom_errors(tmp_path / "out" / "IM00001.dcm")) <= set(dicom_errors(tmp_path / "in.dcm"))


@pytest.mark.needs_shared
@pytest.mark.parametrize(("folder", "number"), [("Siemens", "1"), ("Philips", "1"), ("Philips", "2")])
def test_real_enhanced_images(shared, tmp_path, folder, number):
    with tarfile.open(shared / "data" / "dicom" / "qa_enh.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    source = tmp_path / "qa_enh" / "In" / folder
    volumes = read_series(source, series=number)
    report = write_dicom(volumes, tmp_path / "out", [record_of(volume, sigma=5.0) for volume in volumes])
    files = {head.path for head in plan_dicom(source).series[0].heads}
    known = {error for path in files for error in dicom_errors(path)}
    for path in (tmp_path / "out").iterdir():
        assert set(dicom_errors(path)) <= known
        assert is_part_10(path)
    same_volumes(read_series(tmp_path / "out"), volumes, atol=report.slope / 2)
    (image,) = converted(tmp_path / "out", tmp_path / "nii").values()  # 4-D, as dcm2niix makes of the source
    assert differing(volumes, image, tolerance=report.slope).size == 0


# --- padding ---


@pytest.mark.parametrize("declared", [True, False])
def test_what_was_padding_comes_back_as_it_came(tmp_path, declared):
    """GE's -3024 HU outside the circle, which lossy compression blurs, and which few headers declare."""
    outside = np.arange(-2010, -1990).reshape(2, 10).astype(np.int16)  # stored: -3034 to -3015 HU

    def change(_, data):
        pixels = np.frombuffer(data.PixelData, np.int16).reshape(data.Rows, data.Columns).copy()
        pixels[:2, :10] = outside
        data.PixelData = pixels.tobytes()
        if declared:
            data.add_new("PixelPaddingValue", "SS", -2010)
            data.add_new("PixelPaddingRangeLimit", "SS", -1990)

    write_series(tmp_path / "in", "CT", change)
    _, report = rewritten(tmp_path / "in", tmp_path / "out")
    for data in images(tmp_path / "out"):
        assert np.array_equal(data.pixel_array[:2, :10], outside)
        assert data.pixel_array[2:].min() > -1990
        assert ("PixelPaddingValue" in data) == declared
        if declared:
            assert (data.PixelPaddingValue, data.PixelPaddingRangeLimit) == (-2010, -1990)
    assert report.clipped_voxels == 0
    before, after = (read(tmp_path / name).source.details["padding"] for name in ("in", "out"))
    assert before == after


def test_padding_of_compressed_images_is_found_again(tmp_path):
    def change(_, data):
        pixels = np.frombuffer(data.PixelData, np.int16).reshape(data.Rows, data.Columns).copy()
        pixels[:3] = -2000
        data.PixelData = pixels.tobytes()
        data.compress(pydicom.uid.JPEGLSLossless, generate_instance_uid=False)

    write_series(tmp_path / "in", "CT", change)
    rewritten(tmp_path / "in", tmp_path / "out")
    for data in images(tmp_path / "out"):
        assert (data.pixel_array[:3] == -2000).all()


def test_a_tilt_that_was_mended_is_not_claimed_any_more(tmp_path):
    """Or readers would shift the slices again."""

    def change(index, data):
        data.GantryDetectorTilt = -15
        x, y, z = (float(value) for value in data.ImagePositionPatient)
        data.ImagePositionPatient = [x, y + index * 2.5 * np.tan(np.deg2rad(15.0)), z]

    write_series(tmp_path / "in", "CT", change)
    volume = read(tmp_path / "in", policy=ReadPolicy(on_tilt="resample"))
    write_dicom(volume, tmp_path / "out", record_of(volume))
    assert not [data for data in images(tmp_path / "out") if "GantryDetectorTilt" in data]
    (image,) = converted(tmp_path / "out", tmp_path / "nii").values()
    assert differing([read(tmp_path / "out")], image).size == 0


def test_a_tilt_of_an_enhanced_image_is_not_claimed_any_more_either(tmp_path):
    enhanced_ct(tmp_path / "in.dcm", lean=0.5, tilt=-11.0)
    volume = read(tmp_path / "in.dcm", policy=ReadPolicy(on_tilt="resample"))
    write_dicom(volume, tmp_path / "out", record_of(volume))
    (data,) = images(tmp_path / "out")
    details = [group.CTAcquisitionDetailsSequence[0] for group in data.PerFrameFunctionalGroupsSequence]
    assert not [item for item in details if "GantryDetectorTilt" in item]
    assert {item.RotationDirection for item in details} == {"CW"}  # what is still true is still there
    same_volumes(read_series(tmp_path / "out"), [volume], atol=0.51)


def test_values_that_are_not_the_rescaled_ones(tmp_path):
    """Philips' floating-point values: other numbers than viewers show, and another series."""

    def change(_, data):
        data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 2, 0, "normalized"
        block = data.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0E, "FL", 0.01)
        data.WindowCenter, data.WindowWidth = 400, 800  # of what viewers show

    write_series(tmp_path / "in", "MR", change)
    plain = rewritten(tmp_path / "in", tmp_path / "plain")[1]
    volume = read(tmp_path / "in", policy=ReadPolicy(values="philips"))
    report = write_dicom(volume, tmp_path / "out", record_of(volume, sigma=100.0))
    np.testing.assert_allclose(read(tmp_path / "out").array, volume.array, rtol=1e-6)
    assert report.series_uid != plain.series_uid
    shown = pydicom.dcmread(next((tmp_path / "out").glob("*.dcm")))
    assert (float(shown.WindowCenter), float(shown.WindowWidth)) != (400, 800)


# --- any split, order and direction ---


@settings(max_examples=8, deadline=None)
@given(
    order=st.permutations(range(7)),
    cut=st.integers(0, 6),
    turned=st.tuples(st.booleans(), st.booleans()),
    orientation=st.sampled_from([*ORIENTATIONS]),
)
def test_however_frames_are_split_and_turned_voxels_stay_where_they_are(
    tmp_path_factory, order, cut, turned, orientation
):
    """An enhanced image in two parts, its rows and columns turned; the result turned over as well."""
    folder, axes = tmp_path_factory.mktemp("scan"), ORIENTATIONS[orientation]
    across, down = (slice(None, None, -1 if turn else 1) for turn in turned)
    for number, part in enumerate((order[:cut], order[cut:]), 1):
        if part:
            said = {"ConcatenationUID": "1.9", "InConcatenationNumber": number} if cut else {}
            groups = [frame(k, axes) for k in part]
            pixels = voxels()[list(part)]
            enhanced(folder / f"in{number}", pixels, groups, axes=axes, StudyInstanceUID="1.2", **said)
    volume = read(folder)
    views = (across, down, slice(None, None, -1 if turned[0] != turned[1] else 1))
    result = replace(volume, array=volume.array[views], geometry=volume.geometry.cropped(views))
    write_dicom(result, folder.with_name(f"{folder.name}_out"), record_of(result))
    back = read(folder.with_name(f"{folder.name}_out"))
    for value in (0, 5, 29, 77, voxels().size - 1):
        k, i, j = np.argwhere(voxels() == value)[0]
        lps = (
            np.array([-20, 30, 40]) + k * STEP * axes[2] + j * SPACING[1] * axes[0] + i * SPACING[0] * axes[1]
        )
        (found,) = np.argwhere(back.array == value)
        np.testing.assert_allclose(back.geometry.world(found), lps * [-1, -1, 1], atol=1e-4)
