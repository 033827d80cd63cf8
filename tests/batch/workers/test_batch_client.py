"""What a batch hears of workers that end at awkward moments."""

from __future__ import annotations

import sys
import threading
import time

from medrestore.batch.workers import client
from medrestore.batch.workers.failures import Failure
from medrestore.batch.workers.process import Process


class Gone(Process):
    """A process that has ended before anybody gives it a case, as one does that is interrupted at once."""

    def __init__(self, *given):
        super().__init__(*given)
        while not self.ended:
            time.sleep(0.01)


def test_a_worker_that_has_ended_before_its_first_case_is_a_failure_and_no_wait(monkeypatch, tmp_path):
    monkeypatch.setattr(client, "Process", Gone)
    worker, answers = client.Worker([sys.executable, "-c", ""]), []
    job = {"case": "a", "out": str(tmp_path)}
    asking = threading.Thread(target=lambda: answers.append(worker.run(job)), daemon=True)
    asking.start()
    asking.join(30)
    assert not asking.is_alive()
    assert isinstance(answers[0], Failure)
    worker.close()
