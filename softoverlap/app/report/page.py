"""One HTML file of a cohort's results, which opens anywhere and asks nobody for anything."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from softoverlap.app.report._case_files import ScanFinder
from softoverlap.app.report._html import Markup, content_hash, element, joined, number, plural
from softoverlap.app.report._pictures import case_picture
from softoverlap.app.report._results import Cell, Results, Row, label_name, read_results, text
from softoverlap.app.report._sections import (
    chart_section,
    failed_section,
    settings_section,
    summary_section,
)
from softoverlap.app.report._tables import case_table, lesion_table, missing
from softoverlap.app.report._words import name_of
from softoverlap.app.report._worst import focus, of_case, ranking, worst_cases
from softoverlap.images import check_written, whole_file

FALSE_POSITIVES = 1.0
"""Boxes are drawn from the score on that leaves so many false positives a scan."""


@dataclass(frozen=True)
class Report:
    """What was written.

    Args:
        path: The page.
        pictures: Number of cases with a picture.
        without: Cases that should have one, and why they have none.

    Examples:
        >>> Report(Path("report.html"), 2, {"sub-01": "its file is gone"}).pictures
        2
    """

    path: Path
    pictures: int
    without: dict[str, str]


def write_report(
    results: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    images: str | os.PathLike[str] | None = None,
    worst: int = 12,
    title: str | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Report:
    r"""Write one HTML page of the results of `softoverlap score`.

    The page holds the summary with its intervals, charts, the worst cases with pictures in three
    planes, and tables of cases and lesions to sort and filter. It needs no other file and no
    network. What is not in the results is left out with a sentence.

    Args:
        results: Folder of the results.
        output: The page, ending in .html; by default `report.html` in that folder.
        images: Scans to draw behind the masks: a folder whose files are named after their cases,
            or a pattern with `{case}`; without, masks are drawn alone.
        worst: Number of cases to draw, at least 0.
        title: The page's title; by default the folder's name.
        overwrite: Replace an earlier page.
        progress: Called with the name of each case that is drawn.

    Returns:
        Where the page is, and what could not be drawn.

    Raises:
        FileNotFoundError: If there are no results, no folder for the page, or no scan among
            `images`.
        FileExistsError: If the page is there and `overwrite` is False.
        ValueError: If a file of the results is damaged, the page's name does not end in .html, or
            `worst` is negative.

    Examples:
        >>> import json, tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "cases.csv").write_text("case,error\na,no truth\n")
        >>> summary = {"format": "softoverlap-summary", "bootstrap": {"confidence": 0.95}}
        >>> _ = (folder / "summary.json").write_text(json.dumps(summary))
        >>> write_report(folder).path.name
        'report.html'
    """
    if isinstance(worst, bool) or not isinstance(worst, int) or worst < 0:
        raise ValueError(f"worst must be a whole number of at least 0, got {worst!r}")
    found = read_results(results)
    path = _free_path(found.folder, output, overwrite)
    finder = ScanFinder(images)
    finder.check_any([str(row["case"]) for row in found.cases.rows])
    drawn = _draw_worst(found, finder, worst, progress or _nothing)
    name = title or f"Results of {found.folder.resolve().name}"
    with whole_file(path) as unfinished:
        unfinished.write_text(_page(found, drawn, name), encoding="utf-8")
    without = {one.name: one.why for one in drawn if not one.picture}
    return Report(path, len(drawn) - len(without), without)


@dataclass(frozen=True)
class _Drawn:
    """A case of the worst: its row, its picture or why there is none, what is to be known."""

    row: Row
    column: str
    picture: str
    why: str
    caption: str

    @property
    def name(self) -> str:
        label = label_name(self.row)
        return text(self.row, "case") + (f", label {label}" if label else "")


def _free_path(folder: Path, output: str | os.PathLike[str] | None, overwrite: bool) -> Path:
    path = folder / "report.html" if output is None else Path(output)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"output must end in .html, got {path}")
    if path.is_dir():
        raise IsADirectoryError(f"output must be a file, got the folder {path}")
    check_written([path], (), overwrite=overwrite)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder of {path} must exist, found no {path.parent}")
    return path


def _draw_worst(
    results: Results, finder: ScanFinder, most: int, progress: Callable[[str], None]
) -> list[_Drawn]:
    drawn = []
    for row in worst_cases(results, most):
        drawn.append(_draw(results, row, finder))
        progress(drawn[-1].name)
    return drawn


def _draw(results: Results, row: Row, finder: ScanFinder) -> _Drawn:
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
            f"Boxes from score {least:.3g} on: in all cases together, these leave at most "
            f"{plural(int(FALSE_POSITIVES), 'false positive')} a scan."
        )
    return _Drawn(row, column, picture, why, " ".join([*words, note]).strip())


def _least_score(results: Results, row: Row) -> float:
    """From which score on boxes are drawn."""
    mine = label_name(row)
    found = next((part.found for part in results.parts if part.name == mine), None)
    return 0.0 if found is None else min(found.least_score(FALSE_POSITIVES), 1.0)


def _page(results: Results, drawn: Sequence[_Drawn], title: str) -> str:
    """The whole file."""
    style, script = (_resource(name) for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src {content_hash(style)}; script-src {content_hash(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    head = joined(
        [
            Markup('<meta charset="utf-8">'),
            Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
            Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Markup('<meta name="color-scheme" content="light dark">'),
            Markup('<link rel="icon" href="data:,">'),
            element("title", title),
            element("style", Markup(style)),
        ]
    )
    body = joined([_header(results, title), element("main", *_sections(results, drawn))])
    foot = element("script", Markup(script))
    head, body = element("head", head), element("body", body, foot)
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _sections(results: Results, drawn: Sequence[_Drawn]) -> list[Markup]:
    """The page's sections, with what is most asked for first."""
    sections = [
        _section("failed", "Cases that failed", failed_section(results))
        if results.failed.rows
        else Markup("")
    ]
    for place, part in enumerate(results.parts):
        of_part = results.of_part(part)
        name = f": label {part.name}" if part.name else ""
        content = [
            summary_section(results, part),
            chart_section(of_part, part, prefix=f"p{place}c"),
        ]
        sections.append(_section(f"summary{place or ''}", f"Summary{name}", *content))
    links: dict[tuple[Cell, Cell], str] = {
        (one.row.get("case"), one.row.get("label")): f"worst-{place}"
        for place, one in enumerate(drawn)
    }
    return [
        *sections,
        _section("worst", "The worst cases", *_worst(results, drawn)),
        _section("cases", "All cases", case_table(results.cases, links)),
        _section("lesions", "All lesions", lesion_table(results.lesions)),
        _section("settings", "Settings", settings_section(results)),
    ]


