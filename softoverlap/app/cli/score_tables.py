"""The tables that `score` prints: what was found at the operating point, and means over cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from softoverlap.app.cli.console import console, plural, say
from softoverlap.app.columns import CASES, shown_in
from softoverlap.app.figures import FEW_PATIENTS, FEWEST_PATIENTS, counts_none


def print_metrics(summary: Mapping[str, Any], *, title: str = "") -> None:
    """Print what was found at the operating point, then means over cases and pooled curves."""
    _print_found(summary, title)
    percent = f"{100 * summary.get('bootstrap', {}).get('confidence', 0.95):g} % interval"
    table = Table("", "mean", percent, "median", "cases", title="means over cases")
    shown = [name for name in shown_in(CASES, "summary") if name in summary["metrics"]]
    for name in shown:
        metric = summary["metrics"][name]
        ends = _interval(metric["mean_interval"])
        numbers = (figure(metric["mean"]), ends, figure(metric["median"]), str(metric["n"]))
        table.add_row(name, *numbers)
    if table.row_count:
        _print(table)
    if empty := summary.get("n_empty"):
        say(f"{plural(empty, 'case')} with empty prediction and truth: their overlaps count as 1")
    if words := summary.get("no_curve"):
        say(words)


def _print_found(summary: Mapping[str, Any], title: str) -> None:
    """Sensitivity, precision, F1 and false positives a scan, and by which rule and score."""
    point, counts = summary.get("operating_point"), summary.get("counts", {})
    if not point:
        return
    percent = f"{100 * summary.get('bootstrap', {}).get('confidence', 0.95):g} % interval"
    head = f"{plural(counts['lesions'], 'lesion')} in {plural(counts['scans'], 'scan')}"
    head += f" of {plural(counts['patients'], 'patient')}"
    head = f"{title}: {head}" if title else head
    by_centre = summary.get("by_centre", {})
    table = Table("", "by the rule", percent, *(["by centre"] if by_centre else []), title=head)
    for name, words in _HEADLINE.items():
        ends = _interval(point.get(f"{name}_interval"))
        second = [figure(by_centre[name])] if by_centre else []
        table.add_row(words, figure(point[name]), ends, *second)
    for row in _curve_rows(summary):
        table.add_row(*row)
    _print(table)
    _print_sizes(summary.get("by_size", []))
    say(f"a hit: {summary['hit']['words']}")
    say(f"{_which_count(point)}: {point['words']}")
    for words in _left_out(summary):
        say(words)
    if counts["patients"] < FEWEST_PATIENTS:
        say(f"no intervals: fewer than {FEWEST_PATIENTS} patients are too few")
    elif counts["patients"] < FEW_PATIENTS and point.get("sensitivity_interval"):
        say(f"intervals of {plural(counts['patients'], 'patient')} are rough")


def _print_sizes(sizes: Sequence[Mapping[str, Any]]) -> None:
    """Sensitivity by size of lesions, where there is more than one size."""
    if len(sizes) < 2:
        return
    centred = any(size.get("by_centre") is not None for size in sizes)
    second = ["by centre"] if centred else []
    table = Table("volume", "lesions", "by the rule", *second, title="sensitivity by size")
    for size in sizes:
        numbers = [size["sensitivity"], *([size.get("by_centre")] if centred else [])]
        table.add_row(size["size"], str(size["lesions"]), *map(figure, numbers))
    _print(table)


def _print(table: Table) -> None:
    """A table whose columns but the first hold numbers."""
    for column in table.columns[1:]:
        column.justify = "right"
    Console(width=None if console.is_terminal else 100, highlight=False).print(table)


def _which_count(point: Mapping[str, Any]) -> str:
    if point["threshold"] is not None:
        return f"scores of at least {point['threshold']:.4g} count"
    return "no box counts" if counts_none(point) else "every prediction counts"


def _curve_rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """CPM and average precision, where there is a curve."""
    froc = summary.get("froc", {})
    if froc.get("cpm") is not None:
        yield "CPM, the mean of FROC", figure(froc["cpm"]), _interval(froc.get("cpm_interval"))
    if summary.get("average_precision") is not None:
        iou = summary.get("average_precision_iou")
        name = "average precision" if iou is None else f"AP@{iou:g}"
        yield name, figure(summary["average_precision"])


_HEADLINE = {
    "sensitivity": "sensitivity",
    "precision": "precision",
    "f1": "F1",
    "fps_per_scan": "false positives a scan",
}


def _left_out(summary: Mapping[str, Any]) -> Iterator[str]:
    """What stands apart from the headline."""
    if large := summary.get("too_large"):
        words = f"{plural(large['lesions'], 'lesion')} with an edge above "
        words += f"{large['max_lesion_mm']:g} mm left out as too large for a box"
        covered = large["volume_covered"]
        yield words if covered is None else f"{words}: {covered:.0%} of their volume covered"
    if ignored := summary.get("ignored"):
        yield f"{plural(ignored['lesions'], 'lesion')} ignored, {ignored['found']} of them found"
    beyond = summary.get("unreachable", {})
    if count := beyond.get("own_box"):
        yield f"{plural(count, 'lesion')} that not even their own box could hit by this rule"
    if count := beyond.get("smallest_anchor"):
        yield f"{plural(count, 'lesion')} that no box of the smallest anchor could hit by this rule"


_PLACES = 6


def figure(value: float | None) -> str:
    """Four digits, without the noise of sums; empty if it is not defined."""
    return "" if value is None else f"{round(value, _PLACES) + 0.0:.4g}"


def _interval(ends: Sequence[float | None] | None) -> str:
    """`0.71 to 0.83`, empty if it is not defined."""
    if ends is None or None in ends:
        return ""
    return f"{figure(ends[0])} to {figure(ends[1])}"
