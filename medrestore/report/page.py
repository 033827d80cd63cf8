"""What every page has: a head whose policy forbids the network, a foot, and values as people read them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files

from medrestore import __version__
from medrestore.report.markup import Markup, join, tag
from medrestore.report.rows import CaseRow

DASH = "—"
_ASSETS = files("medrestore.report") / "assets"

_FOOT = (
    "Research software, not a medical device: not for diagnosis, treatment or any decision about a patient. "
    "This page asks the network for nothing."
)


def asset(name: str) -> str:
    """Return the text of a file in `assets`."""
    return (_ASSETS / name).read_text(encoding="utf-8")


def page(title: str, body: Markup, *scripts: str, beside: str | None = None) -> Markup:
    """Return a whole page, after its doctype, that needs no other file but the script `beside` it.

    Args:
        title: Of the window.
        body: What it shows.
        *scripts: JavaScript, run in this order after the body is there. No other script runs on the page,
            and it can load nothing: the content security policy names these by their hashes.
        beside: Name of a file of JavaScript in the folder of the page, which is run before them. A policy
            cannot name it by its hash where the page is opened from a disk, so it allows files of the folder.
    """
    codes = [Markup(f"<script>{_inline(text)}</script>") for text in scripts]
    if beside is not None:
        codes.insert(0, tag("script", src=beside))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(scripts, beside is not None)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(asset("report.css"))),
    )
    foot = tag("footer", tag("p", f"medrestore {__version__}. {_FOOT}"))
    whole = tag("html", head, tag("body", body, foot, *codes), lang="en")
    return join(whole, "\n")


def _inline(script: str) -> str:
    """Return the script as it may stand in a page: nothing in it ends the element."""
    return re.sub(r"<(?=/script|!--)", r"\\x3c", script, flags=re.IGNORECASE)


def _policy(scripts: tuple[str, ...], has_beside: bool) -> str:
    digests = (base64.b64encode(hashlib.sha256(_inline(text).encode()).digest()) for text in scripts)
    allowed = [f"'sha256-{digest.decode('ascii')}'" for digest in digests]
    if has_beside:
        allowed += ["'self'", "file:"]
    return (
        f"default-src 'none'; script-src {' '.join(allowed) or repr('none')}; style-src 'unsafe-inline'; "
        "img-src data: blob:; connect-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def number(value: float | None, digits: int = 3) -> str | None:
    """Return a number with so many significant digits, never in powers of ten."""
    if value is None:
        return None
    text = f"{value:#.{digits}g}"
    if "e" not in text:
        return text.rstrip(".")
    decimals = digits - 1 - int(text.partition("e")[2])
    return f"{value:.{max(0, decimals)}f}"


def times(values: Sequence[float] | None, digits: int = 4) -> str | None:
    """Return sizes along several axes as one text, such as ``256 × 256 × 180``; whole numbers as they are."""
    if values is None:
        return None
    return " × ".join(str(one) if isinstance(one, int) else f"{one:.{digits}g}" for one in values)


def gib(size: int | None) -> float | None:
    """Return bytes as GiB."""
    return None if size is None else size / 2**30


def percent(fraction: float | None) -> float | None:
    """Return a fraction as per cent."""
    return None if fraction is None else 100 * fraction


def why_missing(row: CaseRow, reason: str) -> str:
    """Return why a value is not there: `reason`, unless the case never came so far."""
    early = {"failed": "the case failed", "skipped": "the case was skipped"}
    return early.get(row.status, reason)


def or_dash(text: object | None, reason: str) -> Markup:
    """Return the text, or a dash that says why there is no text to people who point at it or hear it."""
    if text is None:
        return tag("span", DASH, class_="missing", title=reason, role="img", aria_label=f"none: {reason}")
    return join(text)
