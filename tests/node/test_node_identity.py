"""An image that has the UID of another: it is not confirmed, as only one of the two can be kept."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from dataclasses import replace
from io import BytesIO

import pydicom
import pytest
from dicom_series import SERIES, header, stored_voxels, write_series
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)
from tiny import CommandLine

pytest.importorskip("pynetdicom")
from pynetdicom import AE, build_context

from medrestore.cli import archive
from medrestore.errors import InputError
from medrestore.node import Ledger, Node, State
from medrestore.node.instance import Instance, Query, SeriesFolders, digest_of
from medrestore.node.job_store import Arrival
from medrestore.node.spool import Spool

KEPT, REFUSED = 0x0000, 0xC002


def image(index: int = 0) -> Dataset:
    """One slice of a series of MR images."""
    data = header("MR", index)
    data.Rows, data.Columns = stored_voxels()[index].shape
    data.add_new("PixelData", "OW", stored_voxels()[index].tobytes())
    return data


def with_other_pixels(data: Dataset) -> None:
    data.PixelData = bytes(len(data.PixelData))


def with_one_pixel_changed(data: Dataset) -> None:
    data.PixelData = data.PixelData[:-1] + b"\7"


def with_another_patient(data: Dataset) -> None:
    data.PatientName = "Somebody^Else"


def with_another_place(data: Dataset) -> None:
    data.ImagePositionPatient = [0, 0, 7]


def within_a_sequence(data: Dataset) -> None:
    data.ReferencedStudySequence = [Dataset()]
    data.ReferencedStudySequence[0].ReferencedSOPInstanceUID = "1.2.3"


def in_another_series(data: Dataset) -> None:
    data.SeriesInstanceUID = "1.2.3"


CHANGES = [
    with_other_pixels,
    with_one_pixel_changed,
    with_another_patient,
    with_another_place,
    within_a_sequence,
    in_another_series,
]


def send(node: Node, *images: Dataset, syntax: str = ExplicitVRLittleEndian) -> list[int]:
    """Send images over one association; return what each is answered."""
    entity = AE(ae_title="SENDER")
    entity.requested_contexts = [build_context(images[0].SOPClassUID, syntax)]
    association = entity.associate("127.0.0.1", node.port, ae_title="MEDRESTORE")
    answers = [association.send_c_store(data).Status for data in images]
    association.release()
    return answers


@pytest.mark.parametrize("change", CHANGES)
def test_another_image_with_the_uid_of_one_that_is_kept_is_refused_and_said(node, change, caplog):
    first, second = image(), image()
    change(second)
    assert send(node, first) == [KEPT]
    (path,) = node.spool.root.glob("incoming/*/*.dcm")
    before = path.read_bytes()
    assert send(node, second, image(1)) == [REFUSED, KEPT]
    assert path.read_bytes() == before
    assert {one.name for one in node.spool.root.glob("incoming/*/*.dcm")} == {
        f"{image(index).SOPInstanceUID}.dcm" for index in (0, 1)
    }
    assert "another one with this SOP Instance UID" in caplog.text and first.SOPInstanceUID in caplog.text
    assert "Else" not in caplog.text


@pytest.mark.parametrize("state", [State.QUEUED, State.RESTORED, State.SENT, State.FAILED])
def test_it_is_refused_whatever_became_of_the_first(node, state):
    changed = image()
    with_other_pixels(changed)
    assert send(node, image()) == [KEPT]
    node.ledger.move(SERIES, state)
    assert send(node, changed, image()) == [REFUSED, KEPT]


@pytest.mark.parametrize("state", [State.RECEIVING, State.FAILED])
def test_an_image_that_is_no_longer_in_the_spool_is_stored_again(node, state):
    assert send(node, image(), image(1)) == [KEPT, KEPT]
    node.ledger.move(SERIES, state)
    shutil.rmtree(node.spool.incoming(SERIES))
    assert send(node, image(), image(1)) == [KEPT, KEPT]
    assert len(list(node.spool.incoming(SERIES).iterdir())) == 2


def test_an_image_that_could_not_be_noted_leaves_no_file(node, monkeypatch):
    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(node.ledger, "stored", full)
        assert send(node, image()) == [0xA701]
        assert not node.spool.incoming(SERIES).exists()
    assert send(node, image()) == [KEPT]


def test_the_same_image_in_another_encoding_is_the_same_image(node):
    first, second = image(), image()
    for data in (first, second):
        within_a_sequence(data)
        data.ScanOptions = ""
    second.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert send(node, first) == [KEPT]
    assert send(node, second, syntax=ImplicitVRLittleEndian) == [KEPT]


def test_a_deflated_image_is_the_image_itself():
    deflated = image()
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert digest_of(written(deflated)) == digest_of(written(image()))


def test_of_two_that_come_at_once_one_is_kept_and_confirmed(node):
    answers: dict[int, int] = {}
    begin = threading.Barrier(6)

    def run(number: int) -> None:
        data = image()
        data.PixelData = bytes([number]) * len(data.PixelData)
        entity = AE(ae_title="SENDER")
        entity.requested_contexts = [build_context(data.SOPClassUID, ExplicitVRLittleEndian)]
        association = entity.associate("127.0.0.1", node.port, ae_title="MEDRESTORE")
        begin.wait(30)
        answers[number] = association.send_c_store(data).Status
        association.release()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers.values()) == [KEPT, *[REFUSED] * 5]
    (path,) = node.spool.root.glob("incoming/*/*.dcm")
    (kept,) = (number for number, answer in answers.items() if answer == KEPT)
    assert set(pydicom.dcmread(path).PixelData) == {kept}


def test_a_ledger_of_an_earlier_version_confirms_nothing_that_it_cannot_compare(tmp_path):
    base = sqlite3.connect(tmp_path / "ledger.sqlite")
    base.executescript(
        "create table series (uid text primary key, state text not null, modality text not null, "
        "description text not null, own integer not null, touched real not null, attempts integer not null "
        "default 0, due real not null default 0, reason text not null default '');"
        "create table instance (sop text primary key, series text not null);"
        f"insert into series values ('{SERIES}', 'sent', 'MR', '', 0, 1, 0, 0, '');"
        f"insert into instance values ('{image().SOPInstanceUID}', '{SERIES}');"
    )
    base.close()
    came = Instance.read(written(image()))
    for _ in range(2):
        ledger = Ledger(tmp_path / "ledger.sqlite")
        assert ledger.arrival(came) is Arrival.LATE
        assert ledger.get(SERIES).state is State.SENT
        ledger.stored(replace(came, series="1.5"), "a")
        assert ledger.arrival(replace(came, series="1.5")) is Arrival.KNOWN
        ledger.move("1.5", State.IGNORED)
        ledger.close()


def written(data: Dataset) -> bytes:
    stream = BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def test_what_cannot_be_taken_apart_is_compared_byte_by_byte():
    cut = written(image())[:-100]
    assert digest_of(cut) == digest_of(bytes(cut)) != digest_of(cut[:-1])
    compressed = image()
    compressed.file_meta.TransferSyntaxUID = JPEG2000Lossless
    compressed.PixelData = pydicom.encaps.encapsulate([b"a" * 20])
    other = image()
    other.file_meta.TransferSyntaxUID = JPEG2000Lossless
    other.PixelData = pydicom.encaps.encapsulate([b"b" * 20])
    assert digest_of(written(compressed)) != digest_of(written(other))


def test_a_folder_of_what_was_fetched_keeps_no_second_image_of_a_uid(tmp_path):
    first, other = (Instance.read(written(data)) for data in (image(), image()))
    changed = image()
    with_other_pixels(changed)
    folders = SeriesFolders(tmp_path)
    assert folders.keep(first) and folders.keep(other)
    assert not folders.keep(Instance.read(written(changed)))
    assert folders.counts == {SERIES: 1}
    assert (tmp_path / SERIES / f"{first.sop}.dcm").read_bytes() == first.content


def test_two_images_with_one_uid_from_a_web_service_are_said(tmp_path, monkeypatch, capsys):
    changed = image()
    with_other_pixels(changed)
    images = [Instance.read(written(data)) for data in (image(1), image(), changed)]
    monkeypatch.setattr("medrestore.node.wado.fetch", lambda *_: iter(images))
    with pytest.raises(InputError, match="two different images of the study have one UID"):
        archive._download("http://127.0.0.1", Query("1"), tmp_path)
    arguments = ("--from", "http://127.0.0.1/x", "--study", "1", "-o", tmp_path / "out")
    status, _, said = CommandLine(monkeypatch, capsys)("pull", *arguments)
    assert status == 2 and "nothing is kept" in said and not (tmp_path / "out").exists()


def test_an_image_that_could_not_be_written_may_come_again(tmp_path):
    write_series(tmp_path / "scan")
    came = Instance.read(next(iter((tmp_path / "scan").iterdir())).read_bytes())
    spool, ledger = Spool(tmp_path / "spool", 10), Ledger(tmp_path / "ledger.sqlite")
    assert not spool.store(came.series, came.sop, came.content)
    assert ledger.arrival(came) is Arrival.NEW
    ledger.close()
