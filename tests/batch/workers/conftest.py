"""What tests of several workers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def dask_workers_are_loaded_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fork the workers that Dask starts here, as its own tests do; those of the command start as a user's."""
    distributed = pytest.importorskip("distributed", reason="the extra `batch` is not installed")
    from dask import config

    with config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        distributed.utils.get_mp_context()  # the first call says what is loaded
        request.getfixturevalue("forkserver")
        yield
