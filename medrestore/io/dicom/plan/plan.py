"""Every series below a folder: its class, the action planned for it, and why anything is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medrestore.errors import GeometryError, InputError
from medrestore.findings import COPIES_PASSED_OVER
from medrestore.findings import Finding as Remark
from medrestore.io.dicom.parse.files import is_blank, is_dicom
from medrestore.io.dicom.parse.header import LeftOut, SkipReason, SliceHeader, read_heads
from medrestore.io.dicom.plan.grid import lay_out
from medrestore.io.dicom.plan.groups import (
    Label,
    group_slices,
    missing_parts,
    missing_places,
    same_places,
    split_volumes,
    without_copies,
)
from medrestore.io.dicom.plan.obstacles import hindered_files
from medrestore.io.dicom.plan.series import PlannedSeries, PlannedVolume, describe, differences
from medrestore.io.dicom.plan.stack import Finding, GridDefect, stack_slices
from medrestore.io.tree import Entry, walk
from medrestore.options import ReadPolicy
from medrestore.paths import Obstacle, obstacle
from medrestore.provenance import Source
from medrestore.volume import Volume

__all__ = ["Plan", "PlannedSeries", "PlannedVolume", "plan_dicom", "planned_slices"]


@dataclass(frozen=True)
class Plan:
    """The series and files below a folder.

    Attributes:
        path: The folder, or the file.
        series: In the order of series number and UID.
        left_out: Files without a usable slice.
        others: Number of files that are no DICOM.
    """

    path: Path
    series: tuple[PlannedSeries, ...]
    left_out: tuple[LeftOut, ...]
    others: int

    def choose(self, wanted: str | None = None) -> PlannedSeries:
        """Return the one series that can be read, or the series that is asked for by number or UID.

        Raises:
            InputError: There is no series or several, files of it are unusable, or it is refused.
            GeometryError: The series is no regular grid, and the policy does not say what to do.
        """
        if wanted is None:
            found = [item for item in self.series if item.action != "skip"] or list(self.series)
        else:
            found = [item for item in self.series if wanted in {str(item.number), item.head.series}]
        if len(found) > 1:
            raise InputError(self._several(found))
        if not found:
            raise self._none(wanted)
        (series,) = found
        self._check_complete(series)
        if series.action in {"fail", "skip"}:
            raise GeometryError(f"{self.path}: {series.reason}")
        return series

    def _check_complete(self, series: PlannedSeries) -> None:
        """Refuse a series with an unusable file: without that file, slices may be missing at the end."""
        for item in self.left_out:
            if item.why.blocking and item.series in {"", series.head.series}:
                raise _error(item)

    def _several(self, found: Sequence[PlannedSeries]) -> str:
        listed = "; ".join(describe(item) for item in found[:4])
        more = f" and {len(found) - 4} more" if len(found) > 4 else ""
        first, second = found[0].head, found[1].head
        differ = f"; {first.name} and {second.name} differ in {differences(first, second)}"
        return (
            f"{self.path}: {len(found)} DICOM series, expected one: {listed}{more}"
            f"{differ if first.series == second.series else ''}; name one by its number (--series 1), or "
            "give a folder that holds one"
        )

    def _none(self, wanted: str | None) -> InputError:
        if wanted is not None and self.series:
            return InputError(
                f"{self.path}: no series {wanted!r} among 1 to {len(self.series)}; see medrestore scan"
            )
        if not self.left_out:
            return InputError(f"{self.path}: no DICOM file among {self.others} files")
        worst = next((item for item in self.left_out if item.why.blocking), self.left_out[0])
        counts = Counter(item.why for item in self.left_out)
        reasons = ", ".join(f"{count} {why}" for why, count in counts.most_common())
        return _error(worst, f" (of {len(self.left_out)} DICOM files, none makes a series: {reasons})")


def _error(item: LeftOut, more: str = "") -> InputError:
    return (GeometryError if item.why is SkipReason.NO_PLACE else InputError)(item.text + more)


def plan_dicom(path: Path, policy: ReadPolicy | None = None) -> Plan:
    """Look at every file below a folder, or at one file, and plan its series.

    Headers alone are read. Files are told by content; hidden files are passed over. Links out of the folder,
    and what is no file, are left out by name.

    Raises:
        InputError: The folder cannot be listed.
    """
    policy = policy or ReadPolicy()
    heads: list[SliceHeader] = []
    left_out: list[LeftOut] = []
    others: list[Path] = []
    hindered: list[Entry] = []
    for entry in walk(path) if path.is_dir() else [Entry(path, obstacle(path))]:
        file = entry.path
        if entry.obstacle is not None and not (entry.is_folder and entry.obstacle is Obstacle.OUTSIDE):
            hindered.append(entry)
        if entry.obstacle is not None or entry.is_folder:
            continue
        try:
            is_image = is_dicom(file)
        except InputError as error:
            left_out.append(LeftOut(file, SkipReason.DAMAGED, str(error)))
            continue
        if not is_image:
            others.append(file)
            continue
        found = read_heads(file)
        if isinstance(found, LeftOut):
            left_out.append(found)
        else:
            heads += found
    left_out += hindered_files(hindered, heads)
    damaged = _blank_images(others, heads)
    return Plan(path, _plan_series(heads, policy), (*left_out, *damaged), len(others) - len(damaged))


def _blank_images(others: Sequence[Path], heads: Sequence[SliceHeader]) -> list[LeftOut]:
    """Return the files without content that lie among images and are named as images are."""
    named = {(head.path.parent, _ending(head.path)) for head in heads}
    text = "empty, or nothing but zeros where a header should be; get the file again, or remove it"
    return [
        LeftOut(file, SkipReason.DAMAGED, f"{file}: {text}")
        for file in others
        if (file.parent, _ending(file)) in named and is_blank(file)
    ]


def _ending(file: Path) -> str:
    """Return the suffix of a file; empty for a name that is a number or a UID."""
    return "" if file.suffix[1:].isdigit() else file.suffix.lower()


def _plan_series(heads: Sequence[SliceHeader], policy: ReadPolicy) -> tuple[PlannedSeries, ...]:
    kept, copies = without_copies(heads)
    absent = missing_parts(kept)
    planned = []
    for group in group_slices(kept):
        planned += [_planned(volumes, policy, absent) for volumes in _on_one_grid(group)]
    planned.sort(
        key=lambda item: (item.head.number or 0, item.head.series, str(item.head.path), item.head.frame)
    )
    done = []
    for number, item in enumerate(planned, 1):
        notes = _copied([head for head in copies if head.series == item.head.series])
        done.append(replace(item, number=number, notes=notes))
    return tuple(done)


def _copied(copies: Sequence[SliceHeader]) -> tuple[Remark, ...]:
    if not copies:
        return ()
    such = copies[0].name
    text = f"{len(copies)} copies of images were passed over, such as {such}: same place, same pixels"
    return (COPIES_PASSED_OVER.found(text, images=len(copies)),)


def _on_one_grid(group: Sequence[SliceHeader]) -> list[list[PlannedVolume]]:
    """Return the volumes of a group; volumes in other places than the first, or incomplete, apart."""
    grids: list[list[tuple[Label, list[SliceHeader]]]] = []
    for label, heads in split_volumes(group):
        for grid in grids:
            if same_places(grid[0][1], heads):
                grid.append((label, heads))
                break
        else:
            grids.append([(label, heads)])
    volumes = [[PlannedVolume(stack_slices(heads), label) for label, heads in grid] for grid in grids]
    for one in volumes:
        first = one[0].stack
        missing = max(missing_places(first.heads, other[0].stack.heads) for other in volumes)
        if missing and len(first.places) > 1:
            text = f"{missing} slice(s) missing, which other volumes of the series have"
            finding = Finding(GridDefect.GAP, missing, text, mendable=False)
            one[0] = replace(one[0], stack=replace(first, findings=(*first.findings, finding)))
    return volumes


def _planned(volumes: list[PlannedVolume], policy: ReadPolicy, absent: Mapping[str, int]) -> PlannedSeries:
    findings: dict[str, Finding] = {}
    for volume in volumes:
        for finding in volume.stack.findings:
            findings.setdefault(finding.text, finding)
    for uid in {head.concatenation[0] for head in volumes[0].stack.heads if head.concatenation}:
        if absent[uid]:
            text = f"{absent[uid]} part(s) of a concatenation of multi-frame files missing"
            findings[text] = Finding(GridDefect.GAP, 0, text, mendable=False)
    plain = PlannedSeries(0, tuple(volumes), tuple(findings.values()), None, "read")
    if policy.values != "rescaled" and any(
        head.scaling.chosen(policy.values) is None for head in plain.heads
    ):
        return replace(plain, action="fail", reason=f"has no {policy.values} values; read the rescaled ones")
    for action in ("skip", "fail"):
        for finding in plain.findings:
            chosen = policy.action(finding.flaw)
            stuck = chosen == "resample" and not finding.mendable
            if chosen == action or (action == "fail" and stuck):
                return replace(plain, action=action, reason=_reason(finding, action, stuck))
    # A flaw of one volume of several is a flaw of the place that all share.
    return replace(plain, layout=lay_out(volumes[0].stack), action="resample" if plain.findings else "read")


def _reason(finding: Finding, action: str, stuck: bool) -> str:
    if action == "skip":
        return f"skipped as asked: {finding.text}"
    if stuck or not finding.mendable:
        return f"{finding.text}; no resampling can mend that"
    return f"{finding.text}; --on-{finding.flaw} resample mends it, and says so in the record"


def planned_slices(
    volumes: Sequence[Volume], series: PlannedSeries | None = None
) -> tuple[tuple[SliceHeader, ...], ...]:
    """Return the slices that each of the volumes of a series was read from, in the order along their normal.

    Of several images in a place the first is returned.

    Args:
        volumes: Volumes of one series.
        series: The plan by which they were read; None to plan the folder again with the same policy.

    Raises:
        InputError: The folder changed in the meantime, or the volumes were not read from one DICOM series.
    """
    origins = [volume.source for volume in volumes]
    source = origins[0]
    if source is None or source.format != "dicom":
        raise InputError("the volume was not read from DICOM")
    if any(other is None or other.sha256 != source.sha256 for other in origins):
        raise InputError(f"{source.path}: the volumes were not all read from there, or not at one time")
    series = _planned_again(source) if series is None else series
    found = []
    for other in origins:
        index = other.details.get("volume", 0) if other is not None else 0
        if not isinstance(index, int) or index >= len(series.volumes):
            raise InputError(f"{source.path}: {len(series.volumes)} volumes, and number {index} was read")
        found.append(series.volumes[index].stack.heads)
    return tuple(found)


def _planned_again(source: Source) -> PlannedSeries:
    policy = source.details.get("policy")
    plan = plan_dicom(Path(source.path), ReadPolicy.from_json(policy) if isinstance(policy, dict) else None)
    chosen = source.details.get("series")
    return plan.choose(None if chosen is None else str(chosen))
