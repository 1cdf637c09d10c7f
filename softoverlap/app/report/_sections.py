"""The page's sections. Where a part is missing, a sentence says so in place of an empty chart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from softoverlap.app.columns import CASES, LESIONS, RANKED_BY, Column, find_column, shown_in
from softoverlap.app.report._charts import (
    Chart,
    Point,
    agreement_chart,
    distribution_chart,
    froc_chart,
    reliability_chart,
    scatter_chart,
)
from softoverlap.app.report._html import Markup, element, interval, joined, number, plural, table
from softoverlap.app.report._results import Results, Row, text
from softoverlap.app.report._summary import Detection, Part
from softoverlap.app.report._svg import inline_svg
from softoverlap.app.report._tables import missing

_SCORES = (-0.03, 1.03)
_NO_VOLUMES = "Volumes are known only where masks are compared with masks."


@dataclass(frozen=True)
class Drawing:
    """A chart of the page: its title, its words, and how it is drawn; None says what is missing."""

    title: str
    words: str
    draw: Callable[[], Chart] | None


def summary_section(results: Results, part: Part) -> Markup:
    """Means and medians with their intervals; of what is pooled, one line each."""
    percent = f"{100 * results.confidence:g} % interval"
    head = ("", "Mean", percent, "Median", percent, "SD", "Cases")
    shown = [name for name in shown_in(CASES, "summary") if name in part.metrics]
    rest = [name for name in part.metrics if name not in shown and name != "label"]
    pieces: list[object] = []
    if shown:
        pieces.append(table(head, (_metric_row(part, name) for name in shown), numbers=6))
    else:
        pieces.append(missing("No scores: no case could be scored."))
    if part.empty:
        pieces.append(element("p", _empty_words(part.empty)))
    if part.detection is not None:
        pieces.append(_detection_words(part.detection, percent))
    if rest:
        more = table(head, (_metric_row(part, name) for name in rest), numbers=6)
        summary = element("summary", plural(len(rest), "more column"))
        pieces.append(element("details", summary, more))
    return joined(pieces)


def chart_section(results: Results, part: Part, prefix: str) -> Markup:
    """All charts of a part, and a sentence for each that cannot be drawn."""
    figures, sentences = [], []
    for place, drawing in enumerate(_drawings(results, part)):
        if drawing.draw is None:
            sentences.append(missing(f"Not shown: {drawing.title}. {drawing.words}"))
        else:
            figures.append(_figure(drawing, drawing.draw(), name=f"{prefix}{place}"))
    return joined([element("div", *figures, class_="charts"), *sentences])


def failed_section(results: Results) -> Markup:
    """Every case that could not be scored, with its error."""
    rows = [(text(row, "case"), text(row, "error")) for row in results.failed.rows]
    return table(("Case", "Error"), rows)


def settings_section(results: Results) -> Markup:
    """How the cases were scored."""
    rows = [
        (name, (", ".join(map(str, value)) or "none") if isinstance(value, list) else value)
        for name, value in results.settings.items()
    ]
    version = f"softoverlap {results.version}" if results.version else "softoverlap"
    return joined([element("p", f"Scored with {version}."), table(("Setting", "Value"), rows)])


def _figure(drawing: Drawing, chart: Chart, *, name: str) -> Markup:
    label = f"{drawing.title}. {drawing.words}"
    svg = Markup(inline_svg(chart.figure, name=name, label=label, tips=chart.tips))
    caption = element("figcaption", drawing.words)
    return element("figure", element("h3", drawing.title), svg, caption, class_="chart")


def _metric_row(part: Part, name: str) -> tuple[object, ...]:
    metric, column = part.metrics[name], find_column(CASES, name)
    return (
        element("span", column.heading, title=f"{name}: {column.explanation}".rstrip(": ")),
        number(metric.mean),
        interval(metric.mean_interval),
        number(metric.median),
        interval(metric.median_interval),
        number(metric.sd),
        metric.n,
    )


def _empty_words(count: int) -> str:
    """How many cases score 1 because there is nothing in either mask."""
    whose = "its" if count == 1 else "their"
    return (
        f"In {plural(count, 'case')} both truth and prediction are empty; {whose} overlaps count "
        "as 1."
    )


def _detection_words(detection: Detection, percent: str) -> Markup:
    froc = detection.froc
    cpm = f"CPM {number(froc.cpm)}"
    if detection.cpm_interval is not None:
        cpm += f" ({percent} {interval(detection.cpm_interval)})"
    precision = f"average precision {number(detection.average_precision)}"
    places = f"{plural(froc.lesions, 'lesion')} in {plural(froc.scans, 'scan')}"
    return element("p", f"{cpm}, {precision}: {plural(froc.boxes, 'prediction')}, {places}.")


def _drawings(results: Results, part: Part) -> Iterator[Drawing]:
    yield _distributions(results)
    yield _cases_by_volume(results)
    yield _lesions_by_volume(results)
    yield _agreement(results, part)
    yield _froc(results, part)
    yield _reliability(part)


def _distributions(results: Results) -> Drawing:
    columns = {
        find_column(CASES, name).heading: [(value, text(row, "case")) for row, (value,) in scores]
        for name in shown_in(CASES, "chart")
        if (scores := results.scored.numbers(name))
    }
    if not columns:
        return Drawing("Distribution of scores", "No case has a score.", None)
    words = (
        "One point per case. The bar spans the middle half of the cases, its mark is the median, "
        "and the line runs from the lowest score to the highest."
    )
    return Drawing("Distribution of scores", words, lambda: distribution_chart(columns))


def _cases_by_volume(results: Results) -> Drawing:
    title = "Score against volume"
    scored = results.scored
    volume = find_column(CASES, "truth_volume_ml")
    name = next((name for name in RANKED_BY if scored.numbers(name, volume.name)), None)
    if name is None:
        return Drawing(title, _NO_VOLUMES, None)
    score = find_column(CASES, name)
    rows = scored.numbers(volume.name, name)
    points = [_point(row, x, y, volume, score) for row, (x, y) in rows if x > 0]
    if not points:
        return Drawing(title, "All true volumes are zero.", None)
    words = f"{score.title} of each case against its true volume."
    if len(rows) > len(points):
        words += f" Not shown: {plural(len(rows) - len(points), 'case')} with an empty truth."
    return Drawing(title, words, _scatter({"cases": points}, volume, score))


def _lesions_by_volume(results: Results) -> Drawing:
    title = "Lesions against volume"
    groups: dict[str, list[Point]] = {"found": [], "missed": []}
    volume, score = (find_column(LESIONS, name) for name in ("volume_mm3", "soft_dice"))
    for row, (x, y) in results.lesions.numbers(volume.name, score.name):
        if x > 0:
            kind = "missed" if text(row, "detected") == "False" else "found"
            groups[kind].append(_point(row, x, y, volume, score))
    shown = {name: group for name, group in groups.items() if group}
    if not shown:
        return Drawing(title, "No lesion has a known volume.", None)
    counts = ", ".join(f"{len(group)} {name}" for name, group in groups.items())
    words = f"{score.title} of each true lesion against its volume: {counts}."
    return Drawing(title, words, _scatter(shown, volume, score))


def _agreement(results: Results, part: Part) -> Drawing:
    title = "Agreement of volumes (Bland–Altman)"
    figures = part.agreement
    volumes = results.scored.numbers("pred_volume_ml", "truth_volume_ml")
    if figures is None or not volumes:
        return Drawing(title, _NO_VOLUMES, None)
    points = [
        Point(
            (pred + truth) / 2,
            pred - truth,
            f"{text(row, 'case')}: predicted {pred:.4g} ml, true {truth:.4g} ml",
        )
        for row, (pred, truth) in volumes
    ]
    words = (
        f"Soft volumes of {plural(figures.n, 'case')}: bias {number(figures.mean_difference)} ml "
        f"({interval(figures.mean_interval)}), limits of agreement "
        f"{interval((figures.lower, figures.upper))} ml, concordance "
        f"{number(figures.concordance)}. Bands are {100 * results.confidence:g} % intervals "
        "by the normal model of Bland and Altman; those of the summary are by bootstrap."
    )
    return Drawing(title, words, lambda: agreement_chart(points, figures))


_HITS = {
    "masks": (
        "A hit is a predicted lesion that shares a voxel with a true one; it may find several."
    ),
    "boxes": "A hit is a box IoU of at least {}.",
    "boxes in masks": "A hit is a soft IoU of box and mask of at least {}.",
    "masks in boxes": "A hit is a soft IoU of mask and box of at least {}.",
}


def _froc(results: Results, part: Part) -> Drawing:
    title = "FROC"
    detection = part.detection
    if detection is None:
        return Drawing(title, "The predictions have no scores to rank them by.", None)
    froc = detection.froc
    if not froc.lesions:
        return Drawing(title, "There is no lesion to find.", None)
    readings = ", ".join(
        f"{number(height, 3)} at {rate:g}"
        for rate, height in zip(froc.fp_rates, froc.sensitivity, strict=True)
    )
    words = f"Sensitivity by false positives per scan: {readings}."
    kinds = {text(row, "kind") for row in results.scored.rows}
    name = "predicted lesions" if kinds <= {"masks", "masks in boxes"} else "all boxes"
    if len(kinds) == 1 and (rule := _HITS.get(kinds.pop())):
        words += " " + rule.format(results.settings.get("hit_iou"))
    if any(share < 1 for _, (share,) in results.lesions.numbers("existence")):
        words += " Each lesion counts by the share of raters that marked it."
    if detection.sensitivity_interval is not None:
        words += " Bars are bootstrap intervals over scans."
    return Drawing(title, words, lambda: froc_chart(detection, name))


def _reliability(part: Part) -> Drawing:
    curve = part.reliability
    if curve is None or not any(map(math.isfinite, curve.predicted)):
        words = "Calibration is known only where masks are compared with masks and mark something."
        return Drawing("Calibration", words, None)
    words = (
        "Mean truth at each predicted probability, near the lesions of all cases; the dotted line "
        f"is perfect calibration. The calibration error of all voxels together is "
        f"{number(curve.error)}; that of the summary is the mean over cases."
    )
    return Drawing("Calibration", words, lambda: reliability_chart(curve))


def _point(row: Row, x: float, y: float, volume: Column, score: Column) -> Point:
    lesion = row.get("lesion")
    place = f", lesion {lesion:g}" if isinstance(lesion, float) else ""
    words = f"{score.title} {y:.4g}, {x:.4g} {volume.unit}"
    return Point(x, y, f"{text(row, 'case')}{place}: {words}")


def _scatter(
    groups: Mapping[str, Sequence[Point]], volume: Column, score: Column
) -> Callable[[], Chart]:
    """How scores are drawn against volumes."""
    return lambda: scatter_chart(groups, x=volume.heading, y=score.heading, limits=_SCORES)
