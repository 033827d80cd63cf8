"""HTML and SVG as nested calls: what is not markup already is escaped."""

from __future__ import annotations

import html

_VOID = {"meta", "input", "img", "br", "wbr"}


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Return one element.

    Args:
        name: Of the element.
        *children: Markup, or anything else, whose text is escaped; None is left out.
        **attributes: Their values are escaped; None and False are left out, True is an attribute without a
            value. A trailing underscore is dropped (``class_``), others become hyphens (``aria_label``).
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    start = Markup(f"<{name}{written}>")
    return start if name in _VOID else Markup(f"{start}{join(*children)}</{name}>")


def join(*children: object) -> Markup:
    """Return the children one after the other, escaped where they are not markup."""
    return Markup("".join(_escaped(child) for child in children if child is not None))


def _escaped(child: object) -> str:
    return child if isinstance(child, Markup) else html.escape(printable(str(child)))


def printable(text: str) -> str:
    """Return `text` with what no UTF-8 file can hold (bytes of a file name that are none) replaced."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(printable(str(value)))}"'
