"""The cases of a folder or a file, and the name of the result of each case."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

from medrestore.batch.find.case import Case, Found, distinct
from medrestore.batch.find.names import case_id, safe_path
from medrestore.errors import InputError, MedrestoreError, unforeseen
from medrestore.io import PlannedSeries, ReadPolicy, ReadRequest, ScanHeader, plan_dicom
from medrestore.io.dicom.parse.sop_classes import SkipReason
from medrestore.io.dicom.read import planned_header
from medrestore.io.folder import PassedOver, ScanFile, scan_file, scan_files
from medrestore.io.named import modality_of_name
from medrestore.paths import Obstacle, obstacle, resolved
from medrestore.plugin import installed_formats
from medrestore.types import Modality

_OF_ANY_FORMAT = {SkipReason.LINK, SkipReason.UNLISTED, SkipReason.NO_FILE}
"""What is said of files whatever they might hold."""


def find_cases(
    path: Path, *, policy: ReadPolicy | None = None, suffix: str = "restored", leave_out: Path | None = None
) -> Found:
    """Find every file of an installed format and every DICOM series below a folder.

    Args:
        path: Folder or file.
        policy: How DICOM series are planned.
        suffix: Suffix that is added to the names of files.
        leave_out: A folder that is not looked into: the folder of results, where it lies within.

    Raises:
        InputError: There is no such folder.
        PluginError: A plugin with a format cannot be loaded, and no other format reads one of the images.
    """
    hindrance = obstacle(path)
    if hindrance is not None:
        what = "no such file or folder" if hindrance is Obstacle.MISSING else f"is {hindrance}"
        raise InputError(f"{path}: {what}; expected a folder of scans")
    root = resolved(path if path.is_dir() else path.parent)
    aside = None if leave_out is None else resolved(leave_out)
    formats = installed_formats()
    if path.is_file():
        return Found((file_case(root, scan_file(resolved(path), formats), suffix),))
    scans, passed = scan_files(root, formats, aside)
    if passed:
        formats.refuse_broken()
    cases = [file_case(root, scan, suffix) for scan in scans]
    shared = {parent for case in cases for parent in case.output.parents}
    series, others = _planned_cases(root, policy or ReadPolicy(), aside, shared)
    named = {file for case in cases for file in case.files}
    passed += [one for one in others if one.path not in named]
    homes = {part for case in series for part in (root / case.source, *(root / case.source).parents)}
    cases = [case for case in cases if case.format or root / case.source not in homes] + series
    unlisted = tuple(os.path.relpath(one.path, root) for one in passed if one.why == SkipReason.UNLISTED)
    passed = [one for one in passed if one.why != SkipReason.UNLISTED]
    examples: dict[str, str] = {}
    for one in passed:
        examples.setdefault(one.why, os.path.relpath(one.path, root))
    found = sorted(cases, key=lambda case: (case.source, case.series or ""))
    return Found(tuple(distinct(found)), Counter(one.why for one in passed), examples, unlisted)


def file_case(root: Path, scan: ScanFile, suffix: str) -> Case:
    """Describe the case of a scan in files below `root`."""
    source = PurePosixPath(scan.path.relative_to(root).as_posix())
    name = installed_formats().stem(scan.path)
    outside = any(not resolved(part).is_relative_to(root) for part in scan.files[1:])
    return Case(
        id=case_id(source),
        root=root,
        source=source,
        output=safe_path(source.with_name(f"{name}_{suffix}")),
        modality=modality_of_name(scan.path),
        series=None,
        files=scan.files,
        refused="a file of its voxels lies outside of the folder" if outside else scan.refused,
        format=scan.format,
    )


def _planned_cases(
    root: Path, policy: ReadPolicy, aside: Path | None, shared: set[PurePosixPath]
) -> tuple[list[Case], list[PassedOver]]:
    """Return what `_dicom_cases` does, or one case that says why there is no plan: other scans go on."""
    try:
        return _dicom_cases(root, policy, aside, shared)
    except Exception as error:
        if isinstance(error, MedrestoreError):
            raise
        # Whatever the files lead to, the scans beside them are no worse.
        why = f"the DICOM files cannot be planned ({unforeseen(error)}); choose folders, to find the one"
    here = PurePosixPath("DICOM")
    return [Case(case_id(here), root, here, here, Modality.UNKNOWN, "", (), refused=why)], []


def _dicom_cases(
    root: Path, policy: ReadPolicy, aside: Path | None, shared: set[PurePosixPath]
) -> tuple[list[Case], list[PassedOver]]:
    """Return a case for every series of the plan, and what the plan leaves out.

    Args:
        root: The folder.
        policy: How series are planned.
        aside: A folder that is not looked into.
        shared: Folders of results that belong to other cases.
    """
    plan = plan_dicom(root, policy)
    left_out = [
        PassedOver(item.path, str(item.why) if item.why in _OF_ANY_FORMAT else f"DICOM: {item.why}")
        for item in plan.left_out
        if not _within(item.path, aside)
    ]
    series = [item for item in plan.series if not any(_within(head.path, aside) for head in item.heads)]
    homes = Counter(item.home for item in series)
    uids = Counter(item.head.series for item in series)
    seen: Counter[str] = Counter()
    cases = []
    for item in series:
        if item.action == "skip":
            left_out.append(PassedOver(item.head.path, "DICOM: skipped by policy"))
            continue
        home, uid = item.home, item.head.series
        source = PurePosixPath(resolved(home).relative_to(root).as_posix())
        # Where other scans lie beside or below, the series needs a folder of its own among their results.
        among = source in shared or any(home in other.parents for other in homes)
        alone = homes[home] == 1 and str(source) != "." and not among
        seen[uid] += 1
        name = uid if uids[uid] == 1 else f"{uid}.{seen[uid]}"
        cases.append(
            Case(
                id=case_id(source, name),
                root=root,
                source=source,
                output=safe_path(source if alone else source / name),
                modality=_modality(item),
                series=uid if uids[uid] == 1 else _number(item, home, policy),
                files=tuple(sorted({head.path for head in item.heads})),
                refused=item.refusal,
                header=_header(item, home),
            )
        )
    return cases, left_out


def _within(path: Path, folder: Path | None) -> bool:
    return folder is not None and resolved(path).is_relative_to(folder)


def _number(item: PlannedSeries, home: Path, policy: ReadPolicy) -> str:
    """The number, in the plan of its folder, of a series that shares its UID with another."""
    files = {head.path for head in item.heads}
    for other in plan_dicom(home, policy).series:
        if {head.path for head in other.heads} == files:
            return str(other.number)
    raise InputError(f"{home}: changed while it was looked through")


def _header(item: PlannedSeries, home: Path) -> ScanHeader | None:
    """Return the header of a series, without its plan: a batch may have thousands of them."""
    return None if item.geometry is None else replace(planned_header(home, ReadRequest(), item), own=None)


def _modality(item: PlannedSeries) -> Modality:
    stated = item.head.modality
    return Modality(stated) if stated in {Modality.MR, Modality.CT} else Modality.UNKNOWN
