"""What a batch says of a case names nobody, whatever the folders and files are called."""

from __future__ import annotations

import signal
import sys

import nibabel as nib
import numpy as np
import pytest

from medrestore.batch import Settings, State, find_cases, run_batch
from medrestore.batch.find.names import without_names
from medrestore.batch.workers.client import Worker
from medrestore.batch.workers.failures import Failure

NAME = "Doe^Jane"
CRASHES = """
import json, os, signal, sys
from pathlib import Path
for line in sys.stdin:
    job = json.loads(line)
    scan = Path(job["root"], job["source"])
    print("reading", scan, "from", scan.parent, "for", job["out"], file=sys.stderr, flush=True)
    for path in scan.iterdir() if scan.is_dir() else []:
        print("codec gives up on", path.name, file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
"""


def test_the_names_of_a_case_and_of_its_files_are_replaced(tmp_path):
    folder = tmp_path / NAME / "t1"
    folder.mkdir(parents=True)
    (folder / "Jane1.dcm").touch()
    job = {"case": "0123456789ab", "root": str(tmp_path), "source": f"{NAME}/t1", "out": f"/r/{NAME}/t1"}
    said = (
        f"{folder}/Jane1.dcm: Jane1.dcm is cut off, seen in {NAME}/t1, {folder.parent} and /r/{NAME}/t1; t1"
    )
    hidden = without_names(said, {**job, "reference": "/truth/Jane.nii"})
    assert "Jane" not in hidden and "0123456789ab" in hidden and "is cut off, seen in" in hidden
    assert without_names("Jane.nii", {**job, "reference": "/truth/Jane.nii"}) == "0123456789ab"
    assert without_names("outline", {**job, "source": "out/line"}) == "outline"


def test_the_last_words_of_a_worker_that_crashed_name_nobody(tmp_path):
    (tmp_path / "in" / NAME).mkdir(parents=True)
    (tmp_path / "in" / NAME / f"{NAME}.nii").write_bytes(b"x" * 400)
    entries = run_batch(
        find_cases(tmp_path / "in").cases,
        tmp_path / "out",
        Settings(),
        [Worker((sys.executable, "-c", CRASHES))],
    )
    (entry,) = entries.values()
    assert entry.state is State.FAILED and "reading" in entry.log
    (ledger,) = (tmp_path / "out").rglob("ledger-*.jsonl")
    assert NAME not in ledger.read_text()


@pytest.mark.slow
def test_a_worker_that_crashes_says_where_it_was(tmp_path):
    """A plugin that ends the process: the traceback of all threads is in the ledger."""
    nib.save(nib.Nifti1Image(np.ones((8, 8, 8), np.float32), np.eye(4)), tmp_path / "a.nii")
    crash = (
        "import signal, medrestore.batch.workers.main as worker\n"
        "def restore_and_crash(self, queued, reporter): signal.raise_signal(signal.SIGSEGV)\n"
        "worker.WorkerServer._restore = restore_and_crash\n"
        "worker.main()"
    )
    worker = Worker((sys.executable, "-c", crash))
    job = {"case": "0", "root": str(tmp_path), "source": "a.nii", "out": str(tmp_path / "b"), "restore": {}}
    job |= {"modality": "MR", "series": None, "reference": None, "header": None, "policy": {}, "form": None}
    job |= {"dtype": "float32", "save_std": False, "sr": False, "sidecar": {}, "beside": {}}
    try:
        answer = worker.run(job)
    finally:
        worker.close()
    assert isinstance(answer, Failure) and signal.SIGSEGV.name in answer.cause
    assert "restore_and_crash" in answer.log and answer.stage == "read"
