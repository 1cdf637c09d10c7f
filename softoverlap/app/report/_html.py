"""Pieces of HTML: all that comes from files is escaped here, and nowhere else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

_FORBIDDEN_IN_SCRIPTS = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}


class Markup(str):
    """Text that is HTML already."""


def escape(text: object) -> Markup:
    """Any text as HTML; what is HTML already stays as it is.

    Examples:
        >>> escape("a < b")
        'a &lt; b'
    """
    return text if isinstance(text, Markup) else Markup(html.escape(str(text)))


def element(tag: str, *content: object, **attributes: str | bool) -> Markup:
    """An element around its content. An underscore ends a name that Python has; others are dashes.

    Examples:
        >>> element("p", "a < b", class_="note")
        '<p class="note">a &lt; b</p>'
    """
    names = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    words = [
        f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
        for name, value in names.items()
        if value is not False
    ]
    return Markup(f"<{tag}{''.join(words)}>{joined(content)}</{tag}>")


def joined(parts: Iterable[object]) -> Markup:
    """One after the other."""
    return Markup("".join(escape(part) for part in parts))


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, numbers: int = 0) -> Markup:
    """A plain table in a frame that scrolls; the last so many columns hold numbers."""
    first = len(head) - numbers

    def cells(tag: str, row: Sequence[object]) -> Markup:
        kinds = [{"class_": "number"} if at >= first else {} for at in range(len(row))]
        return joined(element(tag, cell, **kind) for cell, kind in zip(row, kinds, strict=True))

    top = element("thead", element("tr", cells("th", head)))
    body = element("tbody", *(element("tr", cells("td", row)) for row in rows))
    return element("div", element("table", top, body), class_="scroll", tabindex="0")


def embedded_json(name: str, value: Any) -> Markup:
    """Data for the script; nothing in it can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(
        f'<script type="application/json" id="{html.escape(name)}">'
        f"{text.translate(_FORBIDDEN_IN_SCRIPTS)}</script>"
    )


def content_hash(text: str) -> str:
    """How a content security policy names an inline style or script."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
