"""What tests of BIDS data sets share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

CANARY = "Zq7Canary"


def write(path: Path, said: Mapping[str, object]) -> None:
    path.write_text(json.dumps(said))
