"""The steps of the sampler as files, in a folder that appears whole or not at all."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from medrestore.errors import OutputError
from medrestore.io import write
from medrestore.job.outputs import INDEX, own_files

if TYPE_CHECKING:
    from medrestore.engine import TrajectoryPoint


class TrajectoryFolder:
    """Collects steps in a hidden folder beside the requested folder; a context manager.

    Each step makes two files, the state after it and the clean volume as estimated at it, so that memory
    holds one step whatever their number.

    Args:
        folder: The requested folder; absent, empty, or with an earlier trajectory, which is replaced.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._staging = folder.with_name(f".{secrets.token_hex(4)}.{folder.name}")
        self._index: list[dict[str, object]] = []

    def __enter__(self) -> TrajectoryFolder:
        """Make the hidden folder."""
        try:
            self._staging.mkdir()
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot be made ({error.strerror or error})") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the files in their place, if all went well, and remove the hidden folder."""
        try:
            if kind is None:
                self._publish()
        finally:
            shutil.rmtree(self._staging, ignore_errors=True)

    def add(self, point: TrajectoryPoint, volume: int | None = None) -> None:
        """Write one step; `volume` is its number in a 4-D series."""
        prefix = "" if volume is None else f"volume{volume:03}_"
        name = f"{prefix}sample{point.sample}_step{point.index:02}"
        files = {"state": f"{name}.nii.gz", "estimate": f"{name}_estimate.nii.gz"}
        write(point.state, self._staging / files["state"])
        write(point.estimate, self._staging / files["estimate"])
        where: dict[str, object] = {} if volume is None else {"volume": volume}
        self._index.append(
            {**where, "sample": point.sample, "step": point.index, "sigma": point.sigma, **files}
        )

    def _publish(self) -> None:
        text = json.dumps({"sigma": "level of the state before the step", "steps": self._index}, indent=2)
        try:
            (self._staging / INDEX).write_text(text, encoding="utf-8")
            if not self.folder.exists():
                self._staging.rename(self.folder)
                return
            for path in own_files(self.folder):
                path.unlink()
            for path in self._staging.iterdir():
                path.rename(self.folder / path.name)
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot be written ({error.strerror or error})") from error
