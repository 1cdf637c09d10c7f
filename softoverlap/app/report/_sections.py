"""The page's sections without charts. Where a part is missing, a sentence says so."""

from __future__ import annotations

from softoverlap.app.columns import CASES, find_column
from softoverlap.app.figures import between, plural, rounded
from softoverlap.app.report._headline import baseline_table, headline, training_words
from softoverlap.app.report._html import Markup, element, joined, table
from softoverlap.app.report._results import Results, meaningful, text
from softoverlap.app.report._summary import Metric, Part
from softoverlap.app.report._tables import missing


def summary_section(results: Results, part: Part) -> Markup:
    """The headline, then means and medians of all columns with their intervals."""
    shown = [name for name in meaningful(results, CASES, "summary") if name in part.metrics]
    rest = [name for name in part.metrics if name not in shown and name != "label"]
    pieces: list[object] = [headline(results, part), *_training(results, part)]
    if shown:
        pieces += [element("h3", "Means over cases"), _means(results, part, shown)]
    else:
        pieces.append(missing("No scores: no case could be scored."))
    if part.empty:
        pieces.append(element("p", _empty_words(part.empty)))
    if rest:
        summary = element("summary", plural(len(rest), "more column"))
        pieces.append(element("details", summary, _means(results, part, rest)))
    return joined(pieces)


def failed_section(results: Results) -> Markup:
    """Every case that could not be scored, with its error."""
    rows = [(text(row, "case"), text(row, "error")) for row in results.failed.rows]
    return table(("Case", "Error"), rows)


def settings_section(results: Results) -> Markup:
    """How the cases were scored."""
    rows = [
        (name, "default" if value is None else value)
        if not isinstance(value, list)
        else (name, ", ".join(map(str, value)) or "none")
        for name, value in results.settings.items()
    ]
    version = f"softoverlap {results.version}" if results.version else "softoverlap"
    return joined([element("p", f"Scored with {version}."), table(("Setting", "Value"), rows)])


def _training(results: Results, part: Part) -> list[Markup]:
    """How far the detector was trained, and what it is compared with, where that is known."""
    words, baselines = training_words(results.training), baseline_table(results.training, part)
    pieces = [element("p", words)] if words else []
    return [*pieces, element("h3", "Beside baselines"), baselines] if baselines else pieces


def _means(results: Results, part: Part, names: list[str]) -> Markup:
    percent = f"{100 * results.confidence:g} % interval"
    head = ("", f"Mean, {percent}", f"Median, {percent}", "SD", "Cases")
    rows = (_metric_row(part.metrics[name], name) for name in names)
    return element("div", table(head, rows, numbers=4), class_="means")


def _metric_row(metric: Metric, name: str) -> tuple[object, ...]:
    column = find_column(CASES, name)
    return (
        element("span", column.heading, title=f"{name}: {column.explanation}".rstrip(": ")),
        _with_interval(metric.mean, metric.mean_interval),
        _with_interval(metric.median, metric.median_interval),
        rounded(metric.sd, metric.mean_interval),
        metric.n,
    )


def _with_interval(value: float, ends: tuple[float, float]) -> Markup:
    return joined([rounded(value, ends), " ", element("small", between(ends))])


def _empty_words(count: int) -> str:
    """How many cases score 1 because there is nothing in either mask."""
    whose = "its" if count == 1 else "their"
    return (
        f"In {plural(count, 'case')} both truth and prediction are empty; {whose} overlaps count "
        "as 1."
    )
