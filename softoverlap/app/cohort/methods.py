"""The results for a paper: a paragraph for its methods, and a table in LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from softoverlap.app.columns import CASES, find_column, shown_in
from softoverlap.app.figures import (
    FEWEST_PATIENTS,
    POINT_FIGURES,
    between,
    counts_none,
    number,
    plural,
    rounded,
)

_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "−": "$-$", "–": "--", "³": "$^3$", "²": "$^2$", "≥": r"$\geq$", "µ": r"$\mu$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip


def methods_text(summary: Mapping[str, Any]) -> str:
    r"""What was scored, by which rule and at which threshold, for a methods section.

    Args:
        summary: As `summary.json` has it; what it does not tell is left out.

    Returns:
        A paragraph for each label, or one where there are no labels.

    Examples:
        >>> methods_text({"version": "1.0", "n": 4})
        'Scores were computed with softoverlap 1.0. 4 scans were scored.\n'
    """
    paragraphs = [
        " ".join(_sentences(summary, part, label)) for label, part in _parts(summary).items()
    ]
    return "\n\n".join(paragraphs) + "\n"


def latex_table(summary: Mapping[str, Any]) -> str:
    r"""The headline figures and the means over cases, each with its interval, as a `tabular`.

    Args:
        summary: As `summary.json` has it.

    Returns:
        LaTeX that needs no package.

    Examples:
        >>> metric = {"mean": 0.5123, "mean_interval": [0.41, 0.62]}
        >>> print(latex_table({"metrics": {"soft_dice": metric}}))
        \begin{tabular}{lrr}
        \hline
        Measure & Estimate & 95\,\% interval \\
        \hline
        Soft Dice (mean) & 0.51 & 0.41 to 0.62 \\
        \hline
        \end{tabular}
        <BLANKLINE>
    """
    percent = _percent(summary).removesuffix(" %")
    lines = [
        r"\begin{tabular}{lrr}", r"\hline",
        rf"Measure & Estimate & {percent}\,\% interval \\", r"\hline",
    ]  # fmt: skip
    for label, part in _parts(summary).items():
        if label:
            lines.append(rf"\multicolumn{{3}}{{l}}{{Label {_escaped(label)}}} \\")
        lines += [rf"{' & '.join(map(_escaped, row))} \\" for row in _rows(part)]
    return "\n".join([*lines, r"\hline", r"\end{tabular}", ""])


def _parts(summary: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The summary of each label, or the whole under an empty name."""
    return summary.get("labels") or {"": summary}


def _sentences(summary: Mapping[str, Any], part: Mapping[str, Any], label: str) -> Iterator[str]:
    made = f"softoverlap {summary['version']}" if summary.get("version") else "softoverlap"
    yield f"Scores{f' of label {label}' if label else ''} were computed with {made}."
    yield from _basis(summary, part)
    if words := (part.get("hit") or {}).get("words"):
        yield _sentence(f"A prediction hit a lesion by this rule: {words}")
    yield from _apart(part)
    yield from _point_sentences(summary, part)
    yield from _curve(summary, part)
    if "bootstrap" in summary:
        yield _intervals(summary, part)


def _basis(summary: Mapping[str, Any], part: Mapping[str, Any]) -> Iterator[str]:
    """On how much the figures stand, and what is not among it."""
    counts = part.get("counts") or {}
    scans = counts.get("scans", summary.get("n"))
    known = [
        (scans, "scan"),
        (counts.get("patients"), "patient"),
        (counts.get("lesions"), "lesion"),
    ]
    parts = [plural(int(count), noun) for count, noun in known if count is not None]
    if parts:
        verb = "was" if parts == ["1 scan"] else "were"
        yield f"{_listed(parts)} {verb} scored."
    missing = counts.get("missing") or []
    failed = counts.get("cases_failed", summary.get("n_failed", 0)) or 0
    if failed > len(missing):
        yield f"{plural(int(failed) - len(missing), 'case')} could not be scored."
    if missing:
        names = _listed([str(name) for name in missing])
        verb = "was" if len(missing) == 1 else "were"
        yield f"{plural(len(missing), 'scan')} {verb} missing: {names}."


def _apart(part: Mapping[str, Any]) -> Iterator[str]:
    """Lesions that are not in the figures."""
    large, ignored = part.get("too_large") or {}, part.get("ignored") or {}
    if count := large.get("lesions"):
        limit = number(large.get("max_lesion_mm"))
        yield f"{plural(count, 'lesion')} with an edge above {limit} mm did not count."
    if count := ignored.get("lesions"):
        yield f"{plural(count, 'lesion')} to be ignored did not count."


