"""The first screen of the page: how good, on how much, how sure, by which rule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from softoverlap.app.columns import CASES, find_column
from softoverlap.app.figures import (
    FEW_PATIENTS,
    FEWEST_PATIENTS,
    POINT_FIGURES,
    between,
    number,
    plural,
    rounded,
)
from softoverlap.app.report._html import Markup, element, joined, table
from softoverlap.app.report._operating import Detected, Estimate, OperatingPoint
from softoverlap.app.report._results import Results, text
from softoverlap.app.report._summary import Detection, Part

_OF_MASKS = ("soft_dice", "hard_dice", "lesion_dice", "volume_bias_ml")
_OF_BOXES = ("lesion_recall", "false_positives")


def headline(results: Results, part: Part) -> Markup:
    """Figures with their intervals, and the sentences without which they say little."""
    detected, percent = part.detected, f"{100 * results.confidence:g} % interval"
    pieces: list[object] = [element("p", _basis(results, part), class_="lead")]
    masks = {text(row, "kind") for row in results.scored.rows} == {"masks"}
    means = _OF_MASKS if masks else () if detected.point else _OF_BOXES
    if tiles := _mean_tiles(part, means, percent):
        pieces += [element("h3", "Averaged over cases"), _tiles(tiles)]
    if detected.point is not None:
        pieces.append(element("h3", "Lesions of all scans pooled"))
        pieces.append(_tiles(_point_tiles(detected, detected.point, percent)))
    sentences = [element("p", words) for words in _rule_words(detected)]
    if detected.point is not None and detected.point.optimistic:
        sentences.append(element("p", *_optimism(detected.point), class_="caution"))
    if part.detection is not None:
        sentences.append(element("p", _curve_words(part.detection, percent)))
    sentences += [element("p", words) for words in _apart(detected)]
    sizes = [_size_table(detected)] if detected.by_size else []
    pieces.append(element("div", element("div", *sentences), *sizes, class_="beside"))
    return joined(pieces)


def training_words(training: Mapping[str, Any]) -> str:
    """How far the detector was trained, and whether time cut that short; empty if not told."""
    steps, planned = training.get("steps"), training.get("planned")
    if not isinstance(steps, int):
        return ""
    if not isinstance(planned, int) or steps >= planned:
        return f"The detector was trained for {plural(steps, 'step')}."
    why = {"minutes": "time cut the training short"}.get(
        str(training.get("stopped_by")), "the training was cut short"
    )
    return f"The detector was trained for {steps} of {planned} steps: {why}."


def baseline_table(training: Mapping[str, Any], part: Part) -> Markup:
    """The figures of the detector beside those of what it is compared with; empty without any."""
    baselines = training.get("baselines") or {}
    trained = {name: one.value for name, one in _figures(part).items()}
    if part.detection is not None:
        iou = part.detection.ap_iou
        trained |= {"cpm": part.detection.froc.cpm}
        trained |= {f"ap@{0.1 if math.isnan(iou) else iou:g}": part.detection.average_precision}
    rows = {"trained detector": trained}
    rows |= {name: _figures_of_baseline(values) for name, values in baselines.items()}
    titles = {**POINT_FIGURES, "cpm": "CPM", "ap@0.1": "AP at box IoU 0.1"}
    shown = [key for key in titles if any(key in rows[name] for name in baselines)]
    if not shown:
        return Markup("")
    cells = ((titles[key], *(number(row.get(key)) for row in rows.values())) for key in shown)
    return table(("", *rows), cells, numbers=len(rows))


def _figures_of_baseline(values: Mapping[str, Any]) -> dict[str, float | None]:
    """Those of the curve, and those at the baseline's own operating point."""
    point = values.get("point") or {}
    known = {name: values[name] for name in ("cpm", "ap@0.1") if name in values}
    return known | {name: point[name] for name in POINT_FIGURES if name in point}


def _figures(part: Part) -> Mapping[str, Estimate]:
    return {} if part.detected.point is None else part.detected.point.figures


def _basis(results: Results, part: Part) -> str:
    """On how many patients, scans and lesions."""
    counts = part.detected.counts
    scans = len(results.scored.rows) if counts.scans is None else counts.scans
    known = [(counts.patients, "patient"), (scans, "scan"), (counts.lesions, "lesion")]
    parts = [plural(count, noun) for count, noun in known if count is not None]
    words = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    few = scans if counts.patients is None else counts.patients
    whose = "cases" if counts.patients is None else "patients"
    sure = f"Intervals are by bootstrap over {whose}"
    ends = [one.interval for one in _figures(part).values()]
    ends += [metric.mean_interval for metric in part.metrics.values()]
    if few < FEWEST_PATIENTS and all(between(pair) == "–" for pair in ends):
        sure = f"Fewer than {FEWEST_PATIENTS} {whose} are too few for intervals"
    elif few < FEW_PATIENTS:
        sure += f": of fewer than {FEW_PATIENTS}, they are rough"
    return f"On {words}. {sure}."


