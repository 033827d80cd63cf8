"""The page of one case: what is known of it, a viewer, and slices at the scan's own resolution."""

from __future__ import annotations

import base64
import json
import os
from urllib.parse import quote

from medrestore.errors import InputError
from medrestore.findings import KINDS
from medrestore.picture import PLANES
from medrestore.report.cohort import beside, measures, verdict_badge
from medrestore.report.markup import Markup, join, tag
from medrestore.report.page import asset, number, or_dash, page, times, why_missing
from medrestore.report.pictures import image
from medrestore.report.preview import CROP, NAMES, Facts, Preview
from medrestore.report.rows import CaseRow

TITLES = {
    "before": "Before",
    "after": "After",
    "residual": "Residual (before − after)",
    "std": "Standard deviation of samples",
    "lower": "Lower end of the interval",
    "upper": "Upper end of the interval",
    "null": "What no slice shows",
}

ABREAST = 4
"""Most panes, or slices, beside each other."""

_VIEWS = (("all", "All three planes"), ("axial", "Axial"), ("coronal", "Coronal"), ("sagittal", "Sagittal"))


VIEWER = "niivue.umd.js"
"""The asset that draws volumes."""


def case_page(row: CaseRow, title: str, viewer: str | None = None) -> Markup:
    """Return ``cases/ID.html`` of one case, at most 8 MB.

    Args:
        row: The case.
        title: Of the report.
        viewer: Name of the file of the viewer beside the page; None for a page that holds the viewer, and is
            whole without any other file.
    """
    kept, missing = _pictures(row)
    header = tag(
        "header",
        tag("nav", tag("a", f"← {title}", href="../report.html")),
        tag("h1", row.name, " ", tag("span", row.status, class_=f"badge {row.status}")),
    )
    parts = [_cause(row), _facts(row)]
    if kept is None:
        body = join(header, tag("main", *parts, tag("p", missing)))
        return page(f"{row.name} – {title}", body)
    parts += [_viewer(kept), _slices(kept), _how_made(kept.facts)]
    body = join(header, tag("main", *parts), _data(kept))
    held = [asset(VIEWER)] if viewer is None else []
    return page(f"{row.name} – {title}", body, *held, asset("viewer.js"), beside=viewer)


def _pictures(row: CaseRow) -> tuple[Preview | None, str]:
    if row.pictures is None:
        return None, f"There are no pictures: {why_missing(row, 'none were kept')}."
    try:
        return Preview(row.pictures), ""
    except InputError:
        return None, "There are no pictures: the file that they were kept in cannot be read."


def _cause(row: CaseRow) -> Markup | None:
    if row.cause is None:
        return None
    stage = "" if row.stage is None else f" at {row.stage}"
    return tag("section", tag("h2", f"Why it {_became(row)}{stage}"), tag("pre", row.cause, class_="cause"))


def _became(row: CaseRow) -> str:
    return {"failed": "failed", "skipped": "was skipped"}.get(row.status, "was tried again")


def _findings(row: CaseRow) -> str | None:
    """Return what was found, by the meanings of the codes; the record beside the result has the sentences."""
    if row.findings is None:
        return None
    meanings = [KINDS[code].meaning if code in KINDS else code for code in row.findings]
    return " ".join(meanings) or "none"


def _bound(row: CaseRow) -> str | None:
    """Return the least PSNR and SSIM of the result."""
    bound = row.bound
    if not bound:
        return None
    return (
        f"PSNR {bound['psnr']:.1f} dB, SSIM {bound['ssim']:.3f}, with a probability of {bound['level']:.0%}"
    )


def _facts(row: CaseRow) -> Markup:
    result = None if row.output is None else tag("a", row.output, href=f"../{quote(os.fsencode(row.output))}")
    facts: list[tuple[str, object | None, str]] = [
        ("Case", row.case, ""),
        ("Result", result, why_missing(row, "nothing was written")),
        ("Verdict", verdict_badge(row), ""),
        ("At least", _bound(row), why_missing(row, "no intervals were asked for")),
        ("Model", row.model, why_missing(row, "no model ran")),
        ("Task", row.task, why_missing(row, "no model ran")),
        ("Modality", row.modality, "the scan was not read"),
        ("Shape / voxels", times(row.shape), "the scan was not read"),
        ("Voxel size / mm", times(row.spacing_mm), "the scan was not read"),
        ("Findings", _findings(row), why_missing(row, "nothing was written")),
        ("Attempts", row.attempts, ""),
    ]
    for measure in measures([row]):
        unit = f" / {measure.unit}" if measure.unit else ""
        value = number(measure.value(row), measure.digits)
        shown = join(or_dash(value, why_missing(row, measure.reason)), beside(row, measure))
        facts.append((measure.title + unit, shown, ""))
    items = (tag("div", tag("dt", name), tag("dd", or_dash(value, why))) for name, value, why in facts)
    return tag("section", tag("dl", *items))


