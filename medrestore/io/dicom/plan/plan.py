"""Every series below a folder: its class, the action planned for it, and why anything is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medrestore.errors import GeometryError, InputError
from medrestore.io.dicom.parse.files import is_dicom
from medrestore.io.dicom.parse.header import LeftOut, SkipReason, SliceHeader, read_heads
from medrestore.io.dicom.parse.settle import settle
from medrestore.io.dicom.plan.assemble import plan_series
from medrestore.io.dicom.plan.damage import blocker_of, damaged_siblings, hindered_paths, without_pictures
from medrestore.io.dicom.plan.series import PlannedSeries, PlannedVolume, describe, differences
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
        if series.blocker is not None:
            raise _error(series.blocker)
        if series.action in {"fail", "skip"}:
            raise GeometryError(f"{self.path}: {series.reason}")
        return series

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
    left_out += hindered_paths(hindered, heads)
    damaged = damaged_siblings(others, heads)
    heads, pictures = without_pictures(heads)
    heads, undecided = settle(heads, policy.values)
    series, interrupted = plan_series(heads, policy)
    left_out += [*damaged, *pictures, *undecided, *interrupted]
    planned = (_unless_blocked(item, left_out) for item in series)
    return Plan(path, tuple(planned), tuple(left_out), len(others) - len(damaged))


def _unless_blocked(series: PlannedSeries, left_out: Sequence[LeftOut]) -> PlannedSeries:
    """Return a series, refused where slices of it may be in a file that cannot be used."""
    blocker = blocker_of(series, left_out)
    if blocker is None or series.action == "skip":
        return series
    return replace(series, action="fail", reason=blocker.text, layout=None, blocker=blocker)


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
