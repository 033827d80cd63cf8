"""How the cases of a batch are restored, as plain JSON, for workers and the key of a result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from medrestore import __version__
from medrestore.engine.intervals.calibration import read_calibration
from medrestore.engine.models.find import check_names, find_model
from medrestore.io import DICOM
from medrestore.job.output_format import check_output_format
from medrestore.job.outputs import check_report
from medrestore.options import BOTH, FileOptions, RestoreOptions
from medrestore.provenance import IN_PARTS, JSON
from medrestore.types import Modality, Task

# Where and in what tiles a result is computed; model and calibration are in the key by their hashes.
_INDIFFERENT = {*IN_PARTS, "device", "model", "calibration"}


@dataclass(frozen=True)
class Settings:
    """The settings of a batch.

    Attributes:
        restore: Fields of `RestoreOptions`.
        policy: Fields of `ReadPolicy`.
        modality: Modality of scans that do not state one.
        form: ``"dicom"``, ``"both"``, or the name of a format; None for the format of the scan.
        dtype: Type of the voxels in files that are no DICOM.
        save_std: Whether the standard deviation of samples is written.
        sr: Whether a structured report is written beside each derived series.
        pictures: Whether pictures are kept for the report.
    """

    restore: Mapping[str, JSON] = field(default_factory=dict)
    policy: Mapping[str, JSON] = field(default_factory=dict)
    modality: Modality | None = None
    form: str | None = None
    dtype: str = "float32"
    save_std: bool = False
    sr: bool = False
    pictures: bool = True

    @property
    def task(self) -> Task:
        """What is done to the cases."""
        return Task(self.restore.get("task", Task.DENOISE))  # type: ignore[arg-type]

    @classmethod
    def of(cls, options: FileOptions) -> Settings:
        """Return the settings of a batch whose cases are restored with options.

        Raises:
            ConfigError: The options contradict each other, or name what no plugin declares.
            ModelError: There is no such model.
        """
        check_names(options.restore)
        options.output.check_samples(options.samples)
        output = options.output
        check_output_format(output.form)
        if output.sr:
            check_report(series=output.form in (None, BOTH, DICOM.name))
        restore = absolute(options.restore)
        if restore.model is not None:
            # The task is the task of the model; results are named after it.
            restore = replace(restore, task=find_model(restore, options.modality or Modality.UNKNOWN)[1].task)
        return cls(
            restore=asdict(restore),
            policy=asdict(options.reading.policy),
            modality=options.modality,
            form=output.form,
            dtype=output.dtype,
            save_std=output.save_std,
            sr=output.sr,
        )

    def sha256(self) -> str:
        """Return a hash of all that may change a result; device and tiles do not."""
        stated = asdict(self)
        del stated["pictures"]
        stated["restore"] = {name: value for name, value in self.restore.items() if name not in _INDIFFERENT}
        text = json.dumps([__version__, stated], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def absolute(options: RestoreOptions) -> RestoreOptions:
    """Return options with absolute paths of a model folder and a calibration: workers run elsewhere."""
    model, path = options.model, options.calibration
    if model is not None and Path(model).is_dir():
        model = str(Path(model).resolve())
    if path is not None:
        read_calibration(Path(path))  # refused now, and not by every case
        path = str(Path(path).resolve())
    return replace(options, model=model, calibration=path)
