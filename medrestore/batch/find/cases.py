"""The cases of a folder, a file or a list, and the name of the result of each case."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from medrestore.batch.find.content import content_of, said_beside
from medrestore.batch.find.names import case_id, safe_path
from medrestore.errors import InputError, MedrestoreError, unforeseen
from medrestore.io import DICOM, NIFTI, PlannedSeries, ReadPolicy, ReadRequest, ScanHeader, plan_dicom
from medrestore.io.dicom.parse.sop_classes import SkipReason
from medrestore.io.dicom.read import planned_header
from medrestore.io.folder import PassedOver, ScanFile, scan_file, scan_files
from medrestore.io.named import modality_of_name
from medrestore.paths import Obstacle, obstacle, resolved
from medrestore.plugin import installed_formats
from medrestore.provenance import JSON
from medrestore.types import Modality

_OF_ANY_FORMAT = {SkipReason.LINK, SkipReason.UNLISTED, SkipReason.NO_FILE}
"""What is said of files whatever they might hold."""


@dataclass(frozen=True)
class Case:
    """One scan to restore.

    Attributes:
        id: Twelve hexadecimal digits of a hash of its path: its name in logs and the ledger.
        root: The folder that was given, absolute.
        source: File, or folder of a DICOM series, relative to `root`.
        output: Where the result goes, relative to the folder of results, without suffix.
        modality: Modality that the scan states.
        series: Which DICOM series of the folder; None if the scan is no DICOM.
        files: Files that the scan is read from, absolute.
        refused: Why the case cannot be restored; empty if it can be tried.
        reference: The reference scan, if there is one; absolute.
        model: A model for this case alone.
        entities: BIDS entities.
        sidecar: Metadata that BIDS requires in the JSON file of the result; it stands before the record.
        beside: Files of a BIDS series that say what each volume is, by their names beside the result.
        header: Header from the plan of a DICOM series; headers of files are read when they are needed.
        format: Name of the format of a scan that is no DICOM.
    """

    id: str
    root: Path
    source: PurePosixPath
    output: PurePosixPath
    modality: Modality
    series: str | None
    files: tuple[Path, ...]
    refused: str = ""
    reference: Path | None = None
    model: str | None = None
    entities: Mapping[str, str] = field(default_factory=dict)
    sidecar: Mapping[str, JSON] = field(default_factory=dict)
    beside: Mapping[str, Path] = field(default_factory=dict)
    header: ScanHeader | None = field(default=None, compare=False)
    format: str = NIFTI.name

    @property
    def kind(self) -> str:
        """Name of the format of the scan."""
        return self.format if self.series is None else DICOM.name

    def content(self) -> str:
        """Return the SHA-256 of the files of the scan: see `content_of`."""
        return content_of(self.files, alone=self.series is None)

    def said_beside(self) -> str:
        """Return the SHA-256 of what JSON says beside the scan; empty where none says anything."""
        return said_beside(self.files, self.sidecar)

    @property
    def root_id(self) -> str:
        """Id of the folder that was given."""
        return case_id(PurePosixPath(self.root))


@dataclass(frozen=True)
class Found:
    """The cases that were found, in the order of their sources, and why anything else is no case.

    Attributes:
        cases: The cases.
        left_out: Number of files or series that were left out, by reason.
        examples: The first of them, relative to the folder, by reason.
    """

    cases: tuple[Case, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)

    def described(self, *, hide_names: bool = False) -> list[str]:
        """Return what was left out, a line for each reason, with an example unless names are hidden."""
        shown = {} if hide_names else self.examples
        return [
            f"{count} {why}{f', such as {shown[why]}' if why in shown else ''}"
            for why, count in self.left_out.items()
        ]

    def only(
        self,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        modalities: Sequence[Modality] = (),
    ) -> Found:
        """Return the cases whose source matches any of `include` and none of `exclude`, both globs."""

        def wanted(case: Case) -> bool:
            name = str(case.source)
            return (
                (not include or any(fnmatch(name, glob) for glob in include))
                and not any(fnmatch(name, glob) for glob in exclude)
                and (not modalities or case.modality in modalities)
            )

        kept = tuple(case for case in self.cases if wanted(case))
        left_out = Counter(self.left_out)
        left_out["filtered out"] += len(self.cases) - len(kept)
        return Found(kept, +left_out, self.examples)


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
    examples: dict[str, str] = {}
    for one in passed:
        examples.setdefault(one.why, os.path.relpath(one.path, root))
    found = sorted(cases, key=lambda case: (case.source, case.series or ""))
    return Found(tuple(distinct(found)), Counter(one.why for one in passed), examples)


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


def distinct(cases: Sequence[Case]) -> Iterator[Case]:
    """Yield the cases; of several that would write the same files, all but the first are refused.

    A case whose result has the name of a folder that holds results of other cases is refused too.
    """
    names = [PurePosixPath(str(case.output).casefold()) for case in cases]
    folders = {parent for name in names for parent in name.parents}
    taken: dict[PurePosixPath, Case] = {}
    ids: set[str] = set()
    for number, (case, name) in enumerate(zip(cases, names, strict=True)):
        if case.id in ids:  # the same scan twice
            case = replace(case, id=case_id(case.source, f"{case.series}\0{number}"))  # noqa: PLW2901
        ids.add(case.id)
        first = taken.setdefault(name, case)
        if name in folders:
            yield replace(
                case, refused="its result would have the name of the folder of those of other cases"
            )
        elif first is case:
            yield case
        else:
            yield replace(case, refused=f"its result would have the name of that of case {first.id}")


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
