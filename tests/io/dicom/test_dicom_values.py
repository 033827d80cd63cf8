"""Values of DICOM pixels: padding, scales, transfer syntaxes, and decoders that crash or hang."""

from __future__ import annotations

import struct
import subprocess
import sys
import time

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from test_io_dicom import image, place, series, voxels

from medrestore.errors import InputError
from medrestore.io import ReadPolicy, plan_dicom, read
from medrestore.io.dicom.parse import pixels as dicom_pixels


def one(folder, stored, modality="MR", **attributes):
    """Write one image and return what is read."""
    stored = np.asarray(stored)
    place(image(stored, modality, **attributes), 0, np.eye(3)).save_as(folder / "a", enforce_file_format=True)
    return read(folder)


# --- padding ---


@pytest.mark.parametrize(
    ("attributes", "padded"),
    [
        ({"PixelPaddingValue": -2000}, [-2000]),
        ({"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}, [-2000, -1995, -1990]),
        ({"PixelPaddingValue": -1990, "PixelPaddingRangeLimit": -2000}, [-2000, -1995, -1990]),
    ],
)
def test_padding_of_ct_becomes_air_and_is_counted(tmp_path, attributes, padded):
    stored = np.array([[-2000, -1995, -1990], [24, 1024, 2024]], np.int16)
    volume = one(tmp_path, stored, "CT", RescaleSlope=1, RescaleIntercept=1000, **attributes)
    expected = np.where(np.isin(stored, padded), -1000, stored + 1000)
    assert np.array_equal(volume.array[:, :, 0], expected.T)
    found = volume.source.details["padding"]
    assert (found["voxels"], found["became"]) == (len(padded), -1000)
    assert tuple(found["values"]) == (min(padded) + 1000, max(padded) + 1000)


@pytest.mark.parametrize("value", [-2000, -3024, -8192, -1993])
def test_values_below_any_attenuation_are_padding_of_ct_that_nothing_declares(tmp_path, value):
    stored = np.array([[value, value, -1100], [-1024, 0, 3000]], np.int16)
    volume = one(tmp_path, stored, "CT", RescaleSlope=1, RescaleIntercept=0)
    assert volume.array[:2, 0, 0].tolist() == [-1000, -1000]
    assert volume.array[2, 0, 0] == -1100  # noise in air is measured
    assert volume.source.details["padding"]["voxels"] == 2


def test_padding_of_mr_becomes_the_least_value_measured(tmp_path):
    volume = one(tmp_path, np.array([[-9999, 7, 9], [12, 300, 5]], np.int16), PixelPaddingValue=-9999)
    assert volume.array[:, :, 0].T.tolist() == [[5, 7, 9], [12, 300, 5]]


def test_darkness_that_is_called_padding_stays_dark(tmp_path):
    volume = one(tmp_path, np.array([[0, 7, 9], [12, 300, 5]], np.int16), PixelPaddingValue=0)
    assert volume.array[0, 0, 0] == 0
    assert volume.source.details["padding"]["voxels"] == 1


def test_padding_stated_without_its_sign_is_found(tmp_path):
    data = place(image(np.array([[-2000, 7, 9], [12, 300, 5]], np.int16)), 0, np.eye(3))
    data.add_new("PixelPaddingValue", "US", 65536 - 2000)
    data.save_as(tmp_path / "a", enforce_file_format=True)
    assert read(tmp_path).array.min() == 5


def test_no_padding_nothing_counted(tmp_path):
    series(tmp_path)
    assert "padding" not in read(tmp_path).source.details


# --- scales ---


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"RescaleType": "mgml"}, "rescale type MGML"),
        ({"RescaleSlope": None}, "without rescale slope"),
        ({"RescaleIntercept": None}, "without rescale slope"),
    ],
)
def test_ct_is_in_hu_or_refused(tmp_path, attributes, words):
    with pytest.raises(InputError, match=words):
        one(tmp_path, voxels()[0], "CT", **attributes)


