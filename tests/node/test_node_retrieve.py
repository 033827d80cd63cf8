"""Fetching from a node that sends images twice, or others' images, by C-GET and by C-MOVE."""

from __future__ import annotations

import socket

import pydicom
import pytest
from dicom_series import SERIES, STUDY, write_series
from pydicom.uid import MRImageStorage

pytest.importorskip("pynetdicom")
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from medrestore.errors import InputError
from medrestore.node import Destination
from medrestore.node.retrieve import Query, retrieve


@pytest.fixture(params=["get", "move"])
def fetch(request, tmp_path):
    """Returns what fetches a list of images from an archive that sends just these."""
    images = []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def answer(event):
        if request.param == "move":
            yield "127.0.0.1", port
        yield len(images)
        for data in images:
            yield 0xFF00, data

    archive = AE(ae_title="ARCHIVE")
    archive.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
    archive.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
    archive.add_supported_context(MRImageStorage, scu_role=True, scp_role=True)
    archive.add_requested_context(MRImageStorage)
    handlers = [(evt.EVT_C_GET, answer), (evt.EVT_C_MOVE, answer)]
    server = archive.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    source = Destination("127.0.0.1", server.socket.getsockname()[1], "ARCHIVE")
    (tmp_path / "out").mkdir()

    def run(*given):
        images.extend(given)
        return retrieve(
            source, Query(STUDY), tmp_path / "out", "ME", port if request.param == "move" else None
        )

    yield run
    server.shutdown()


@pytest.fixture
def images(tmp_path):
    write_series(tmp_path / "scan")
    return [pydicom.dcmread(path) for path in sorted((tmp_path / "scan").iterdir())]


def test_an_image_that_comes_twice_is_one_image(fetch, images, tmp_path):
    assert fetch(*images, images[0], images[3]) == {SERIES: 6}
    assert len(list((tmp_path / "out" / SERIES).iterdir())) == 6


def test_an_image_that_was_not_asked_for_is_not_taken(fetch, images):
    images[2].StudyInstanceUID = "1.2.3"
    with pytest.raises(InputError, match=r"did not come whole \(status 0xB000, 5 images came, 1 failed\)"):
        fetch(*images)


def test_two_images_with_one_uid_are_said_and_not_one_of_them_dropped(fetch, images):
    images[1].SOPInstanceUID = images[1].file_meta.MediaStorageSOPInstanceUID = images[0].SOPInstanceUID
    with pytest.raises(InputError, match=r"did not come whole \(status 0xB000, 5 images came, 1 failed\)"):
        fetch(*images)
