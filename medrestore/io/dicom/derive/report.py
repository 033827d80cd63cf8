"""The verdict on a restored series as a DICOM structured report that refers to its images.

An AI result as IHE's profile of that name (AIR) has it: a measurement report (PS3.16, TID 1500) with one
group of measurements (TID 1501), the statistics of the residual, and a qualitative evaluation, the verdict.
Patient and study are those of the images; no other text of a header gets in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from medrestore.errors import ConfigError, OutputError
from medrestore.io.dicom.derive.header import make_uid
from medrestore.io.dicom.derive.quantities import SCHEME
from medrestore.provenance import RunRecord

if TYPE_CHECKING:
    from highdicom.sr import MeasurementReport, MeasurementsAndQualitativeEvaluations

NOT_INSTALLED = "--sr needs highdicom, which is not installed: pip install 'medrestore[sr]'"

_PROCEDURES = {
    "CT": ("25045-6", "CT Unspecified Body Region"),
    "MR": ("25056-3", "MRI Unspecified Body Region"),
}
_LONGEST = 64  # characters of a code's meaning, and of a name


def check_reports_can_be_written() -> None:
    """Refuse before anything runs.

    Raises:
        ConfigError: highdicom is not installed.
    """
    try:
        import highdicom  # noqa: F401, PLC0415
    except ImportError as error:
        raise ConfigError(NOT_INSTALLED) from error


def write_report(images: Iterable[Path], record: RunRecord, path: Path) -> None:
    """Write the structured report on a derived series.

    Args:
        images: Files of the series, each of the same patient and study.
        record: Of the series: `medrestore.provenance.series_record`.
        path: The file to write.

    Raises:
        ConfigError: highdicom is not installed.
        OutputError: What the images state of patient and study cannot be written again.
    """
    check_reports_can_be_written()
    from highdicom.sr import ComprehensiveSR  # noqa: PLC0415

    series = [dcmread(file, stop_before_pixels=True) for file in sorted(images)]
    first = series[0]
    try:
        report = ComprehensiveSR(
            evidence=series,
            content=_content(series, record)[0],
            series_instance_uid=make_uid("report series", str(first.SeriesInstanceUID)),
            series_number=int(first.get("SeriesNumber") or 0) + 1,
            sop_instance_uid=make_uid("report", str(first.SeriesInstanceUID)),
            instance_number=1,
            manufacturer="medrestore",
            is_complete=True,
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
        report.SeriesDescription = "Verdict on a restored series"
        report.ManufacturerModelName = record.model.name[:_LONGEST]
        report.SoftwareVersions = record.medrestore
        report.save_as(path, enforce_file_format=True)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise OutputError(
            f"{path.name}: what the series states of patient and study makes no structured report "
            f"({type(error).__name__}); leave --sr out"
        ) from error


def _content(series: Sequence[Dataset], record: RunRecord) -> MeasurementReport:
    """Return the tree of the report."""
    from highdicom.sr import (  # noqa: PLC0415
        CodedConcept,
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
    )
    from pydicom.sr.codedict import codes  # noqa: PLC0415

    first = series[0]
    device = DeviceObserverIdentifyingAttributes(
        uid=make_uid("device", record.medrestore),
        name="medrestore",
        manufacturer_name="medrestore",
        model_name=record.model.name[:_LONGEST],
    )
    value, meaning = _PROCEDURES.get(str(first.Modality), _PROCEDURES["MR"])
    return MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(codes.DCM.Device, device)
        ),
        procedure_reported=CodedConcept(value, "LN", meaning),
        imaging_measurements=[_measurements(series, record)],
    )


def _measurements(series: Sequence[Dataset], record: RunRecord) -> MeasurementsAndQualitativeEvaluations:
    """Return the statistics of the residual, and the verdict that rests on them."""
    from highdicom import sr  # noqa: PLC0415
    from pydicom.sr.codedict import codes  # noqa: PLC0415

    told: dict[str, Any] = dict(record.verdict)
    judged = told.get("verdict") or "not given"

    def concept(value: str, meaning: str) -> sr.CodedConcept:
        return sr.CodedConcept(value, SCHEME, meaning[:_LONGEST])

    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=make_uid("verdict", str(series[0].SeriesInstanceUID)), identifier="restored series"
        ),
        finding_type=concept("restoration", "Restoration by a statistical model"),
        algorithm_id=sr.AlgorithmIdentification(
            name=record.model.name[:_LONGEST],
            version=(record.model.sha256 or record.medrestore)[:_LONGEST],
            family=codes.cid7162.ArtificialIntelligence,
        ),
        measurements=[
            sr.Measurement(concept(name, f"Residual of the restoration: {name}"), value, codes.UCUM.NoUnits)
            for name, value in told.get("statistics", {}).items()
            if value is not None
        ],
        qualitative_evaluations=[
            sr.QualitativeEvaluation(
                concept("verdict", "Consistency of the result with its source"),
                concept(judged.lower().replace(" ", "-"), judged),
            )
        ],
        source_images=[
            sr.SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID) for image in series
        ],
    )
