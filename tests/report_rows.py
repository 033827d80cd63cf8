"""What tests of reports share."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np

from medrestore.report import CaseRow
from medrestore.volume import Volume

DONE = CaseRow(
    case="0a1b2c",
    name="sub-01/anat/T1w",
    status="done",
    model="medrestore/mr-denoise",
    task="denoise",
    modality="MR",
    shape=(20, 24, 16),
    spacing_mm=(1.0, 1.0, 2.0),
    noise=0.05,
    psnr=33.25,
    ssim=0.931,
    seconds=12.5,
    predicted_seconds=11.0,
    peak_bytes=2**30,
    predicted_peak_bytes=2**31,
    output="sub-01/anat/T1w.nii.gz",
)
FAILED = CaseRow(
    case="ffff01",
    name="sub-02/anat/T1w",
    status="failed",
    stage="network",
    cause="killed by signal 11\nlast line of the log",
    attempts=3,
)


class Scripts(HTMLParser):
    """Counts elements and keeps the text of the headings and links."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.text += data


def parsed(path):
    page = Scripts()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def scan(shape=(20, 24, 16), affine=None, seed=0, **kinds):
    rng = np.random.default_rng(seed)
    return Volume.from_array(rng.normal(100, 20, shape).astype(np.float32), affine, **kinds)
