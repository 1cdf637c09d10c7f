"""One HTML file of a cohort's results, which opens anywhere and asks nobody for anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from softoverlap.app.figures import plural
from softoverlap.app.report._case_files import ScanFinder
from softoverlap.app.report._drawings import chart_section
from softoverlap.app.report._html import Markup, content_hash, element, joined
from softoverlap.app.report._pictures import CaseDrawer
from softoverlap.app.report._results import Cell, Results, read_results, text
from softoverlap.app.report._sections import (
    failed_section,
    settings_section,
    summary_section,
)
from softoverlap.app.report._style import FOUND, TRUTH
from softoverlap.app.report._tables import case_table, lesion_table
from softoverlap.app.report._worst_cards import (
    DrawnCase,
    Findings,
    draw_findings,
    draw_worst,
    findings_section,
    worst_section,
)
from softoverlap.images import check_written, whole_file


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

    The page holds the summary with its intervals, charts, the worst misses, false positives and
    cases with pictures in three planes, and tables of cases and lesions to sort and filter. It
    needs no other file and no network. What is not in the results is left out with a sentence.

    Args:
        results: Folder of the results.
        output: The page, ending in .html; by default `report.html` in that folder.
        images: Scans to draw behind the masks: a folder whose files are named after their cases,
            or a pattern with `{case}`; without, masks are drawn alone.
        worst: Number of cases to draw, at least 0; and of misses and of false positives, of which
            at most six are drawn.
        title: The page's title; by default the folder's name after the word Scores.
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
    scored = read_results(results)
    path = _free_path(scored.folder, output, overwrite)
    finder = ScanFinder(images)
    finder.check_any([str(row["case"]) for row in scored.cases.rows])
    drawer = CaseDrawer(scored, finder)
    drawn = draw_worst(scored, drawer, worst, progress or _nothing)
    findings = draw_findings(scored, drawer, worst)
    name = title or f"Scores: {Path(os.path.realpath(scored.folder)).name}"
    with whole_file(path) as unfinished:
        text = _page(scored, drawn, findings, name)
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")  # as in tables
    without = {case.name: case.picture.why for case in drawn if not case.picture.panels}
    return Report(path, len(drawn) - len(without), without)


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


def _page(
    results: Results,
    drawn: Sequence[DrawnCase],
    findings: tuple[Findings, Findings],
    title: str,
) -> str:
    """The whole file."""
    style, script = (_resource(name) for name in ("page.css", "page.js"))
    style = f":root {{ --truth: {TRUTH}; --found: {FOUND}; }}\n{style}"
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
    body = joined([_header(results, title), element("main", *_sections(results, drawn, findings))])
    foot = element("script", Markup(script))
    head, body = element("head", head), element("body", body, foot)
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _sections(
    results: Results, drawn: Sequence[DrawnCase], findings: tuple[Findings, Findings]
) -> list[Markup]:
    """The page's sections, with what is most asked for first."""
    sections = []
    for place, part in enumerate(results.parts):
        of_part = results.of_part(part)
        name = f": label {part.name}" if part.name else ""
        content = [
            summary_section(of_part, part),
            chart_section(of_part, part, prefix=f"p{place}c"),
        ]
        sections.append(_section(f"summary{place or ''}", f"Summary{name}", *content))
    if results.failed.rows:
        sections.append(_section("failed", "Cases that failed", failed_section(results)))
    links: dict[tuple[Cell, Cell], str] = {
        (case.row.get("case"), case.row.get("label")): f"worst-{place}"
        for place, case in enumerate(drawn)
    }
    return [
        *sections,
        _section("findings", "Worst misses and false positives", *findings_section(*findings)),
        _section("worst", "The worst cases", *worst_section(results, drawn)),
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
    missing = {name for part in results.parts for name in part.detected.counts.missing}
    counts = f"{plural(len(cases - failed), 'case')} scored"
    counts += _named("failed", failed - missing) + _named("missing", missing)
    if warned:
        counts += f", {len(warned)} with a warning"
    ways = [("summary", "Summary"), ("findings", "Misses and false positives")]
    ways += [("worst", "Worst cases"), ("cases", "Cases")]
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


def _named(what: str, cases: set[str], most: int = 5) -> str:
    """`, 2 failed (a, b)`; no names where there is none, and not all of very many."""
    names = ", ".join(sorted(cases)[:most]) + (", …" if len(cases) > most else "")
    if not cases and what != "failed":
        return ""
    return f", {len(cases)} {what}{f' ({names})' if names else ''}"


def _resource(name: str) -> str:
    return resources.files("softoverlap.app.report").joinpath(name).read_text(encoding="utf-8")


def _nothing(_: str) -> None:
    """Nobody wants to know."""
