"""From slices to planned series: volumes on one grid, their defects, what is done about them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from medrestore import findings
from medrestore.findings import Finding as Remark
from medrestore.io.dicom.parse.doubts import findings_of
from medrestore.io.dicom.parse.header import LeftOut, SkipReason, SliceHeader
from medrestore.io.dicom.plan.copies import without_copies
from medrestore.io.dicom.plan.grid import lay_out
from medrestore.io.dicom.plan.groups import (
    Cluster,
    cluster_slices,
    missing_parts,
    missing_places,
    parts_by,
    same_places,
    skipped_places,
    tells_apart,
)
from medrestore.io.dicom.plan.series import PlannedSeries, PlannedVolume
from medrestore.io.dicom.plan.stack import Finding, GridDefect, stack_slices
from medrestore.io.dicom.plan.volumes import VolumeSlices, split_series
from medrestore.options import ReadPolicy


@dataclass(frozen=True)
class _Grid:
    """Volumes in the same places, and what is said of them."""

    volumes: list[VolumeSlices]
    defects: tuple[Finding, ...] = ()
    notes: tuple[Remark, ...] = ()

    @property
    def heads(self) -> list[SliceHeader]:
        """The slices of the first volume."""
        return self.volumes[0].heads


def plan_series(
    heads: Sequence[SliceHeader], policy: ReadPolicy
) -> tuple[tuple[PlannedSeries, ...], list[LeftOut]]:
    """Return the series that slices make, by series number and UID, and the slices of interrupted volumes."""
    kept, copies = without_copies(heads)
    absent = missing_parts(kept)
    left_out: list[LeftOut] = []
    grids: list[_Grid] = []
    for cluster in cluster_slices(kept):
        found, interrupted = _grids(cluster)
        left_out += interrupted
        grids += found
    planned = [_planned(grid, policy, absent) for grid in _strewn(grids)]
    planned.sort(
        key=lambda item: (item.head.number or 0, item.head.series, str(item.head.path), item.head.frame)
    )
    done = []
    for number, item in enumerate(planned, 1):
        copied = _copied([head for head in copies if head.series == item.head.series])
        notes = (*copied, *item.notes, *findings_of(item.heads))
        done.append(replace(item, number=number, notes=notes))
    return tuple(done), left_out


def _copied(copies: Sequence[SliceHeader]) -> tuple[Remark, ...]:
    if not copies:
        return ()
    such = copies[0].name
    text = f"{len(copies)} copies of images were passed over, such as {such}: same place, same pixels"
    return (findings.COPIES_PASSED_OVER.found(text, images=len(copies)),)


def _grids(cluster: Cluster) -> tuple[list[_Grid], list[LeftOut]]:
    """Return the grids of parallel slices, with the defects that show beside each other alone."""
    grids: list[_Grid] = []
    left_out: list[LeftOut] = []
    for volumes in split_series(cluster.heads):
        found, interrupted = _without_interrupted(_on_one_grid(volumes))
        left_out += interrupted
        grids += [_missing(grid, found) for grid in found]
    return [_cut(grid, grids, cluster.cut) for grid in grids], left_out


def _on_one_grid(volumes: Iterable[VolumeSlices]) -> list[_Grid]:
    """Return the volumes; volumes in other places than the first, incomplete, or of another kind apart."""
    grids: list[_Grid] = []
    for volume in volumes:
        for grid in grids:
            if grid.volumes[0].signed == volume.signed and same_places(grid.heads, volume.heads):
                grid.volumes.append(volume)
                break
        else:
            grids.append(_Grid([volume]))
    return [replace(grid, notes=_notes(grid.volumes, len(grids) > 1)) for grid in grids]


def _notes(volumes: Sequence[VolumeSlices], among_others: bool) -> tuple[Remark, ...]:
    notes = []
    varying = dict.fromkeys(name for volume in volumes for name in volume.varying)
    if varying:
        text = (
            f"slices that lie between each other are one volume, although they differ in {', '.join(varying)}"
        )
        notes.append(findings.ATTRIBUTES_VARY.found(text, attributes=list(varying)))
    if volumes[0].by_order and (len(volumes) > 1 or among_others):
        text = (
            "the volumes are told apart by the order of their images alone: the header says nothing of them"
        )
        notes.append(findings.VOLUMES_BY_ORDER.found(text, volumes=len(volumes)))
    if volumes[0].signed and among_others:
        text = "values are signed, where other images in the same places have none below zero: no magnitude"
        notes.append(findings.SIGNED_VALUES.found(text))
    return tuple(notes)


def _without_interrupted(grids: list[_Grid]) -> tuple[list[_Grid], list[LeftOut]]:
    """Set the last volume of a series of three or more apart, if slices of it are missing."""
    whole = max(grids, key=lambda grid: len(grid.volumes))
    last = next((grid for grid in grids if grid is not whole and _stops(grid, whole)), None)
    if last is None or len(whole.volumes) < 2:
        return grids, []
    volume = last.volumes[0]
    missing = missing_places(volume.heads, whole.heads)
    text = f"the last volume lacks {missing} of {len(whole.heads)} slices and is left out: it was interrupted"
    note = findings.VOLUME_INTERRUPTED.found(text, slices=len(whole.heads), missing=missing)
    noted = replace(whole, notes=(*whole.notes, note))
    left_out = [LeftOut.of(head, SkipReason.INTERRUPTED, f"{head.path}: {text}") for head in volume.heads]
    return [noted if grid is whole else grid for grid in grids if grid is not last], left_out


def _stops(grid: _Grid, whole: _Grid) -> bool:
    """Whether a grid is a single volume after those of another, with some of their places."""
    if len(grid.volumes) > 1 or not missing_places(grid.heads, whole.heads):
        return False
    orders = [head.order for head in grid.heads]
    before = [head.order for volume in whole.volumes for head in volume.heads]
    known = [order for order in (*orders, *before) if order is not None]
    if len(known) < len(orders) + len(before):
        return False
    return min(known[: len(orders)]) > max(known[len(orders) :])


def _missing(grid: _Grid, others: Sequence[_Grid]) -> _Grid:
    missing = max(missing_places(grid.heads, other.heads) for other in others)
    if not missing or len({tuple(head.position) for head in grid.heads}) == 1:
        return grid
    text = f"{missing} slice(s) missing, which other volumes of the series have"
    return replace(grid, defects=(Finding(GridDefect.GAP, missing, text, mendable=False),))


def _cut(grid: _Grid, others: Sequence[_Grid], between: bool) -> _Grid:
    """Add the defect of a grid between whose slices others of the series lie."""
    thickness = grid.heads[0].thickness
    alike = [other for other in others if other.heads[0].thickness == thickness]
    skipped = max((skipped_places(grid.heads, other.heads) for other in alike), default=0)
    if grid.defects or not (skipped or between):
        return grid
    what = f"{skipped} other images" if skipped else "images at another angle or with other pixels"
    text = f"part of a cut series: {what} of the series lie between or beside its slices"
    return replace(grid, defects=(Finding(GridDefect.GAP, skipped, text, mendable=False),))


def _strewn(grids: Sequence[_Grid]) -> list[_Grid]:
    """Add the defect of single slices that neighbours in other series continue: each got a UID of its own."""
    singles = [grid for grid in grids if len(grid.volumes) == len(grid.heads) == 1]
    strewn: set[int] = set()
    for alike in parts_by(singles, lambda grid: _looks(grid.heads[0])).values():
        if len(alike) > 2 and not tells_apart([grid.heads for grid in alike]):
            strewn |= {id(grid) for grid in alike}
    text = f"part of a cut series: its neighbours among {len(strewn)} single slices have other series UIDs"
    defect = Finding(GridDefect.GAP, 0, text, mendable=False)
    return [replace(grid, defects=(*grid.defects, defect)) if id(grid) in strewn else grid for grid in grids]


def _looks(head: SliceHeader) -> Hashable:
    """Return what slices of one scan have in common, whatever their series."""
    axes = tuple(round(value, 2) for vector in head.orientation for value in vector)
    return head.number, head.description, head.modality, head.image_type, head.size, axes, head.thickness


def _planned(grid: _Grid, policy: ReadPolicy, absent: Mapping[str, int]) -> PlannedSeries:
    volumes = [PlannedVolume(stack_slices(volume.heads), volume.label) for volume in grid.volumes]
    defects: dict[str, Finding] = {}
    for finding in (*(found for volume in volumes for found in volume.stack.findings), *grid.defects):
        defects.setdefault(finding.text, finding)
    for uid in {head.concatenation[0] for head in volumes[0].stack.heads if head.concatenation}:
        if absent[uid]:
            text = f"{absent[uid]} part(s) of a concatenation of multi-frame files missing"
            defects[text] = Finding(GridDefect.GAP, 0, text, mendable=False)
    plain = PlannedSeries(0, tuple(volumes), tuple(defects.values()), None, "read", notes=grid.notes)
    return _with_action(plain, policy)


def _with_action(plain: PlannedSeries, policy: ReadPolicy) -> PlannedSeries:
    """Return the series with what is done about its defects, and the grid that it is read onto."""
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
    first = plain.volumes[0].stack
    notes = plain.notes
    if first.rounding:
        text = f"positions are rounded to {first.rounding} mm; the distance is that of a line through them"
        notes = (*notes, findings.POSITIONS_ROUNDED.found(text, decimals_mm=first.rounding))
    return replace(plain, layout=lay_out(first), action="resample" if plain.findings else "read", notes=notes)


def _reason(finding: Finding, action: str, stuck: bool) -> str:
    if action == "skip":
        return f"skipped as asked: {finding.text}"
    if stuck or not finding.mendable:
        return f"{finding.text}; no resampling can mend that"
    return f"{finding.text}; --on-{finding.flaw} resample mends it, and says so in the record"