@pytest.mark.parametrize("kind", ["HU", "US", "hu "])
def test_rescale_types_of_ct(tmp_path, kind):
    volume = one(tmp_path, voxels()[0], "CT", RescaleType=kind)
    assert np.array_equal(volume.array[:, :, 0], voxels()[0].T * 2.0 - 1024)


def test_modality_lookup_table(tmp_path):
    table = Dataset()
    table.add_new("LUTDescriptor", "SS", [4, -1, 16])
    table.add_new("LUTData", "US", [100, 200, 400, 800])
    volume = one(tmp_path, np.array([[-5, -1, 0], [1, 2, 9]], np.int16), ModalityLUTSequence=[table])
    assert volume.array[:, :, 0].T.tolist() == [[100, 100, 200], [400, 800, 800]]


def philips(data, slope=0.01):
    block = data.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
    block.add_new(0x0D, "FL", 0.0)
    block.add_new(0x0E, "FL", slope)
    return data


def test_philips_values_on_request(tmp_path):
    data = philips(image(voxels()[1], RescaleSlope=2.0, RescaleIntercept=10.0))
    place(data, 0, np.eye(3)).save_as(tmp_path / "a", enforce_file_format=True)
    shown, floating = read(tmp_path), read(tmp_path, policy=ReadPolicy(values="philips"))
    # Chenevert et al. 2014: DV = PV * RS + RI, FP = DV / (RS * SS).
    assert np.array_equal(shown.array[:, :, 0], voxels()[1].T * 2.0 + 10)
    np.testing.assert_allclose(floating.array, shown.array / (2.0 * 0.01), rtol=1e-6)


def test_real_world_values_on_request(tmp_path):
    item, code = Dataset(), Dataset()
    item.RealWorldValueSlope, item.RealWorldValueIntercept = 0.5, -3.0
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "ms", "UCUM", "ms"
    item.MeasurementUnitsCodeSequence = [code]
    one(tmp_path, voxels()[1], RealWorldValueMappingSequence=[item])
    volume = read(tmp_path, policy=ReadPolicy(values="real-world"))
    assert np.array_equal(volume.array[:, :, 0], voxels()[1].T * 0.5 - 3)
    assert volume.units == "ms"


def test_values_that_a_series_does_not_have_are_not_made_up(tmp_path):
    one(tmp_path, voxels()[1])
    (planned,) = plan_dicom(tmp_path, ReadPolicy(values="philips")).series
    assert (planned.action, planned.reason) == ("fail", "has no philips values; read the rescaled ones")


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_integers_of_every_kind(tmp_path, dtype):
    stored = np.array([[0, 1, 2], [np.iinfo(dtype).min, np.iinfo(dtype).max, 7]], dtype)
    bits = stored.itemsize * 8
    kind = {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1}
    volume = one(tmp_path, stored, **kind, PixelRepresentation=int(dtype[0] == "i"))
    assert np.array_equal(volume.array[:, :, 0], stored.T.astype(np.float32))


# --- transfer syntaxes ---


def smooth() -> np.ndarray:
    i, j = np.mgrid[:32, :24]
    return ((np.sin(i / 5) + np.cos(j / 4) + 2) * 60).astype(np.uint16)


def encoded(syntax, stored: np.ndarray) -> bytes:
    codecs = pytest.importorskip("imagecodecs")
    if syntax in {JPEGLossless, JPEGLosslessSV1}:
        return codecs.ljpeg_encode(stored)
    if syntax == JPEGBaseline8Bit:
        return codecs.jpeg8_encode(stored.astype(np.uint8), level=95)
    if syntax == JPEGExtended12Bit:
        return codecs.jpeg8_encode(stored, level=98, bitspersample=12)
    if syntax == JPEGLSLossless:
        return codecs.jpegls_encode(stored)
    if syntax == HTJ2KLossless:
        return codecs.htj2k_encode(stored, reversible=True)
    return codecs.jpeg2k_encode(stored, codecformat="J2K", reversible=True, level=0)


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize(
    ("syntax", "loss"),
    [
        (JPEGBaseline8Bit, 3),
        (JPEGExtended12Bit, 3),
        (JPEGLossless, 0),
        (JPEGLosslessSV1, 0),
        (JPEGLSLossless, 0),
        (JPEG2000Lossless, 0),
        (HTJ2KLossless, 0),
    ],
)
def test_compressed_images(tmp_path, syntax, loss, fragments):
    stored = smooth()
    kind = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0}
    if syntax == JPEGBaseline8Bit:
        kind = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
    data = place(image(stored, **kind), 0, np.eye(3))
    data.PixelData = encapsulate([encoded(syntax, stored)], fragments_per_frame=fragments)
    data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    data.file_meta.TransferSyntaxUID = syntax
    data.save_as(tmp_path / "a", enforce_file_format=True)
    assert np.abs(read(tmp_path).array[:, :, 0] - stored.T).max() <= loss