def _viewer(kept: Preview) -> Markup:
    names = [name for name in NAMES if kept.has_pane(name)]
    panes = (
        tag(
            "figure",
            tag("figcaption", TITLES[name], " ", tag("output", id=f"value-{name}")),
            tag("div", _canvas(name), class_="canvas"),
        )
        for name in names
    )
    state = tag("p", "The viewer is starting.", id="state", class_="note", aria_live="polite")
    without = tag("noscript", tag("p", "It needs JavaScript, which the slices below do not."))
    panels = tag("div", *panes, class_="panes", style=f"--panes: {min(len(names), ABREAST)}")
    return tag("section", tag("h2", "Viewer"), _controls(kept), without, state, panels, _help())


def _canvas(name: str) -> Markup:
    return tag("canvas", id=f"canvas-{name}", tabindex=0, aria_label=f"{TITLES[name]}, interactive slices")


def _controls(kept: Preview) -> Markup:
    facts = kept.facts
    options = [tag("option", text, value=value) for value, text in _VIEWS]
    low, high = (f"{value:.4g}" for value in facts.window)
    unit = f" /{_unit(facts)}" if _unit(facts) else ""
    return tag(
        "div",
        tag("label", "View ", tag("select", *options, id="view")),
        tag("label", f"Black{unit} ", tag("input", type="number", id="low", value=low, step="any")),
        tag("label", f"White{unit} ", tag("input", type="number", id="high", value=high, step="any")),
        tag(
            "label",
            f"Residual ±{unit} ",
            tag("input", type="number", id="limit", value=f"{facts.residual[0]:.4g}", step="any", min=0),
            hidden=not kept.has_pane("residual"),
        ),
        tag("label", tag("input", type="checkbox", id="smooth"), " smooth"),
        tag("button", "Reset", type="button", id="reset"),
        tag("output", id="place", aria_live="off"),
        class_="filters",
    )


def _help() -> Markup:
    return tag(
        "p",
        "Click or drag to move the crosshair in all panes, scroll to leaf through the slices. "
        "The letters at the edges name the patient's sides. Viewer: NiiVue (BSD-2-Clause; its licence is "
        "in its source).",
        class_="note",
    )


def _slices(kept: Preview) -> Markup:
    names = [name for name in NAMES if kept.plane(name, "axial") is not None]
    columns = f"--panes: {min(len(names), ABREAST)}"
    panels = [
        tag("div", *(_slice(kept, name, across) for name in names), class_="panes slices", style=columns)
        for across in reversed(PLANES)
    ]
    note = (
        f"Through the middle, voxel by voxel, at most {CROP} of them on a side. Up is superior or anterior; "
        "left in the picture is the patient's left, in sagittal slices posterior."
    )
    if "residual" in names:
        note += f" The residual runs from blue to red, ±{kept.facts.residual[1]:.3g}{_unit(kept.facts)}."
    return tag("section", tag("h2", "Middle slices"), tag("p", note, class_="note"), *panels)


def _slice(kept: Preview, name: str, across: str) -> Markup | None:
    data = kept.plane(name, across)
    if data is None:
        return None
    words = f"{TITLES[name]}, {across}"
    width, height = _size(kept.facts, f"{name} {across}")
    frame = tag("div", image(data, width, height, words), style=f"aspect-ratio: {width} / {height}")
    return tag("figure", tag("figcaption", words), frame)


def _size(facts: Facts, key: str) -> tuple[int, int]:
    """Return width and height that are to each other as in the patient; the page makes them fit."""
    height, width = (
        min(whole, CROP * pixel)
        for whole, pixel in zip(facts.extent_mm[key], facts.pixels_mm[key], strict=True)
    )
    scale = 1000 / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _unit(facts: Facts) -> str:
    """Return the unit of the voxels as a suffix, where it is one."""
    return f" {facts.units}" if facts.units == "HU" else ""


def _how_made(facts: Facts) -> Markup:
    made = []
    for name, factors in facts.factors.items():
        whole = "every voxel" if max(factors) == 1 else f"means of {times(factors)} voxels"
        made.append(tag("li", f"{TITLES[name]}: {whole}, {times(facts.spacing_mm[name], 3)} mm."))
    if facts.shares_grid:
        made.append(tag("li", f"{TITLES['residual']}: the difference of the two."))
    note = (
        "A scan that is too large for this page is averaged over blocks of voxels. Averaging takes noise "
        "out of before and after alike: judge noise by the slices above. Values are rounded for display."
    )
    return tag("section", tag("h2", "What the viewer shows"), tag("p", note), tag("ul", *made))


def _data(kept: Preview) -> Markup:
    facts = kept.facts
    settings = {"window": list(facts.window), "residual": facts.residual[0], "units": facts.units}
    settings |= {"maps": facts.maps}
    # In a script element nothing is escaped; numbers and a unit cannot end it, but "<" never passes.
    text = json.dumps(settings).replace("<", "\\u003c")
    blocks = [tag("script", Markup(text), type="application/json", id="settings")]
    for name in NAMES:
        data = kept.volume(name)
        if data is not None:
            code = Markup(base64.b64encode(data).decode("ascii"))
            blocks.append(tag("script", code, type="application/gzip", id=f"volume-{name}"))
    return join(*blocks)
