"""The page's charts. Where one cannot be drawn, a sentence says so in place of an empty chart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from softoverlap.app.columns import CASES, LESIONS, RANKED_BY, Column, find_column
from softoverlap.app.figures import between, number, plural, rounded
from softoverlap.app.report._charts import (
    Chart,
    Point,
    agreement_chart,
    distribution_chart,
    froc_chart,
    point_chart,
    reliability_chart,
    scatter_chart,
)
from softoverlap.app.report._headline import with_stop
from softoverlap.app.report._html import Markup, element, joined
from softoverlap.app.report._results import Results, Row, meaningful, text
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


def chart_section(results: Results, part: Part, prefix: str) -> Markup:
    """All charts of a part, and a sentence for each that cannot be drawn."""
    figures, left_out = [], []
    for place, drawing in enumerate(_drawings(results, part)):
        if drawing.draw is None:
            left_out.append(drawing)
        else:
            figures.append(_figure(drawing, drawing.draw(), name=f"{prefix}{place}"))
    return joined([element("div", *figures, class_="charts"), _left_out(left_out)])


def _left_out(drawings: Sequence[Drawing]) -> Markup:
    """The names of what is not drawn, and behind them the reasons."""
    if not drawings:
        return Markup("")
    names = ", ".join(drawing.title for drawing in drawings)
    reasons = (missing(f"{drawing.title}: {drawing.words}") for drawing in drawings)
    return element("details", element("summary", f"Not shown: {names}"), *reasons)


def _figure(drawing: Drawing, chart: Chart, *, name: str) -> Markup:
    label = f"{drawing.title}. {drawing.words}"
    svg = Markup(inline_svg(chart.figure, name=name, label=label, tips=chart.tips))
    caption = element("figcaption", drawing.words)
    return element("figure", element("h3", drawing.title), svg, caption, class_="chart")


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
        for name in meaningful(results, CASES, "chart")
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
    if score.name not in meaningful(results, LESIONS, "table"):
        return Drawing(title, "The best box falls short of a Dice of 1 with a lesion's mask.", None)
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
    limits = ((figures.lower, figures.lower_interval), (figures.upper, figures.upper_interval))
    lower, upper = (rounded(value, ends) for value, ends in limits)
    words = (
        f"Soft volumes of {plural(figures.n, 'case')}: bias "
        f"{rounded(figures.mean_difference, figures.mean_interval)} ml "
        f"({between(figures.mean_interval)}), limits of agreement {lower} to {upper} ml, "
        f"concordance {number(figures.concordance)}. Bands are {100 * results.confidence:g} % "
        "intervals by the normal model of Bland and Altman; those of the summary are by bootstrap."
    )
    return Drawing(title, words, lambda: agreement_chart(points, figures))


def _froc(results: Results, part: Part) -> Drawing:
    detection, point = part.detection, part.detected.point
    if detection is None:
        why = part.detected.no_curve or "The predictions have no scores to rank them by."
        axes = ("fps_per_scan", "sensitivity")
        if point is None or any(math.isnan(point.figures[name].value) for name in axes):
            return Drawing("FROC", with_stop(why), None)
        words = "Sensitivity and false positives a scan; bars are bootstrap intervals."
        return Drawing(
            "In place of FROC", f"{with_stop(why)} {words}", lambda: point_chart(point.figures)
        )
    if not detection.froc.lesions:
        return Drawing("FROC", "There is no lesion to find.", None)
    kinds = {text(row, "kind") for row in results.scored.rows}
    name = "predicted lesions" if kinds <= {"masks", "masks in boxes"} else "all boxes"
    figures = None if point is None else point.figures
    words = " ".join(_froc_words(results, detection))
    if figures is not None:
        words += " The diamond is the operating point."
    return Drawing("FROC", words, lambda: froc_chart(detection, name, figures))


def _froc_words(results: Results, detection: Detection) -> Iterator[str]:
    """The readings of the curve, and what is to be known of them."""
    froc = detection.froc
    readings = ", ".join(
        f"{number(height)} at {rate:g}"
        for rate, height in zip(froc.fp_rates, froc.sensitivity, strict=True)
    )
    yield f"Sensitivity by false positives per scan: {readings}."
    if detection.coarse_rates:
        rates = ", ".join(f"{rate:g}" for rate in detection.coarse_rates)
        yield (
            f"Hollow marks (at {rates}) stand for less than one false positive in all "
            f"{plural(froc.scans, 'scan')}: read them with care."
        )
    if any(share < 1 for _, (share,) in results.lesions.numbers("existence")):
        yield "Each lesion counts by the share of raters that marked it."
    if detection.sensitivity_interval is not None:
        yield "Bars are bootstrap intervals."


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
