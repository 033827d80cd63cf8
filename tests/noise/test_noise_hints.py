"""What headers state of the sampling, and what the spectrum says to it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from dicom_series import write_series
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from test_dicom_enhanced import enhanced, frame
from test_noise_model import complex_noise, head
from tiny import CommandLine, save

from medrestore.geometry import Geometry
from medrestore.io import read, reading_findings
from medrestore.io.nifti.bids_sampling import sampling_stated
from medrestore.noise import SamplingHints, Verdict, measure_noise, sampling_hints
from medrestore.noise.band import CLIFF, STATED_CLIFF, axis_spectra, band_edge
from medrestore.noise.hints import NEAR, NEAR_VOXELS, verdict_on
from medrestore.paths import MOST_JSON
from medrestore.physics.kspace import apply_window, band_limit
from medrestore.provenance import Source
from medrestore.volume import Volume

BAND = 0.75
SPACING = (1.0, 1.0, 1.0)
NOTHING = (None, None, None)
RAS = Geometry((8, 10, 6), np.eye(4))
AXIAL_LPS = [1.0, 0, 0, 0, 1, 0]  # along a row to the left, along a column to the back
SAGITTAL_LPS = [0.0, 1, 0, 0, 0, -1]


def zero_filled(axis: int = 0, after: float = 0.0) -> np.ndarray:
    """A head and noise in three quarters of the frequencies along an axis; noise added `after` that."""
    windows = [band_limit(BAND) if other == axis else None for other in range(3)]
    rng = np.random.default_rng(0)
    scan = np.abs(apply_window(head(), windows[axis], axis) + complex_noise((64,) * 3, windows, rng))
    return (scan + after * rng.standard_normal(scan.shape)).astype(np.float32)


def hints_of(folder, change) -> SamplingHints:
    """What the header of a small DICOM series states, whose slices `change` edits."""
    write_series(folder, change=lambda index, data: change(data))
    return sampling_hints(read(folder))


def set_to(**values):
    def change(data):
        for name, value in values.items():
            setattr(data, name, value)

    return change


# The small series has 10 rows and 12 columns, 0.9 and 0.8 mm apart.


@pytest.mark.parametrize(
    ("matrix", "direction", "bands"),
    [
        ([9, 0, 0, 5], "COL", (9 / 12, 5 / 10, None)),
        ([0, 5, 9, 0], "ROW", (9 / 12, 5 / 10, None)),
        ([9, 0, 0, 5], None, (9 / 12, 5 / 10, None)),
        ([12, 0, 0, 10], "COL", (1, 1, None)),
        ([24, 0, 0, 5], "COL", (None, 5 / 10, None)),
    ],
)
def test_the_acquisition_matrix_is_told_by_the_axes_of_the_array(tmp_path, matrix, direction, bands):
    change = set_to(AcquisitionMatrix=matrix, InPlanePhaseEncodingDirection=direction)
    found = hints_of(tmp_path, change)
    assert found.bands == bands
    assert found.ignored == ()


@pytest.mark.parametrize(
    ("percent", "band"),
    [(100 * 9.0 / 9.6, 5 / 10), (50, None)],  # of the 9.6 mm of the columns, the rows cover 9
)
def test_a_field_of_view_that_was_padded_leaves_the_phase_axis_open(tmp_path, percent, band):
    change = set_to(
        AcquisitionMatrix=[9, 0, 0, 5],
        InPlanePhaseEncodingDirection="COL",
        PercentPhaseFieldOfView=f"{percent:.4g}",
    )
    found = hints_of(tmp_path, change)
    assert found.bands == (9 / 12, band, None)
    assert found.ignored == (() if band else ("PercentPhaseFieldOfView (0018,0094)",))


def test_filters_partial_fourier_and_distortion_are_told(tmp_path):
    assert hints_of(tmp_path / "plain", set_to()) == SamplingHints(distortion_corrected=False)  # "ND"
    change = set_to(
        ImageType=["ORIGINAL", "PRIMARY", "M", "FIL", "DIS2D"],
        ScanOptions=["PFP", "SFS"],
        PartialFourier="NO",
    )
    found = hints_of(tmp_path / "all", change)
    assert (found.partial_fourier, found.filtered, found.distortion_corrected) == (True, True, True)
    options = hints_of(tmp_path / "ge", set_to(ScanOptions="FILTERED_GEMS", PartialFourier="NO"))
    assert (options.partial_fourier, options.filtered) == (False, True)


def test_ct_is_not_asked(tmp_path):
    write_series(tmp_path, "CT", change=lambda _, data: set_to(AcquisitionMatrix=[9, 0, 0, 5])(data))
    assert sampling_hints(read(tmp_path)) == SamplingHints()


@pytest.mark.parametrize(
    ("name", "vr", "value"),
    [
        ("AcquisitionMatrix", "US", [9, 0, 5]),
        ("AcquisitionMatrix", "US", [0, 0, 0, 0]),
        ("AcquisitionMatrix", "US", [9, 9, 9, 9]),
        ("AcquisitionMatrix", "SS", [-9, 0, 0, 5]),
        ("AcquisitionMatrix", "FL", [9.5, 0, 0, 5]),
        ("AcquisitionMatrix", "OB", b"\x09"),
        ("InPlanePhaseEncodingDirection", "CS", "UP"),
        ("PartialFourier", "CS", "MAYBE"),
        ("ScanOptions", "US", 3),
    ],
)
def test_damaged_elements_are_named_and_not_quoted(tmp_path, name, vr, value):
    def change(data: Dataset) -> None:
        set_to(AcquisitionMatrix=[9, 0, 0, 5], InPlanePhaseEncodingDirection="COL")(data)
        data[name] = DataElement(name, vr, value)

    found = hints_of(tmp_path, change)
    (ignored,) = found.ignored
    assert ignored.startswith(f"{name} (0018,")
    assert all(word not in ignored for word in ("UP", "MAYBE"))
    kept = None if name == "AcquisitionMatrix" else 9 / 12
    assert found.bands[0] == kept


@pytest.mark.parametrize(
    ("name", "word"), [("AcquisitionMatrix", "nine"), ("PercentPhaseFieldOfView", "half")]
)
def test_words_for_numbers_are_passed_over_and_named(tmp_path, name, word):
    def change(data: Dataset) -> None:
        set_to(AcquisitionMatrix=[9, 0, 0, 5], InPlanePhaseEncodingDirection="COL")(data)
        data[name] = DataElement(name, "LO", word)

    found = hints_of(tmp_path, change)
    assert found.bands[0] == (None if name == "AcquisitionMatrix" else 9 / 12)
    (finding,) = reading_findings(read(tmp_path))
    assert finding.code == "malformed-elements"
    assert f"{name} (0018," in finding.text and word not in finding.text


def test_a_matrix_that_contradicts_the_direction_is_ignored(tmp_path):
    found = hints_of(tmp_path, set_to(AcquisitionMatrix=[9, 0, 0, 5], InPlanePhaseEncodingDirection="ROW"))
    assert (found.bands, found.ignored) == (NOTHING, ("AcquisitionMatrix (0018,1310)",))


def test_slices_that_state_different_things_state_nothing(tmp_path):
    def change(index, data):
        data.AcquisitionMatrix = [9 if index else 6, 0, 0, 5]

    write_series(tmp_path, change=change)
    assert sampling_hints(read(tmp_path)) == SamplingHints()


def test_frames_of_enhanced_images_state_it_too(tmp_path):
    geometry = Dataset()
    geometry.InPlanePhaseEncodingDirection = "COLUMN"
    geometry.MRAcquisitionFrequencyEncodingSteps, geometry.MRAcquisitionPhaseEncodingStepsInPlane = 9, 5
    modifier = Dataset()
    modifier.PartialFourier = "YES"
    groups = [
        frame(k, np.eye(3), MRFOVGeometrySequence=geometry, MRModifierSequence=modifier) for k in range(7)
    ]
    pixels = np.random.default_rng(0).integers(0, 2000, (7, 10, 12)).astype(np.int16)
    enhanced(tmp_path / "a", pixels, groups, KSpaceFiltering="NONE")
    found = sampling_hints(read(tmp_path / "a"))
    assert found.bands == (9 / 12, 5 / 10, None)
    assert (found.partial_fourier, found.filtered, found.ignored) == (True, False, ())


@pytest.mark.parametrize(
    ("said", "acquired", "voxels"),
    [
        ({"PhaseEncodingDirection": "j-"}, (None, 6, None), (None, 8, None)),
        ({"PhaseEncodingAxis": "k"}, (None, None, 6), (None, None, 8)),
        ({"InPlanePhaseEncodingDirectionDICOM": "COL"}, NOTHING, NOTHING),
        (
            {"ImageOrientationPatientDICOM": AXIAL_LPS, "InPlanePhaseEncodingDirectionDICOM": "COL"},
            (5, 6, None),
            (8, 8, None),
        ),
        (
            {"ImageOrientationPatientDICOM": SAGITTAL_LPS, "InPlanePhaseEncodingDirectionDICOM": "ROW"},
            (None, 6, 5),
            (None, 8, 6),
        ),
        (
            {"ImageOrientationPatientDICOM": SAGITTAL_LPS, "PhaseEncodingDirection": "i"},
            (6, None, None),
            None,
        ),
    ],
)
def test_the_axes_of_a_bids_sidecar_are_found(said, acquired, voxels):
    found = sampling_stated({"AcquisitionMatrixPE": 6, "ReconMatrixPE": 8, "BaseResolution": 5, **said}, RAS)
    assert (found.acquired, found.ignored) == (acquired, ())
    assert voxels is None or found.voxels == voxels


@pytest.mark.parametrize(
    ("said", "partial"),
    [
        ({"PartialFourier": 0.875}, True),
        ({"PartialFourier": 1}, False),
        ({"PartialFourier": "YES"}, True),
        ({"ScanOptions": "IR_PFP"}, True),
        ({"ScanOptions": "PFP\\FS", "PartialFourier": 1}, True),
        ({}, None),
    ],
)
def test_partial_fourier_of_a_bids_sidecar(said, partial):
    assert sampling_stated(said, RAS).partial_fourier is partial


def test_a_bids_sidecar_states_filters_and_distortion():
    found = sampling_stated({"ImageType": ["ORIGINAL", "PRIMARY", "M", "DIS3D", "FIL"]}, RAS)
    assert (found.filtered, found.distortion_corrected) == (True, True)
    stated = sampling_stated(
        {"ImageType": ["ORIGINAL", "M", "DIS3D"], "NonlinearGradientCorrection": False}, RAS
    )
    assert stated.distortion_corrected is False


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("AcquisitionMatrixPE", value) for value in (0, -6, "6", 6.5, True, [6, 6], {"a": 1}, 10**400)),
        *(("PartialFourier", value) for value in (0, 1.5, -1, "MAYBE", float("nan"), [])),
        *(("PhaseEncodingDirection", value) for value in ("up", 3, ["i", "j"])),
        ("ImageOrientationPatientDICOM", [0, 0, 0, 0, 0, 0]),
        ("ImageOrientationPatientDICOM", [1, 0]),
        ("NonlinearGradientCorrection", "yes"),
    ],
)
def test_damaged_keys_are_named(key, value):
    said = {"AcquisitionMatrixPE": 6, "ReconMatrixPE": 8, "PhaseEncodingAxis": "j", key: value}
    assert sampling_stated(said, RAS).ignored == (() if value == [] else (key,))


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2]", '"words"', "[" * 100_000, "\xff", "{}" + " " * MOST_JSON]
)
def test_a_sidecar_that_is_none_is_no_error(tmp_path, text):
    path = save(tmp_path / "a_T1w.nii", head((16, 16, 16)))
    (tmp_path / "a_T1w.json").write_bytes(text.encode("latin-1"))
    found = sampling_hints(read(path))
    assert found.bands == NOTHING
    assert found.ignored in {(), ("a_T1w.json",)}


def test_no_word_of_a_sidecar_reaches_the_record(tmp_path):
    path = save(tmp_path / "a_T1w.nii", head((16, 16, 16)))
    said = {
        "PatientName": "Doe^Jane",
        "ScanOptions": "SECRET",
        "BaseResolution": "HIDDEN",
        "ImageType": ["PRIVATE"],
    }
    (tmp_path / "a_T1w.json").write_text(json.dumps(said))
    details = json.dumps(read(path).source.details)
    assert '"ignored": ["BaseResolution"]' in details
    assert not any(word in details for word in ("Jane", "SECRET", "HIDDEN", "PRIVATE"))


@pytest.mark.parametrize(
    "details", [{}, {"sampling": 3}, {"sampling": {"acquired": [1, "a"], "voxels": None}}]
)
def test_a_source_of_others_states_nothing(details):
    volume = Volume(np.zeros((4, 4, 4), np.float32), Geometry((4, 4, 4), np.eye(4)))
    assert sampling_hints(volume) == SamplingHints()
    stated = Volume(volume.array, volume.geometry, source=Source("", "array", details=details))
    assert sampling_hints(stated) == SamplingHints()


@pytest.mark.parametrize(
    ("stated", "verdict"), [(BAND, Verdict.CONFIRMED), (0.5, Verdict.OVERRULED), (1.0, Verdict.OVERRULED)]
)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_spectrum_confirms_or_overrules(axis, stated, verdict):
    scan = zero_filled(axis)
    bands = tuple(stated if other == axis else None for other in range(3))
    model, alone = measure_noise(scan, SPACING, hints=SamplingHints(bands)), measure_noise(scan, SPACING)
    assert (model.grid, model.sigma) == (alone.grid, alone.sigma)
    assert model.axes[axis].band == pytest.approx(BAND, abs=2 / 64)
    assert (model.axes[axis].stated, model.axes[axis].verdict) == (stated, verdict)
    assert [model.axes[other].verdict for other in range(3) if other != axis] == [None, None]


def test_a_scan_that_was_sampled_as_it_is_overrules_zero_filling():
    scan = np.abs(head() + complex_noise((64,) * 3, [None] * 3, np.random.default_rng(0))).astype(np.float32)
    model = measure_noise(scan, SPACING, hints=SamplingHints((BAND, 0.5, 1.0)))
    assert model.grid == scan.shape
    assert [axis.verdict for axis in model.axes] == [Verdict.OVERRULED, Verdict.OVERRULED, Verdict.CONFIRMED]


def test_where_the_spectrum_is_in_doubt_the_header_decides():
    scan = zero_filled(after=16.0)
    power = axis_spectra(scan)[0]
    inside, beyond = (np.exp(np.log(part).mean()) for part in (power[20:24], power[26:]))
    assert STATED_CLIFF < inside / beyond < CLIFF
    assert band_edge(power) is None
    assert band_edge(power, BAND) == BAND
    assert [band_edge(power, stated) for stated in (0.5, 0.6, 0.9, 1.0)] == [None] * 4
    model = measure_noise(scan, SPACING, hints=SamplingHints((BAND, None, None)))
    assert model.grid == (48, 64, 64)
    assert model.axes[0].verdict is Verdict.CONFIRMED


@pytest.mark.parametrize("array", [zero_filled()[:, :16], np.zeros((64, 64, 64), np.float32)])
def test_what_the_spectrum_cannot_tell_is_left_whole(array):
    model = measure_noise(array, SPACING, hints=SamplingHints((None, BAND, None)))
    assert model.axes[1].verdict is Verdict.NOT_MEASURED
    assert model.axes[1].size == array.shape[1]


def test_the_verdict_of_what_nobody_stated_is_none():
    assert verdict_on(None, 0.5, 256) is None
    assert verdict_on(0.5, 0.5 + NEAR / 2, 256) is Verdict.CONFIRMED
    assert verdict_on(0.5, 0.5 + 2 * NEAR, 256) is Verdict.OVERRULED
    assert verdict_on(0.5, 0.5 + 2 * NEAR, NEAR_VOXELS * 16) is Verdict.CONFIRMED


@pytest.fixture
def cli(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


def test_the_command_says_what_header_and_spectrum_say(cli, tmp_path):
    path = save(tmp_path / "a_T1w.nii", zero_filled(1))
    plain = cli("noise", path)[1]
    assert "header" not in plain
    said = {
        "PhaseEncodingDirection": "j",
        "AcquisitionMatrixPE": 48,
        "ReconMatrixPE": 64,
        "PartialFourier": 0.75,
        "NonlinearGradientCorrection": False,
        "BaseResolution": "many",
    }
    (tmp_path / "a_T1w.json").write_text(json.dumps(said))
    status, table, errors = cli("noise", path)
    assert (status, errors) == (0, "")
    assert "75.0, confirmed" in table
    assert "partial Fourier, no distortion correction" in table
    assert ["ignored", "in", "it", "BaseResolution"] in [line.split() for line in table.splitlines()]
    assert "many" not in table
    (tmp_path / "a_T1w.json").write_text(json.dumps({**said, "AcquisitionMatrixPE": 32}))
    assert "50.0, overruled by the spectrum" in cli("noise", path)[1]
    record = json.loads(cli("noise", path, "--json")[1])
    assert [axis["verdict"] for axis in record["axes"]] == [None, "overruled by the spectrum", None]
    assert [axis["stated"] for axis in record["axes"]] == [None, 0.5, None]
    assert record["hints"] == {
        "partial_fourier": True,
        "filtered": None,
        "distortion_corrected": False,
        "ignored": ["BaseResolution"],
    }
