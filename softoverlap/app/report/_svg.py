"""Figures as SVG inside a page: its fonts and colours, no styles of their own, a tip at each point.

The page's content security policy forbids style attributes, so they become plain attributes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from softoverlap.app.report._style import Figure, rc_context

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_BLACK = ("#000000", "#000", "black")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_DROPPED = ("metadata", "style", "title")


def inline_svg(
    figure: Figure, *, name: str, label: str, tips: Mapping[str, Sequence[str]] | None = None
) -> str:
    """The figure as an element of a page.

    Args:
        figure: The figure; its black becomes the page's ink, its background transparent.
        name: A word of its own in the page, before all ids.
        label: What is seen, for those who do not see it.
        tips: For artists by their gid, what is shown on hovering over each of their points.

    Returns:
        The element's text.
    """
    root = ElementTree.fromstring(_drawn(figure, name))
    _drop(root)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        _plain_attributes(element)
    for gid, words in (tips or {}).items():
        _add_tips(root, gid, words)
    _rename_ids(root, name)
    for unwanted in ("width", "height", "version"):
        root.attrib.pop(unwanted, None)
    root.attrib |= {"role": "img", "aria-label": label}
    return ElementTree.tostring(root, encoding="unicode")


def _drawn(figure: Figure, name: str) -> str:
    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, dpi=200, metadata={"Date": None})
    return file.getvalue()


def _drop(root: Element) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.removeprefix(_SVG) in _DROPPED:
                parent.remove(child)


def _plain_attributes(element: Element) -> None:
    """Declarations as attributes, the page's ink in place of black, no prefixes."""
    for name, value in _declarations(element.attrib.pop("style", "")):
        if name == "font":
            size = re.search(r"([\d.]+)px", value)
            name, value = "font-size", size[1] if size else "10"
        element.set(name, value)
    element.attrib.pop("font-family", None)
    for name in ("fill", "stroke"):
        if element.get(name) in _BLACK:
            element.set(name, "currentColor")
    if element.tag == "text" and "fill" not in element.attrib:
        element.set("fill", "currentColor")
    if _XLINK + "href" in element.attrib:
        element.set("href", element.attrib.pop(_XLINK + "href"))


def _declarations(style: str) -> Iterator[tuple[str, str]]:
    for part in filter(None, map(str.strip, style.split(";"))):
        name, _, value = part.partition(":")
        yield name.strip(), value.strip()


def _add_tips(root: Element, gid: str, words: Sequence[str]) -> None:
    """A title in each point of the artist, in the order in which they were drawn."""
    group = next(element for element in root.iter() if element.get("id") == gid)
    hidden = {point for defs in group.iter("defs") for point in defs.iter()}
    shapes = [element for element in group.iter() if element.tag in ("use", "path")]
    points = [shape for shape in shapes if shape not in hidden]
    for point, word in zip(points, words, strict=True):
        ElementTree.SubElement(point, "title").text = word


def _rename_ids(root: Element, name: str) -> None:
    """Ids of this page alone; those that nothing refers to are dropped."""
    used: set[str] = set()
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "href" and value.startswith("#"):
                used.add(value[1:])
                element.set(key, f"#{name}-{value[1:]}")
            elif reference := _REFERENCE.search(value):
                used.add(reference[1])
                element.set(key, f"url(#{name}-{reference[1]})")
    for element in root.iter():
        old_id = element.attrib.pop("id", None)
        if old_id in used:
            element.set("id", f"{name}-{old_id}")
