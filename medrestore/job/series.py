"""The DICOM series that a restoration writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from medrestore.engine import Restoration
from medrestore.findings import VOXELS_CLIPPED, Finding
from medrestore.io import SeriesReport, Sources, write_dicom, write_report
from medrestore.job.outputs import OutputPaths
from medrestore.provenance import JSON, series_record, sha256_file
from medrestore.volume import Volume


def write_series(
    paths: OutputPaths,
    held: Mapping[Path, Path],
    results: Sequence[Restoration],
    maps: Mapping[str, Sequence[Volume]],
    sources: Sources | None,
) -> tuple[dict[str, JSON], tuple[Finding, ...]]:
    """Write the restored scan, all volumes in one series, a series for each map, and the report.

    Args:
        paths: The names of the outputs; the names of the folders go into the record.
        held: The temporary folder to write to for each folder.
        results: The restored volumes.
        maps: The volumes of each map, by name.
        sources: The images of the source; None to read their headers again.

    Returns:
        Entries of the record for the series, and findings about the series.
    """
    volumes, records = [result.volume for result in results], [result.record for result in results]
    write = partial(write_dicom, overwrite=True, sources=sources)
    assert paths.series is not None
    report = write(volumes, held[paths.series], records)
    series = _entry(paths.series, report)
    findings = report.findings
    if report.clipped_voxels:
        text = f"{report.clipped_voxels} voxels did not fit into the 16 bits of DICOM and were clipped"
        findings += (VOXELS_CLIPPED.found(text, voxels=report.clipped_voxels),)
    for name, path in paths.series_maps.items():
        series[name] = _entry(path, write(maps[name], held[path], records, quantity=name))
    if paths.report is not None:
        write_report(held[paths.series].iterdir(), series_record(records), held[paths.report])
        series["report"] = {"path": paths.report.name, "sha256": sha256_file(held[paths.report])}
    main: dict[str, JSON] = {
        "path": paths.series.name,
        "sha256": report.sha256,
        "dtype": report.dtype,
        "clipped_voxels": report.clipped_voxels,
    }
    return {**main, "series": series}, findings


def _entry(path: Path, report: SeriesReport) -> dict[str, JSON]:
    return {
        "path": path.name,
        "uid": report.series_uid,
        "files": report.files,
        "sha256": report.sha256,
        "slope": report.slope,
        "inter": report.inter,
        "clipped_voxels": report.clipped_voxels,
    }
