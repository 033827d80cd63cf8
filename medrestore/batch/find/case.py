"""A scan to restore, and all that were found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from medrestore.batch.find.content import content_of, said_beside
from medrestore.batch.find.names import case_id
from medrestore.io import DICOM, NIFTI, ScanHeader
from medrestore.paths import Obstacle
from medrestore.provenance import JSON
from medrestore.types import Modality


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
        unlisted: Folders that cannot be listed, relative to the folder: there may be cases in them.
    """

    cases: tuple[Case, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)
    unlisted: tuple[str, ...] = ()

    def described(self, *, hide_names: bool = False) -> list[str]:
        """Return what was left out, a line for each reason, with an example unless names are hidden."""
        shown = {} if hide_names else self.examples
        return [
            f"{count} {why}{f', such as {shown[why]}' if why in shown else ''}"
            for why, count in self.left_out.items()
        ]

    def unread(self, *, hide_names: bool = False) -> str:
        """Return how many folders cannot be listed, and one unless names are hidden; empty if none."""
        count, what = len(self.unlisted), str(Obstacle.UNLISTED).removeprefix("a ")
        example = "" if hide_names or not count else f", such as {self.unlisted[0]}"
        return f"{count} {what}{example}" if count else ""

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
        # What such a folder holds may match any other glob.
        unlisted = [one for one in self.unlisted if not any(fnmatch(f"{one}/", glob) for glob in exclude)]
        return Found(kept, +left_out, self.examples, tuple(unlisted))


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
