"""A log of what was done, one line of JSON each, in the file that an environment variable names."""

from __future__ import annotations

import json
import os
from pathlib import Path

VARIABLE = "MEDRESTORE_EXAMPLES_LOG"


def log(event: str, **facts: object) -> None:
    """Append one line; where no file is named, nothing is kept."""
    if path := os.environ.get(VARIABLE):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, **facts}) + "\n")
