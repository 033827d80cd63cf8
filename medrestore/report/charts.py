"""Distributions as small histograms in SVG, drawn here: a page needs no library to show them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medrestore.report.markup import Markup, join, tag
from medrestore.report.page import number

_WIDTH, _HEIGHT = 300, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 30, 18, 12, 28


def histogram(values: Sequence[float], title: str, unit: str) -> Markup:
    """Return a figure: how many cases lie where, and the median.

    Args:
        values: At least one, finite.
        title: What is counted.
        unit: Of the values; empty for a number without one.
    """
    ticks = _ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]
    counts, edges = np.histogram(values, bins=_bins(len(values), len(ticks)), range=(low, high))
    median = float(np.median(values))
    most = int(counts.max())
    bars = zip(counts.tolist(), edges.tolist(), edges.tolist()[1:], strict=False)
    drawing = tag(
        "svg",
        *_count_axis(most),
        *(_bar(*bar, most, (low, high)) for bar in bars),
        *_value_axis(ticks),
        _median(median, (low, high)),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=f"{title}: {len(values)} values, median {number(median)} {unit}",
    )
    name = f"{title} / {unit}" if unit else title
    note = f"median {number(median)}, {number(min(values))} to {number(max(values))}"
    caption = tag("figcaption", tag("b", name), f" {len(values)} cases", tag("small", note))
    return tag("figure", caption, drawing)


def _bins(values: int, ticks: int) -> int:
    """Return a whole number of bins between two ticks, about as many in all as the square root asks for."""
    return (ticks - 1) * max(1, min(5, math.ceil(math.sqrt(values) / (ticks - 1))))


def _ticks(low: float, high: float) -> list[float]:
    """Return three to seven round numbers that enclose low and high."""
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-9):
        room = abs(low) / 10 or 1.0
        low, high = low - room, high + room
    rough = (high - low) / 4
    power = 10.0 ** np.floor(np.log10(rough))
    step = float(power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999))
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return [float(f"{float(n) * step:.15g}") for n in np.arange(first, last + 1)]


def _x(value: float, ends: tuple[float, float]) -> float:
    return round(_LEFT + (value - ends[0]) / (ends[1] - ends[0]) * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(count: float, most: int) -> float:
    return round(_HEIGHT - _BOTTOM - count / most * (_HEIGHT - _TOP - _BOTTOM), 1)


def _bar(count: int, start: float, end: float, most: int, ends: tuple[float, float]) -> Markup | None:
    if count == 0:
        return None
    left, right, top = _x(start, ends), _x(end, ends), _y(count, most)
    words = f"{count} case{'s' * (count > 1)} from {number(float(start))} to {number(float(end))}"
    size = {"x": left + 0.5, "y": top, "width": round(right - left - 1, 1), "height": _y(0, most) - top}
    return tag("rect", tag("title", words), class_="bar", **size)


def _count_axis(most: int) -> list[Markup]:
    marks = [0, most] if most < 2 or most % 2 else [0, most // 2, most]
    lines = [
        tag("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=_y(mark, most), y2=_y(mark, most))
        for mark in marks
    ]
    return [*lines, *(_text(mark, _LEFT - 5, _y(mark, most) + 4, "end") for mark in marks)]


def _value_axis(ticks: Sequence[float]) -> list[Markup]:
    ends = (ticks[0], ticks[-1])
    return [_text(f"{tick:.10g}", _x(tick, ends), _HEIGHT - _BOTTOM + 16, "middle") for tick in ticks]


def _median(value: float, ends: tuple[float, float]) -> Markup:
    x = _x(value, ends)
    return tag("line", class_="median", x1=x, x2=x, y1=_TOP - 6, y2=_HEIGHT - _BOTTOM)


def _text(words: object, x: float, y: float, anchor: str) -> Markup:
    return join(tag("text", words, x=x, y=y, text_anchor=anchor))