def _section(name: str, heading: str, *content: object) -> Markup:
    return element("section", element("h2", heading), *content, id=name)


def _header(results: Results, title: str) -> Markup:
    """Title, counts and ways to the sections."""
    rows = results.cases.rows
    failed = {text(row, "case") for row in results.failed.rows}
    warned = {text(row, "case") for row in rows if row.get("warning")}
    cases = {text(row, "case") for row in rows}
    counts = f"{plural(len(cases - failed), 'case')} scored, {len(failed)} failed"
    if warned:
        counts += f", {len(warned)} with a warning"
    ways = [("summary", "Summary"), ("worst", "Worst cases"), ("cases", "Cases")]
    ways += [("lesions", "Lesions"), ("settings", "Settings")]
    links = (element("a", name, href=f"#{at}") for at, name in ways)
    if failed:
        links = (element("a", "Failed", href="#failed", class_="failed"), *links)
    theme = element("button", "Dark", id="theme", type="button", hidden=True)
    return element(
        "header",
        element("h1", title),
        element("p", counts + ".", class_="counts"),
        element("nav", *links, theme, aria_label="Sections"),
    )


def _worst(results: Results, drawn: Sequence[_Drawn]) -> list[Markup]:
    if not drawn:
        why = (
            "No case has a score to rank it by." if ranking(results) is None else "None asked for."
        )
        return [missing(why)]
    words = f"By {name_of(drawn[0].column)}, worst first."
    if any(one.picture for one in drawn):
        words += (
            " Contours are drawn at 0.25, 0.5 and 0.75: the truth blue, what was found orange."
            " R is the patient's right, A their front."
        )
    return [element("p", words), *(_card(one, f"worst-{place}") for place, one in enumerate(drawn))]


def _card(one: _Drawn, name: str) -> Markup:
    """A case of the worst."""
    score = one.row.get(one.column)
    value = number(score) if isinstance(score, float) else "–"
    heading = element("h3", one.name, element("span", f"{name_of(one.column)} {value}"))
    if not one.picture:
        return element("article", heading, missing(f"No picture: {one.why}."), id=name)
    image = Markup(f'<img src="{one.picture}" alt="Three planes of the case">')
    frame = element("div", image, class_="picture scroll", tabindex="0")
    return element("article", heading, frame, element("p", one.caption), id=name)


def _resource(name: str) -> str:
    return resources.files("softoverlap.app.report").joinpath(name).read_text(encoding="utf-8")


def _nothing(_: str) -> None:
    """Nobody wants to know."""