def test_deflated_images(tmp_path):
    data = place(image(voxels()[2]), 0, np.eye(3))
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    data.save_as(tmp_path / "a", enforce_file_format=True)
    assert np.array_equal(read(tmp_path).array[:, :, 0], voxels()[2].T)


def test_a_deflate_bomb_is_refused_quickly(tmp_path):
    data = place(image(np.zeros((2, 2), np.int16), Rows=9000, Columns=9000), 0, np.eye(3))
    data.PixelData = bytes(2 * 9000 * 9000)
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    data.save_as(tmp_path / "a", enforce_file_format=True)
    assert (tmp_path / "a").stat().st_size < 300_000
    with pytest.raises(InputError, match="inflate to more than"):
        read(tmp_path)


def test_frames_that_no_file_of_that_size_holds_are_refused_before_decoding(tmp_path):
    data = place(image(voxels()[0], Rows=60000, Columns=60000), 0, np.eye(3))
    data.PixelData = encapsulate([b"\0" * 64])
    data.file_meta.TransferSyntaxUID = JPEG2000Lossless
    data.save_as(tmp_path / "a", enforce_file_format=True)
    with pytest.raises(InputError, match="declares 1 x 60000 x 60000 pixels"):
        read(tmp_path)


# --- decoders that go wrong ---


def rle(folder):
    data = place(image(voxels()[2]), 0, np.eye(3))
    data.compress(RLELossless, generate_instance_uid=False)
    data.save_as(folder / "a", enforce_file_format=True)
    return folder


def instead(monkeypatch, program: str) -> None:
    """Have another program stand in for the decoder."""

    def start():
        return subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    monkeypatch.setattr(dicom_pixels, "_start", start)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV|SIGKILL"),
        ("input(); raise SystemExit(3)", "decoder of RLE Lossless died"),
        ("input(); print('{\"frames\": [[\"<i2\", 5, 6]]}', flush=True); print('xx')", "died"),
    ],
)
def test_a_decoder_that_dies_is_an_error_of_the_file(tmp_path, monkeypatch, program, words):
    instead(monkeypatch, program)
    with pytest.raises(InputError, match=words) as caught:
        read(rle(tmp_path))
    assert str(caught.value).startswith(str(tmp_path / "a"))


def test_a_decoder_that_hangs_is_ended(tmp_path, monkeypatch):
    instead(monkeypatch, "import time; input(); time.sleep(600)")
    monkeypatch.setattr(dicom_pixels.Pixels.__init__, "__defaults__", (1.0,))
    begun = time.monotonic()
    with pytest.raises(InputError, match="took longer than 1 s and was ended"):
        read(rle(tmp_path))
    assert time.monotonic() - begun < 30


def test_after_an_error_the_next_series_is_read(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "good").mkdir()
    path = rle(tmp_path / "bad") / "a"
    data = pydicom.dcmread(path)
    data.PixelData = encapsulate([struct.pack("<16I", 15, *[1 << 30] * 15) + b"\0" * 10])
    data.save_as(path)
    with pytest.raises(InputError, match=r"cannot be decoded \(RLE Lossless\)"):
        read(tmp_path / "bad")
    assert np.array_equal(read(rle(tmp_path / "good")).array[:, :, 0], voxels()[2].T)