def _point_sentences(summary: Mapping[str, Any], part: Mapping[str, Any]) -> Iterator[str]:
    """The threshold, how it was chosen, and the figures there."""
    point = part.get("operating_point")
    if not point:
        return
    threshold = point.get("threshold")
    which = "No box counted" if counts_none(point) else "All predictions counted"
    if threshold is not None:
        which = f"Predictions with a score of at least {number(threshold)} counted"
    how = point.get("words")
    yield _sentence(f"{which} ({how})" if how else which)
    if point.get("optimistic") and "optimistic" not in (how or ""):
        yield "The threshold was chosen on the scored scans, so these figures are optimistic."
    figures = [
        f"{title if name == 'f1' else title.lower()} {_with_interval(summary, point, name)}"
        for name, title in POINT_FIGURES.items()
        if point.get(name) is not None
    ]
    if figures:
        yield f"Pooled over the lesions of all scans: {_listed(figures)}."
    centre = part.get("by_centre") or {}
    if centre.get("sensitivity") is not None:
        words = f" ({centre['words']})" if centre.get("words") else ""
        yield f"By centre{words}, sensitivity was {number(centre['sensitivity'])}."


def _curve(summary: Mapping[str, Any], part: Mapping[str, Any]) -> Iterator[str]:
    froc = part.get("froc") or {}
    if part.get("no_curve"):
        yield _sentence(part["no_curve"])
    if froc.get("cpm") is not None:
        ends = froc.get("cpm_interval")
        rates = _listed([f"{rate:g}" for rate in froc.get("fp_rates", ())])
        of = f" (mean sensitivity at {rates} false positives a scan)" if rates else ""
        words = f"CPM{of} was {rounded(froc['cpm'], ends)}"
        yield f"{words}{_in_brackets(summary, ends)}."
    if part.get("average_precision") is not None:
        iou = part.get("average_precision_iou")
        at = "" if iou is None else f" at a box IoU of {iou:g}"
        yield f"Average precision{at} was {number(part['average_precision'])}."


def _intervals(summary: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    bootstrap, patients = summary["bootstrap"], (part.get("counts") or {}).get("patients")
    over = "cases" if patients is None else "patients"
    few = (summary.get("n", FEWEST_PATIENTS) if patients is None else patients) < FEWEST_PATIENTS
    if few and all(ends == "–" for _, _, ends in _rows(part)):
        return f"There are no intervals, since fewer than {FEWEST_PATIENTS} {over} are too few."
    draws, pooled = bootstrap.get("resamples"), bootstrap.get("pooled_resamples")
    fewer = f", {pooled} for pooled figures" if pooled not in (None, draws) else ""
    seed = f", seed {bootstrap['seed']}" if "seed" in bootstrap else ""
    of = "" if draws is None else f" ({draws} draws{fewer}{seed})"
    return f"Intervals are {_percent(summary)} percentile bootstrap intervals over {over}{of}."


def _rows(part: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, estimate and interval of each figure."""
    point, froc = part.get("operating_point") or {}, part.get("froc") or {}
    centre, metrics = part.get("by_centre") or {}, part.get("metrics") or {}
    means = [name for name in shown_in(CASES, "summary") if _has_meaning(name, metrics)]
    iou = part.get("average_precision_iou")
    ap = "Average precision" if iou is None else f"Average precision (box IoU {iou:g})"
    rows = [
        *((title, point.get(name), point.get(f"{name}_interval"))
          for name, title in POINT_FIGURES.items()),
        *((f"{title}, by centre", centre.get(name), None)
          for name, title in POINT_FIGURES.items()),
        ("CPM", froc.get("cpm"), froc.get("cpm_interval")),
        (ap, part.get("average_precision"), None),
        *((_heading(name), metrics[name]["mean"], metrics[name]["mean_interval"])
          for name in means),
    ]  # fmt: skip
    for title, value, ends in rows:
        if value is not None:
            yield title, rounded(value, ends), between(ends)


def _heading(name: str) -> str:
    """`Volume bias (mean, ml)`."""
    column = find_column(CASES, name)
    return f"{column.title} (mean{f', {column.unit}' if column.unit else ''})"


def _has_meaning(name: str, metrics: Mapping[str, Any]) -> bool:
    """Whether there are values that a perfect prediction brings to 1: boxes in masks do not."""
    return name in metrics and ("soft_dice" in metrics or not find_column(CASES, name).of_masks)


def _with_interval(summary: Mapping[str, Any], point: Mapping[str, Any], name: str) -> str:
    ends = point.get(f"{name}_interval")
    return f"{rounded(point[name], ends)}{_in_brackets(summary, ends)}"


def _in_brackets(summary: Mapping[str, Any], ends: Any) -> str:
    words = between(ends)
    return "" if words == "–" else f" ({_percent(summary)} interval {words})"


def _percent(summary: Mapping[str, Any]) -> str:
    return f"{100 * (summary.get('bootstrap') or {}).get('confidence', 0.95):g} %"


def _listed(words: list[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _sentence(words: str) -> str:
    return f"{words.strip().rstrip('.')}."


def _escaped(words: str) -> str:
    """Text as LaTeX has it: what it reads as a command is set as it stands."""
    return re.sub("|".join(map(re.escape, _SPECIAL)), lambda sign: _SPECIAL[sign[0]], words)
