"""Values that a header leaves open: the pixels of the whole series decide, where they decide for certain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medrestore.errors import InputError
from medrestore.findings import BITS_JUDGED, GREY_INVERTED, HOUNSFIELD_JUDGED, SCALE_NOT_BELIEVED
from medrestore.io.dicom.parse.doubts import Doubt, noted
from medrestore.io.dicom.parse.header import LeftOut, SkipReason, SliceHeader
from medrestore.io.dicom.parse.pixels import Pixels
from medrestore.io.dicom.parse.rescale import Linear
from medrestore.options import Values
from medrestore.types import AIR_HU, LEAST_HU, UNMEASURED_HU, Float64Array

_OF_HOUNSFIELD = frozenset(Doubt) - {Doubt.HIGH_BIT}
# What makes values HU for certain: air, that its most frequent value is that of air, tissue, little else.
_AIR, _MODE, _TISSUE, _SOFT = 100.0, 35.0, (-400.0, 3100.0), (-150.0, 150.0)
_LEAST_AIR, _LEAST_TISSUE, _LEAST_SOFT, _MOST_ELSEWHERE = 0.02, 0.01, 0.05, 0.01
# How near the air of unsigned CT lies to 24: a shift of 1000 and one of 1024 must not be mistaken.
_MODE_OF_SHIFTED = 8.0


class _UndecidedError(Exception):
    """The pixels do not decide; its text says what was expected of them."""


@dataclass(frozen=True)
class _Histogram:
    """Different values, in rising order, and how often each occurs."""

    values: Float64Array
    counts: Float64Array

    def share(self, low: float, high: float) -> float:
        """Return the share of the values from `low` to `high`."""
        within = (self.values >= low) & (self.values <= high)
        return float(self.counts[within].sum() / max(float(self.counts.sum()), 1.0))


def settle(heads: Sequence[SliceHeader], values: Values) -> tuple[list[SliceHeader], list[LeftOut]]:
    """Decide what headers leave open of the values, series by series.

    Args:
        heads: Slices of any series; the pixels of those with doubts are read.
        values: The scale that is asked for; ``"stored"`` leaves nothing open.

    Returns:
        The slices with values that are certain, in their order, and the files of the others.
    """
    if values == "stored":
        return [_as_stored(head) for head in heads], []
    groups: dict[tuple[str, str], list[SliceHeader]] = {}
    for head in heads:
        if head.doubts:
            groups.setdefault((head.series, head.modality), []).append(head)
    settled: dict[tuple[Path, int], SliceHeader] = {}
    left_out: dict[Path, LeftOut] = {}
    for (series, modality), group in groups.items():
        all_of_it = [head for head in heads if (head.series, head.modality) == (series, modality)]
        try:
            settled |= {(head.path, head.frame): head for head in _settled(group, all_of_it, values)}
        except (_UndecidedError, InputError) as error:
            first = group[0]
            where = str(first.path) if first.frames == 1 else f"{first.path}: frame {first.frame + 1}"
            text = str(error) if isinstance(error, InputError) else f"{where}: {error}"
            for head in group:
                left_out[head.path] = LeftOut.of(head, SkipReason.UNUSABLE, text)
    kept = [settled.get((head.path, head.frame), head) for head in heads if head.path not in left_out]
    return kept, list(left_out.values())


def _as_stored(head: SliceHeader) -> SliceHeader:
    """Return a slice with all bits of its numbers, where it is open which of them are used."""
    return replace(head, bits=head.dtype.itemsize * 8) if Doubt.HIGH_BIT in head.doubts else head


def _settled(
    heads: Sequence[SliceHeader], series: Sequence[SliceHeader], values: Values
) -> list[SliceHeader]:
    done = list(heads)
    for doubt, rule in _RULES.items():
        part = [head for head in done if doubt in head.doubts]
        if part:
            changed = {(head.path, head.frame): head for head in rule(part, series)}
            done = [changed.get((head.path, head.frame), head) for head in done]
    if values != "rescaled":
        return done
    is_ct = heads[0].modality == "CT"
    open_ones = _OF_HOUNSFIELD if is_ct else {Doubt.ZERO_SLOPE}
    scale = [head for head in done if open_ones & set(head.doubts)]
    if not scale:
        return done
    changed = {
        (head.path, head.frame): head
        for head in (_in_hounsfield(scale) if is_ct else _unscaled(scale, series))
    }
    return [changed.get((head.path, head.frame), head) for head in done]


def _with_lowest_bits(heads: Sequence[SliceHeader], _series: Sequence[SliceHeader]) -> list[SliceHeader]:
    """Tell pixels that fill the lowest bits, whatever the high bit says, from those in the highest ones."""
    room = heads[0].dtype.itemsize * 8
    stored = _histogram([replace(head, bits=room) for head in heads], lambda head: Linear()).values
    bits, shift = heads[0].bits, room - heads[0].bits
    signed = heads[0].dtype.kind == "i"
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if stored[0] >= low and stored[-1] <= high:
        said = noted(BITS_JUDGED.found(f"pixels fill the lowest {bits} bits, another high bit is stated"))
        return [replace(head, oddities=(*head.oddities, said)) for head in heads]
    if shift and not np.any(stored.astype(np.int64) & ((1 << shift) - 1)):
        said = noted(BITS_JUDGED.found(f"pixels fill the highest {bits} bits"))
        return [replace(head, shift=shift, oddities=(*head.oddities, said)) for head in heads]
    raise _UndecidedError(
        f"an image {Doubt.HIGH_BIT}, and its pixels need other bits; expected whole bytes that hold the "
        "value in their lowest bits (--values stored takes the numbers as they are)"
    )


def _with_grey_as_shown(heads: Sequence[SliceHeader], series: Sequence[SliceHeader]) -> list[SliceHeader]:
    """Exchange black and white, where grey is no quantity."""
    if heads[0].modality in {"CT", "PT"}:
        said = noted(GREY_INVERTED.found("black and white are exchanged when shown; the values are kept"))
        return [replace(head, oddities=(*head.oddities, said)) for head in heads]
    if len(heads) < len(series):
        raise _UndecidedError(
            f"an image {Doubt.INVERTED}, and others of the series are not; --values stored takes the numbers "
            "as they are"
        )
    top = int(_histogram(heads, lambda head: Linear()).values[-1])
    said = noted(GREY_INVERTED.found("values were inverted, as black and white are exchanged when shown"))
    return [
        replace(head, scaling=replace(head.scaling, top=top), oddities=(*head.oddities, said))
        for head in heads
    ]


_RULES: dict[Doubt, Callable[[Sequence[SliceHeader], Sequence[SliceHeader]], list[SliceHeader]]] = {
    Doubt.HIGH_BIT: _with_lowest_bits,
    Doubt.INVERTED: _with_grey_as_shown,
}


def _in_hounsfield(heads: Sequence[SliceHeader]) -> list[SliceHeader]:
    """Return CT whose values are HU for certain."""
    doubts = {doubt for head in heads for doubt in head.doubts if doubt in _OF_HOUNSFIELD}
    why = ", ".join(sorted(doubts))
    found = _histogram(heads, lambda head: head.scaling.rescale)
    shift = 0.0
    if not _is_hounsfield(found):
        shift = LEAST_HU
        shifted = _Histogram(found.values + shift, found.counts)
        if not doubts & {Doubt.NO_SCALE, Doubt.ZERO_SLOPE} or not _is_shifted(shifted):
            raise _UndecidedError(
                f"a CT image {why}; its values are not in HU for certain (air near {AIR_HU:g} HU and tissue "
                "expected); --values stored takes the stored numbers for HU"
            )
    what = f"CT {why}: air and range say HU" + (f" + {-shift:g}" if shift else "")
    said = noted(HOUNSFIELD_JUDGED.found(what))

    def certain(head: SliceHeader) -> SliceHeader:
        rescale = head.scaling.rescale
        scaling = replace(head.scaling, rescale=replace(rescale, inter=rescale.inter + shift, units=""))
        return replace(head, scaling=scaling, oddities=(*head.oddities, said))

    return [certain(head) for head in heads]


def _is_hounsfield(found: _Histogram, mode_within: float = _MODE) -> bool:
    """Whether values are HU for certain: there is air, at its value, and tissue, and hardly anything else."""
    measured = found.values >= UNMEASURED_HU
    found = _Histogram(found.values[measured], found.counts[measured])
    # Air that was clipped at the least value is air, and its value tells nothing.
    air = (np.abs(found.values - AIR_HU) <= _AIR) & (found.values != LEAST_HU)
    if not air.any():
        return False
    mode = float(found.values[air][found.counts[air].argmax()])
    elsewhere = found.share(UNMEASURED_HU, AIR_HU - _AIR) + found.share(_TISSUE[1] + 1000, np.inf)
    return (
        abs(mode - AIR_HU) <= mode_within
        and found.share(AIR_HU - _AIR, AIR_HU + _AIR) >= _LEAST_AIR
        and found.share(*_TISSUE) >= _LEAST_TISSUE
        and elsewhere <= _MOST_ELSEWHERE
    )


def _is_shifted(found: _Histogram) -> bool:
    """Whether values that were stored without a sign are HU: air at 24 of them, soft tissue at 1024."""
    return (
        found.values[0] >= LEAST_HU
        and found.share(*_SOFT) >= _LEAST_SOFT
        and _is_hounsfield(found, _MODE_OF_SHIFTED)
    )


def _unscaled(heads: Sequence[SliceHeader], series: Sequence[SliceHeader]) -> list[SliceHeader]:
    """Return MR whose slope is 0 in every slice, as its numbers are in no unit anyway."""
    if heads[0].modality == "PT" or len(heads) < len(series):
        raise _UndecidedError(
            f"an image {Doubt.ZERO_SLOPE}, where values are quantities or other slices have a slope other "
            "than 0; --values stored takes the stored numbers"
        )
    said = noted(SCALE_NOT_BELIEVED.found("the rescale slope is 0, stored numbers were taken"))
    return [replace(head, oddities=(*head.oddities, said)) for head in heads]


def _histogram(heads: Iterable[SliceHeader], scale: Callable[[SliceHeader], Linear]) -> _Histogram:
    """Return the histogram of slices, each by its scale.

    Raises:
        InputError: A file cannot be decoded.
    """
    files: dict[Path, list[SliceHeader]] = {}
    for head in heads:
        files.setdefault(head.path, []).append(head)
    counts: dict[float, int] = {}
    with Pixels() as pixels:
        for part in files.values():
            for image, head in zip(pixels.read(part), part, strict=True):
                linear = scale(head)
                stored, times = np.unique(image, return_counts=True)
                scaled = stored.astype(np.float64) * linear.slope + linear.inter
                for value, count in zip(scaled.tolist(), times.tolist(), strict=True):
                    counts[value] = counts.get(value, 0) + count
    values = np.asarray(sorted(counts))
    return _Histogram(values, np.asarray([counts[value] for value in values.tolist()], dtype=np.float64))