def _mean_tiles(part: Part, names: tuple[str, ...], percent: str) -> list[Markup]:
    tiles = []
    for name in names:
        metric = part.metrics.get(name)
        if metric is not None:
            one = Estimate(metric.mean, metric.mean_interval)
            tiles.append(_tile(find_column(CASES, name).heading, one, percent))
    return tiles


def _point_tiles(detected: Detected, point: OperatingPoint, percent: str) -> list[Markup]:
    """A tile a figure, with the same figure by centre below it."""
    tiles = []
    for name, title in POINT_FIGURES.items():
        one = point.figures[name]
        second = detected.by_centre.get(name)
        words = "" if second is None else f"by centre {number(second)}"
        tiles.append(_tile(title, one, percent, words))
    return tiles


def _tile(title: str, one: Estimate, percent: str, second: str = "") -> Markup:
    pieces = [element("h4", title), element("p", rounded(one.value, one.interval), class_="big")]
    ends = between(one.interval)
    pieces.append(element("p", f"{percent} {ends}" if ends != "–" else "no interval"))
    if second:
        pieces.append(element("p", second, class_="second"))
    return element("div", *pieces, class_="tile")


def _tiles(tiles: list[Markup]) -> Markup:
    return element("div", *tiles, class_="tiles")


def _rule_words(detected: Detected) -> Iterator[str]:
    """What a hit is, what the second figure is, and which boxes count."""
    if detected.hit:
        yield with_stop(f"A hit: {detected.hit}")
    if detected.centre_words and detected.by_centre:
        yield with_stop(f"By centre: {detected.centre_words}")
    if (point := detected.point) is not None:
        words = _which_count(point.threshold)
        yield with_stop(f"{words}{f': {point.words}' if point.words else ''}")
    if detected.no_curve:
        yield with_stop(detected.no_curve)


def _which_count(threshold: float) -> str:
    if math.isnan(threshold):
        return "Every box or predicted lesion counts, of any score"
    if math.isinf(threshold):
        return "No box or predicted lesion counts"
    return f"Scores of at least {number(threshold)} count"


def _optimism(point: OperatingPoint) -> tuple[Markup, str]:
    which = "" if math.isinf(point.threshold) else f"{number(point.threshold)} "
    words = f"the threshold {which}was chosen on these very cases."
    return element("strong", "Optimistic: "), words


def _curve_words(detection: Detection, percent: str) -> str:
    froc, ends = detection.froc, detection.cpm_interval
    cpm = f"CPM {rounded(froc.cpm, ends)}"
    if ends is not None:
        cpm += f" ({percent} {between(ends)})"
    iou = "" if math.isnan(detection.ap_iou) else f" (box IoU {detection.ap_iou:g})"
    precision = f"average precision{iou} {number(detection.average_precision)}"
    return f"Over all scores: {cpm}; {precision}; {plural(froc.boxes, 'prediction')}."


def _apart(detected: Detected) -> Iterator[str]:
    """Lesions that are not in the figures, and those that no box can hit."""
    large, ignored, beyond = detected.too_large, detected.ignored, detected.unreachable
    if count := int(large.get("lesions", 0)):
        covered = large.get("volume_covered", math.nan)
        words = f"{_are(count, 'lesion')} too large for a box (an edge above "
        words += f"{number(large.get('max_lesion_mm'))} mm) and not in these figures."
        if math.isfinite(covered):
            words += f" Found boxes cover {100 * covered:.0f} % of the volume."
        boxes = int(large.get("boxes", 0))
        yield f"{words} {_are(boxes, 'box')} on such lesions, neither hit nor false."
    if count := int(ignored.get("lesions", 0)):
        found = int(ignored.get("found", 0))
        yield (
            f"{_are(count, 'lesion')} ignored, {found} of them found: neither hit, false nor "
            "missed."
        )
    if count := int(beyond.get("own_box", 0)):
        yield f"{_are(count, 'lesion')} beyond the rule: not even the tight box would be a hit."
    anchor = beyond.get("smallest_anchor", math.nan)
    if math.isfinite(anchor) and anchor:
        yield (
            f"{_are(int(anchor), 'lesion')} too small for the detector: no box of its smallest "
            "anchor would be a hit."
        )


def _size_table(detected: Detected) -> Markup:
    head = ["Lesion size", "Lesions", "Sensitivity", "By centre"]
    rows = [
        [one.name, one.lesions, number(one.sensitivity, 2), number(one.by_centre, 2)]
        for one in detected.by_size
    ]
    if not detected.centre_words:  # between masks
        head, rows = head[:-1], [row[:-1] for row in rows]
    return table(head, rows, numbers=len(head) - 1)


def _are(count: int, noun: str) -> str:
    """`1 lesion is`, `2 lesions are`."""
    if count == 1:
        return f"1 {noun} is"
    return f"{count} {noun}{'es' if noun.endswith('x') else 's'} are"


def with_stop(words: str) -> str:
    """A sentence of the summary with its full stop, which it may have already."""
    return f"{words.strip().rstrip('.')}."
