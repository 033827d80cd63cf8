"""The page of the cohort: what became of all cases, how they are distributed, and each in a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from medrestore.errors import InputError
from medrestore.report.charts import histogram
from medrestore.report.markup import Markup, join, tag
from medrestore.report.page import asset, gib, number, or_dash, page, percent, times, why_missing
from medrestore.report.pictures import image
from medrestore.report.preview import FIRST, THUMBNAIL, Preview
from medrestore.report.rows import CaseRow, further_metrics
from medrestore.report.tables import count

NO_REFERENCE = "no reference was given, or there is nothing to measure"


@dataclass(frozen=True)
class Measure:
    """A number that cases have, with the reason where one has none."""

    title: str
    unit: str
    value: Callable[[CaseRow], float | None]
    reason: str
    digits: int = 3
    predicted: Callable[[CaseRow], float | None] | None = None


NOISE = Measure("Noise", "%", lambda row: percent(row.noise), "no noise level was found", 2)
MEASURES = (
    NOISE,
    Measure("PSNR", "dB", lambda row: row.psnr, NO_REFERENCE),
    Measure("SSIM", "", lambda row: row.ssim, NO_REFERENCE),
    Measure("Time", "s", lambda row: row.seconds, "not measured", 3, lambda row: row.predicted_seconds),
    Measure(
        "Peak memory",
        "GiB",
        lambda row: gib(row.peak_bytes),
        "not measured",
        3,
        lambda row: gib(row.predicted_peak_bytes),
    ),
)


def measures(rows: Sequence[CaseRow]) -> tuple[Measure, ...]:
    """Return what is shown of cases: `MEASURES`, and the metrics of plugins that any of them has."""
    names = further_metrics(rows)
    return (*MEASURES, *(Measure(name, "", partial(_further, name), NO_REFERENCE) for name in names))


def _further(name: str, row: CaseRow) -> float | None:
    return row.further.get(name)


def cohort_page(rows: Sequence[CaseRow], title: str) -> Markup:
    """Return ``report.html`` of `rows`, which are in the order they are to be shown in."""
    body = join(
        tag("header", tag("h1", title), _counts(rows), _links()),
        tag("main", _distributions(rows), _cases(rows)),
    )
    return page(title, body, *([asset("report.js")] if rows else []))


def _counts(rows: Sequence[CaseRow]) -> Markup:
    numbers = count(rows)
    items = (tag("li", tag("b", numbers[name]), f" {name}", class_=name) for name in numbers if numbers[name])
    return tag(
        "ul", tag("li", tag("b", len(rows)), f" case{'s' * (len(rows) != 1)}"), *items, class_="counts"
    )


def _links() -> Markup:
    files = (("summary.csv", "summary.csv"), ("summary.json", "summary.json"))
    links = [tag("a", text, href=target) for target, text in files]
    return tag("p", "The same as tables: ", links[0], ", ", links[1], ".")


def _distributions(rows: Sequence[CaseRow]) -> Markup | None:
    """Return a histogram of each measure that two cases have."""
    figures = [figure for measure in measures(rows) for figure in _histograms(rows, measure)]
    if not figures:
        return None
    return tag("section", tag("h2", "Distributions"), tag("div", *figures, class_="figures"))


def _histograms(rows: Sequence[CaseRow], measure: Measure) -> Iterator[Markup]:
    """Noise is apart by modality, being of another kind in each; all else is taken together."""
    found: dict[str | None, list[float]] = {}
    for row in rows:
        value = measure.value(row)
        if value is not None:
            found.setdefault(row.modality if measure is NOISE else None, []).append(value)
    for kind in sorted(found, key=str):
        title = measure.title if len(found) == 1 else f"{measure.title}, {kind}"
        if len(found[kind]) > 1:
            yield histogram(found[kind], title, measure.unit)


def _cases(rows: Sequence[CaseRow]) -> Markup:
    if not rows:
        return tag("section", tag("h2", "Cases"), tag("p", "No case has come to an end yet."))
    heads = ["Case", "Status", "Verdict", "Model", "Scan / voxels"]
    shown = measures(rows)
    heads += [f"{m.title} / {m.unit}" if m.unit else m.title for m in shown]
    cells = [_head(text, n + 1, numeric=n > 4) for n, text in enumerate(heads)]
    pictures = tag("th", "Before, after, residual", scope="col")
    table = tag(
        "table",
        tag("caption", "All cases. A head sorts by its column; once more, the other way.", class_="hidden"),
        tag("thead", tag("tr", pictures, *cells)),
        tag("tbody", *(_row(row, shown) for row in rows)),
        id="cases",
    )
    return tag(
        "section",
        tag("h2", "Cases"),
        _filters(rows),
        tag("div", table, class_="wide", tabindex=0, role="region", aria_label="Cases"),
    )


def _head(text: str, column: int, numeric: bool) -> Markup:
    button = tag("button", text, type="button", data_column=column)
    return tag("th", button, scope="col", class_="number" if numeric else None, aria_sort="none")


def _filters(rows: Sequence[CaseRow]) -> Markup:
    text = tag(
        "label", "Find ", tag("input", type="search", id="find", placeholder="name, model, cause", size=24)
    )
    choices = [
        _choice("Status", "status", sorted({row.status for row in rows})),
        _choice("Verdict", "verdict", sorted({row.verdict for row in rows if row.verdict})),
        _choice("Modality", "modality", sorted({row.modality for row in rows if row.modality})),
        _choice("Model", "model", sorted({row.model for row in rows if row.model})),
    ]
    shown = tag("output", id="shown", aria_live="polite")
    return tag("div", text, *choices, shown, class_="filters")


def _choice(label: str, key: str, values: Sequence[str]) -> Markup | None:
    if len(values) < 2:
        return None
    options = [tag("option", "all", value=""), *(tag("option", value, value=value) for value in values)]
    return tag("label", f"{label} ", tag("select", *options, data_key=key))


def _row(row: CaseRow, shown: Sequence[Measure]) -> Markup:
    return tag(
        "tr",
        tag("td", _thumbnails(row)),
        tag("td", *_name(row), data_value=row.name),
        tag("td", *_status(row), data_value=row.status),
        tag("td", verdict_badge(row), data_value=None if row.verdict is None else row.concern),
        tag("td", *_model(row), data_value=row.model),
        tag("td", *_scan(row), data_value=_voxels(row)),
        *(_measure(row, measure) for measure in shown),
        class_=row.status,
        data_status=row.status,
        data_verdict=row.verdict,
        data_modality=row.modality,
        data_model=row.model,
    )


def _name(row: CaseRow) -> list[Markup | None]:
    known = None if row.name == row.case else tag("small", row.case)
    result = (
        None if row.output is None else tag("small", tag("a", "result", href=quote(os.fsencode(row.output))))
    )
    return [tag("a", row.name, href=f"cases/{row.case}.html"), known, result]


def _status(row: CaseRow) -> list[Markup | None]:
    stage = f" at {row.stage}" if row.status == "failed" and row.stage else ""
    tries = tag("small", f"{row.attempts} attempts") if row.attempts > 1 else None
    told = tag("small", ", ".join(row.findings)) if row.findings else None
    return [tag("span", row.status + stage, class_=f"badge {row.status}"), tries, told]


def verdict_badge(row: CaseRow) -> Markup:
    """Return the verdict on the result of a case, or a dash with the reason why there is none."""
    if row.verdict is None:
        return or_dash(None, why_missing(row, "none was given; the record beside the result says why"))
    kind = {"PASS": "done", "FAIL": "failed"}.get(row.verdict, "warned")
    return tag("span", row.verdict, class_=f"badge {kind}")


def _scan(row: CaseRow) -> list[Markup | None]:
    sizes = times(row.spacing_mm, 3)
    kind = None if row.modality is None else tag("b", row.modality, " ")
    size = None if sizes is None else tag("small", f"{sizes} mm")
    return [kind, or_dash(times(row.shape), "the scan was not read"), size]


def _voxels(row: CaseRow) -> int | None:
    return None if row.shape is None else row.shape[0] * row.shape[1] * row.shape[2]


def _model(row: CaseRow) -> list[Markup | None]:
    task = None if row.task is None else tag("small", row.task)
    if row.model is None:
        return [or_dash(None, why_missing(row, "no model ran")), task]
    plugin, slash, name = row.model.rpartition("/")
    return [join(plugin, slash, tag("wbr"), name), task]


def _measure(row: CaseRow, measure: Measure) -> Markup:
    value = measure.value(row)
    shown = or_dash(number(value, measure.digits), why_missing(row, measure.reason))
    return tag("td", shown, beside(row, measure), class_="number", data_value=value)


def beside(row: CaseRow, measure: Measure) -> Markup | None:
    """Return what stands below a number in small: what was promised, or the noise of CT as people say it."""
    if measure is NOISE and row.modality == "CT" and row.sigma is not None:
        return tag("small", f"{number(row.sigma, 2)} HU")
    promised = None if measure.predicted is None else measure.predicted(row)
    return None if promised is None else tag("small", f"predicted {number(promised, measure.digits)}")


def _thumbnails(row: CaseRow) -> Markup:
    if row.cause is not None and row.status != "done":
        return tag("p", row.cause.partition("\n")[0], class_=f"cause {row.status}", title=row.cause)
    if row.pictures is None:
        return or_dash(None, why_missing(row, "no pictures were kept"))
    try:
        kept = Preview(row.pictures)
    except InputError:
        return or_dash(None, "the pictures of this case cannot be read")
    images = []
    for name in FIRST:
        data = kept.thumbnail(name)
        if data is not None:
            width, height = _fit(kept, name)
            images.append(image(data, width, height, f"{name}, {kept.facts.thumbnail}"))
    return tag("div", *images, class_="thumbnails")


def _fit(kept: Preview, name: str) -> tuple[int, int]:
    """Return width and height in pixels, in the proportions of the patient."""
    height, width = kept.facts.extent_mm[f"{name} {kept.facts.thumbnail}"]
    scale = THUMBNAIL / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))
