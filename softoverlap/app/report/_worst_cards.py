"""The worst cases, misses and false positives of the page: pictures, or why there are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from softoverlap.app.columns import CASES, find_column
from softoverlap.app.figures import number
from softoverlap.app.report._html import Markup, element
from softoverlap.app.report._pictures import CaseDrawer, Picture
from softoverlap.app.report._results import Results, Row, label_name, text
from softoverlap.app.report._tables import missing
from softoverlap.app.report._worst import (
    Focus,
    focus,
    of_case,
    ranking,
    worst_cases,
    worst_false_positives,
    worst_misses,
)

MOST_FINDINGS = 6
"""Misses and false positives that are drawn at most, of each."""


@dataclass(frozen=True)
class DrawnCase:
    """One of the worst cases: its row, its picture, and the caption."""

    row: Row
    column: str
    picture: Picture
    caption: str

    @property
    def name(self) -> str:
        return _name_of(self.row)


@dataclass(frozen=True)
class Findings:
    """Misses or false positives: how many there are, and the drawn ones, the worst first."""

    count: int
    drawn: tuple[tuple[Row, Focus, Picture], ...]


def draw_worst(
    results: Results, drawer: CaseDrawer, most: int, progress: Callable[[str], None]
) -> list[DrawnCase]:
    """Draw the worst cases; `progress` is called with the name of each."""
    drawn = []
    for row in worst_cases(results, most):
        drawn.append(_draw(results, row, drawer))
        progress(drawn[-1].name)
    return drawn


def draw_findings(results: Results, drawer: CaseDrawer, most: int) -> tuple[Findings, Findings]:
    """Draw the largest misses and the surest false positives, case by case."""
    kinds = (worst_misses(results.lesions), worst_false_positives(results.boxes))
    chosen = [found[: min(most, MOST_FINDINGS)] for found in kinds]
    cases = {_key(row): row for row in results.scored.rows}
    pictures: dict[tuple[int, int], Picture] = {}
    places = [
        (_key(row), (kind, place))
        for kind, found in enumerate(chosen)
        for place, (row, _) in enumerate(found)
    ]
    for key, at in sorted(places, key=lambda one: str(one[0])):
        if key in cases:
            pictures[at] = drawer(cases[key], chosen[at[0]][at[1]][1])
    first, second = (
        Findings(
            len(kinds[kind]),
            tuple(
                (row, middle, pictures[kind, place])
                for place, (row, middle) in enumerate(chosen[kind])
                if (kind, place) in pictures
            ),
        )
        for kind in range(2)
    )
    return first, second


def worst_section(results: Results, drawn: Sequence[DrawnCase]) -> list[Markup]:
    """The pictures, after what is to be known of all."""
    if not drawn:
        unranked = ranking(results) is None
        return [missing("No case has a score to rank it by." if unranked else "None asked for.")]
    words = f"Ranked by {find_column(CASES, drawn[0].column).title}, worst first."
    cards = (_card(case, f"worst-{place}") for place, case in enumerate(drawn))
    key = [colour_key()] if any(case.picture.panels for case in drawn) else []
    return [element("p", words), *key, *cards]


def findings_section(misses: Findings, false: Findings) -> list[Markup]:
    """The largest misses, then the surest false positives; a sentence where there are none."""
    pieces = [colour_key()] if misses.drawn or false.drawn else []
    for title, none, found in (
        ("Missed, the largest first", "No lesion was missed.", misses),
        ("False positives, the surest first", "There are no false positives.", false),
    ):
        if found.drawn:
            shown = f"{len(found.drawn)} of {found.count}"
            pieces.append(element("h3", f"{title} ({shown})"))
            pieces.append(element("div", *map(_finding, found.drawn), class_="findings"))
        else:
            pieces.append(element("p", none if not found.count else f"{found.count} not drawn."))
    return pieces


def colour_key() -> Markup:
    """What the colours and lines of all pictures mean."""
    truth = element("span", "truth", class_="key truth")
    found = element("span", "found", class_="key found")
    words = (
        " Contours at 0.25, 0.5 and 0.75; true boxes dashed, found ones solid with their score. "
        "R and L are the patient's right and left, A and P front and back."
    )
    return element("p", truth, " ", found, words, class_="keys")


def _draw(results: Results, row: Row, drawer: CaseDrawer) -> DrawnCase:
    """Draw a case through what went worst in it."""
    boxes = of_case(results.boxes, row)
    middle, least = focus(of_case(results.lesions, row), boxes), drawer.least_score(row)
    picture = drawer(row, middle)
    words = [] if middle is None else [f"The planes go through {middle.words}."]
    if picture.panels and (about := picture.panels[0].about):
        words.append(f"Enlarged: {about}.")
    if picture.panels and boxes.rows and least > 0:
        words.append(f"Boxes with a score of {number(least)} or more.")
    caption = " ".join([*words, picture.note]).strip()
    return DrawnCase(row, ranking(results) or "", picture, caption)


def _card(case: DrawnCase, name: str) -> Markup:
    score = case.row.get(case.column)
    value = number(score) if isinstance(score, float) else "–"
    title = find_column(CASES, case.column).title
    heading = element("h3", case.name, element("span", f"{title} {value}"))
    if not case.picture.panels:
        return element("article", heading, missing(f"No picture: {case.picture.why}."), id=name)
    return element("article", heading, _planes(case.picture), element("p", case.caption), id=name)


def _planes(picture: Picture) -> Markup:
    """Plane by plane: whole, then enlarged."""
    planes = []
    for panel in picture.panels:
        images = [_image(panel.whole, panel.name)]
        if panel.enlarged:
            images.append(_image(panel.enlarged, f"{panel.name}, enlarged"))
        planes.append(element("figure", element("figcaption", panel.name), *images, class_="plane"))
    return element("div", *planes, class_="planes")


def _finding(one: tuple[Row, Focus, Picture]) -> Markup:
    """A miss or a false positive: what lies about it in three planes."""
    row, middle, picture = one
    heading = element("h4", _name_of(row), element("span", middle.words))
    if not picture.panels:
        return element("article", heading, missing(f"No picture: {picture.why}."))
    slices = [
        element(
            "figure",
            element("figcaption", panel.name),
            _image(panel.enlarged or panel.whole, panel.name),
            class_="plane",
        )
        for panel in picture.panels
    ]
    return element("article", heading, element("div", *slices, class_="planes slices"))


def _image(uri: str, words: str) -> Markup:
    alternative = element("img", src=uri, alt=words)
    return Markup(alternative.removesuffix("</img>"))


def _name_of(row: Row) -> str:
    label = label_name(row)
    return text(row, "case") + (f", label {label}" if label else "")


def _key(row: Row) -> tuple[str, str]:
    return text(row, "case"), label_name(row)
