"""A verification as people read it: rows of a table, a page of HTML, a part of a page in Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from medrestore.errors import OutputError
from medrestore.io.atomic import atomic_write, check_target
from medrestore.report.markup import Markup, join, tag
from medrestore.report.page import page
from medrestore.testing.outcome import Figure, Outcome, Status, Verification

BEGIN, END = "<!-- medrestore verify: begin -->", "<!-- medrestore verify: end -->"
"""What is between them in a page is replaced; all else stays."""

_BADGES = {Status.PASSED: "done", Status.FAILED: "failed", Status.SKIPPED: "skipped"}


def rows(found: Verification) -> list[tuple[str, str, str]]:
    """Return a row for each check: name, what it came to, the reason or the figure that decides."""
    return [(name, str(outcome.status), outcome.summary) for name, outcome in found.outcomes.items()]


def counts(found: Verification) -> str:
    """Return how many checks came to what, in words."""
    return ", ".join(f"{found.count(status)} {status}" for status in Status)


def conditions(found: Verification) -> str:
    """Return what was tried on what, in a sentence."""
    setup = found.setup
    scans = len(setup["scans"]) if isinstance(setup["scans"], list) else 0
    given = f", {scans} scan{'s' * (scans > 1)} given" if scans else ""
    series = f", series of {count} volumes" if (count := setup["volumes"]) != 1 else ""
    modalities = setup["modalities"] if isinstance(setup["modalities"], list) else []
    alone = f", as {modalities[0]} alone" if len(modalities) > 1 else ""
    weights = f", weights {str(found.model['sha256'])[:12]}" if found.model["sha256"] else ""
    return (
        f"{found.model['name']}{weights}; computed scenes of {setup['side']} voxels along each axis"
        f"{series}{alone}, seed {setup['seed']}{given}; on {setup['device']} "
        f"({setup['processor']}, {setup['cores']} cores) in {setup['dtype']}, "
        f"medrestore {setup['medrestore']}, {setup['date']}"
    )


def write_html(path: Path, found: Verification, *, overwrite: bool) -> None:
    """Write a page that needs no other file, no script and no network.

    Raises:
        OutputError: The file is there already, or cannot be written.
    """
    body = join(
        tag("h1", f"{found.model['name']}: {counts(found)}"),
        tag("p", found.title),
        tag("p", f"{conditions(found)}.", class_="note"),
        *(_section(found, name, outcome) for name, outcome in found.outcomes.items()),
    )
    text = join(Markup("<!doctype html>\n"), page(f"{found.model['name']}, verified", body))
    with atomic_write(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _section(found: Verification, name: str, outcome: Outcome) -> Markup:
    badge = tag("span", str(outcome.status), class_=f"badge {_BADGES[outcome.status]}")
    said = [*outcome.problems, *([outcome.skipped] if outcome.skipped else [])]
    kind = "cause" if outcome.problems else "cause skipped"
    return tag(
        "section",
        tag("h2", f"{name} ", badge),
        tag("p", found.questions[name]),
        tag("p", f"Held to: {found.limits[name]}", class_="note"),
        *(tag("p", one, class_=kind) for one in said),
        _table(outcome.figures) if outcome.figures else None,
    )


def _table(figures: tuple[Figure, ...]) -> Markup:
    head = tag("tr", *(tag("th", title) for title in ("figure", "measured", "limit", "")))
    lines = (
        tag(
            "tr",
            tag("td", figure.name),
            tag("td", figure.measured),
            tag("td", figure.limits),
            tag("td", None if figure.holds else tag("span", "does not hold", class_="badge failed")),
        )
        for figure in figures
    )
    return tag("div", tag("table", tag("thead", head), tag("tbody", *lines)), class_="wide")


def markdown(found: Verification) -> str:
    """Return the part of a page that says it all."""
    lines = [
        f"Made by `medrestore verify`: **{counts(found)}**. {conditions(found)}.",
        "",
        "| check | | what decided |",
        "|---|---|---|",
        *(f"| {name} | {_strong(status)} | {_cell(summary)} |" for name, status, summary in rows(found)),
        "",
    ]
    for name, outcome in found.outcomes.items():
        lines += list(_details(found, name, outcome))
    return "\n".join(lines)


def _strong(status: str) -> str:
    return f"**{status}**" if status == Status.FAILED else status


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _details(found: Verification, name: str, outcome: Outcome) -> Iterator[str]:
    if not (outcome.figures or len(outcome.problems) > 1):
        return
    yield f'??? note "{name}: {found.questions[name]}"'
    yield ""
    yield f"    Held to: {found.limits[name]}"
    yield ""
    yield from (f"    - {_cell(problem)}" for problem in outcome.problems)
    if outcome.figures:
        yield from ("    | figure | measured | limit |", "    |---|---|---|")
        for figure in outcome.figures:
            limit = f"{figure.limits}" if figure.holds else f"**{figure.limits}: does not hold**"
            yield f"    | {_cell(figure.name)} | {figure.measured} | {limit} |"
    yield ""


def write_markdown(path: Path, found: Verification) -> None:
    """Replace the part between `BEGIN` and `END` of a page, or make a page where there is none.

    Raises:
        OutputError: See `page_around`; or it cannot be written.
    """
    before, after = page_around(path)
    before = before or f"# {found.model['name']}\n\n{found.title}\n\n## Verified\n\n"
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n{markdown(found)}\n{END}{after}", encoding="utf-8")


def page_around(path: Path) -> tuple[str, str]:
    """Return what of a page stands before and after the part that is replaced; no text where it is not there.

    Raises:
        OutputError: The page is there and does not have both marks once, or its folder is missing.
    """
    check_target(path, overwrite=True)
    if not path.exists():
        return "", "\n"
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in before + after:
        raise OutputError(
            f"{path}: the page is there, and has no place for the verification; expected the lines {BEGIN} "
            f"and {END} where it is to stand"
        )
    return before, after
