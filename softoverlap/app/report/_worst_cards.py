"""The worst cases of the page: a picture of each, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from softoverlap.app.columns import CASES, find_column
from softoverlap.app.report._case_files import ScanFinder
from softoverlap.app.report._html import Markup, element, number, plural
from softoverlap.app.report._pictures import case_picture
from softoverlap.app.report._results import Results, Row, label_name, text
from softoverlap.app.report._tables import missing
from softoverlap.app.report._worst import focus, of_case, ranking, worst_cases

FALSE_POSITIVES = 1.0
"""Boxes are drawn from the score on that leaves so many false positives a scan."""


@dataclass(frozen=True)
class DrawnCase:
    """One of the worst cases: its row, its picture or why there is none, and the caption."""

    row: Row
    column: str
    picture: str
    why: str
    caption: str

    @property
    def name(self) -> str:
        label = label_name(self.row)
        return text(self.row, "case") + (f", label {label}" if label else "")


def draw_worst(
    results: Results, finder: ScanFinder, most: int, progress: Callable[[str], None]
) -> list[DrawnCase]:
    """Draw the worst cases; `progress` is called with the name of each."""
    drawn = []
    for row in worst_cases(results, most):
        drawn.append(_draw(results, row, finder))
        progress(drawn[-1].name)
    return drawn


def _draw(results: Results, row: Row, finder: ScanFinder) -> DrawnCase:
    """Draw a case; what goes wrong is told in its place."""
    lesions, boxes = of_case(results.lesions, row), of_case(results.boxes, row)
    middle = focus(lesions, boxes)
    least = _least_score(results, row)
    image, note = finder(text(row, "case"))
    picture = why = ""
    try:
        picture, more = case_picture(
            row, lesions, boxes, settings=results.settings, image=image, folder=results.folder,
            focus=middle, least_score=least,
        )  # fmt: skip
    except (ValueError, OSError) as error:
        why = " ".join(str(error).split())
    else:
        note = " ".join(filter(None, (note, more)))
    column = ranking(results) or ""
    words = [] if middle is None else [f"The planes go through {middle.words}."]
    if picture and boxes.rows and math.isfinite(least) and least > 0:
        words.append(
            f"Boxes with a score of {least:.3g} or more: over all cases, these leave at most "
            f"{plural(int(FALSE_POSITIVES), 'false positive')} per scan."
        )
    return DrawnCase(row, column, picture, why, " ".join([*words, note]).strip())


def _least_score(results: Results, row: Row) -> float:
    """From which score on boxes are drawn."""
    mine = label_name(row)
    detections = (part.detection for part in results.parts if part.name == mine)
    detection = next(detections, None)
    return 0.0 if detection is None else min(detection.least_score(FALSE_POSITIVES), 1.0)


def worst_section(results: Results, drawn: Sequence[DrawnCase]) -> list[Markup]:
    """The pictures, after what is to be known of all."""
    if not drawn:
        unranked = ranking(results) is None
        return [missing("No case has a score to rank it by." if unranked else "None asked for.")]
    words = f"Ranked by {find_column(CASES, drawn[0].column).title}, worst first."
    if any(case.picture for case in drawn):
        words += (
            " Contours are drawn at 0.25, 0.5 and 0.75: the truth in blue, the prediction in"
            " orange. R is the patient's right, A the front."
        )
    cards = (_card(case, f"worst-{place}") for place, case in enumerate(drawn))
    return [element("p", words), *cards]


def _card(case: DrawnCase, name: str) -> Markup:
    score = case.row.get(case.column)
    value = number(score) if isinstance(score, float) else "–"
    title = find_column(CASES, case.column).title
    heading = element("h3", case.name, element("span", f"{title} {value}"))
    if not case.picture:
        return element("article", heading, missing(f"No picture: {case.why}."), id=name)
    image = Markup(f'<img src="{case.picture}" alt="Three planes of the case">')
    frame = element("div", image, class_="picture scroll", tabindex="0")
    return element("article", heading, frame, element("p", case.caption), id=name)
