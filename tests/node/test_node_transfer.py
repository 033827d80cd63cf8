"""Sending by C-STORE to archives that take one transfer syntax, refuse, or have what they are sent."""

from __future__ import annotations

import zlib
from io import BytesIO

import pydicom
import pytest
from dicom_series import SERIES, header, write_series
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

pytest.importorskip("pynetdicom")
from pynetdicom import AE, evt

from medrestore.errors import InputError
from medrestore.io.dicom.parse.files import is_dicom
from medrestore.node import Destination
from medrestore.node.instance import Instance
from medrestore.node.transfer import send

MR = "1.2.840.10008.5.1.4.1.1.4"


class Archive:
    """Keeps what it is sent; answers by `statuses`, one for each image, then with success."""

    def __init__(self, *syntaxes: str) -> None:
        self.images, self.statuses = [], []
        entity = AE(ae_title="ARCHIVE")
        entity.add_supported_context(MR, list(syntaxes))
        self._server = entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        self.destination = Destination("127.0.0.1", self._server.socket.getsockname()[1], "ARCHIVE")

    def _store(self, event):
        data = event.dataset
        data.file_meta = event.file_meta
        self.images.append(data)
        return self.statuses.pop(0) if self.statuses else 0x0000

    def close(self):
        self._server.shutdown()


@pytest.fixture
def archive():
    made = Archive(ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    yield made
    made.close()


def mark(_, data):
    maker = pydicom.Dataset()
    maker.Manufacturer = "medrestore"
    data.ContributingEquipmentSequence = [maker]


@pytest.fixture
def results(tmp_path):
    write_series(tmp_path / "results", change=mark)
    return sorted(str(path) for path in (tmp_path / "results").iterdir())


def test_an_archive_of_implicit_vr_alone_gets_the_same_images(results):
    archive = Archive(ImplicitVRLittleEndian)
    assert send(archive.destination, results, "ME") == ""
    archive.close()
    assert {data.file_meta.TransferSyntaxUID for data in archive.images} == {ImplicitVRLittleEndian}
    for data, path in zip(archive.images, results, strict=True):
        sent = pydicom.dcmread(path)
        assert data.PixelData == sent.PixelData and data.SliceThickness == sent.SliceThickness
        assert data.ContributingEquipmentSequence[0].Manufacturer == "medrestore"


def test_an_archive_of_both_gets_explicit_vr(archive, results):
    assert send(archive.destination, results, "ME") == ""
    assert {data.file_meta.TransferSyntaxUID for data in archive.images} == {ExplicitVRLittleEndian}


def test_results_that_an_archive_has_are_taken_and_the_others_follow(archive, results):
    archive.statuses = [0x0111, 0x0111, 0xA700]
    assert send(archive.destination, results, "ME") == "ARCHIVE: status 0xA700, 1 of 6 images not taken"
    assert len(archive.images) == 6
    archive.statuses = [0x0111] * 5
    assert send(archive.destination, results, "ME") == ""


def test_scans_of_others_that_an_archive_has_may_be_other_scans(archive, tmp_path):
    write_series(tmp_path / "others")
    archive.statuses = [0x0111] * 2
    files = [str(path) for path in (tmp_path / "others").iterdir()]
    assert "status 0x0111, 2 of 6" in send(archive.destination, files, "ME")


def test_a_destination_over_tls_is_not_sent_to_without(archive, results):
    secure = Destination("127.0.0.1", archive.destination.port, "ARCHIVE", tls=True)
    assert "over TLS" in send(secure, results, "ME")
    assert archive.images == []


def test_whoever_is_asked_to_stop_sends_no_further_image(archive, results):
    assert "asked to stop" in send(
        archive.destination, results, "ME", is_stopped=lambda: bool(archive.images)
    )
    assert len(archive.images) == 1


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_file_without_preamble_is_sent(archive, tmp_path, syntax):
    data = header("MR", 0)
    stream = BytesIO()
    pydicom.dcmwrite(
        stream, pydicom.Dataset(data), implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True
    )
    (tmp_path / "bare").write_bytes(stream.getvalue())
    assert is_dicom(tmp_path / "bare")
    assert send(archive.destination, [str(tmp_path / "bare")], "ME") == ""
    assert archive.images[0].SOPInstanceUID == data.SOPInstanceUID


@pytest.mark.parametrize("length", [0, 5000], ids=["short", "long meta information"])
def test_a_deflate_bomb_is_refused_before_it_fills_memory(archive, tmp_path, length):
    data = header("MR", 0)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    if length:
        data.file_meta.PrivateInformationCreatorUID = "1.2.3"
        data.file_meta.PrivateInformation = bytes(length)
    stream = BytesIO()
    pydicom.dcmwrite(stream, data, enforce_file_format=True)
    whole = stream.getvalue()
    end = 144 + int.from_bytes(whole[140:144], "little")
    elements = zlib.decompress(whole[end:], -zlib.MAX_WBITS)
    pixels = b"\xe0\x7f\x10\x00OW\0\0" + (1 << 26).to_bytes(4, "little") + bytes(1 << 26)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = whole[:end] + packer.compress(elements + pixels) + packer.flush()
    with pytest.raises(InputError, match="inflate to more than"):
        Instance.read(bomb)
    (tmp_path / "bomb").write_bytes(bomb)
    assert "cannot be read (InputError)" in send(archive.destination, [str(tmp_path / "bomb")], "ME")
    assert Instance.read(whole).series == SERIES
