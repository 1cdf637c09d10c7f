"""Detection metrics the slow way: a box at a time, a threshold at a time, over plain lists."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial

from tests.support.reference import reference_box_iou


def reference_outcomes(
    prediction, target, threshold, *, overlap=None, sizes=(0, math.inf), by_existence=False
):
    """For each box (score, label, outcome, lesion), by descending score.

    A lesion outside `sizes` is ignored, and so are a box that takes it and a box of such a size
    that takes nothing (COCO).
    """
    low, high = sizes
    scores, taken, outcomes = prediction["label_scores"].tolist(), set(), []
    for box in sorted(range(len(scores)), key=lambda i: -scores[i]):
        hits = {}
        for lesion in range(len(target["label"])):
            absent = by_existence and target["existence"][lesion] == 0
            if target["label"][lesion] == prediction["label"][box] and not absent:
                if overlap is None:
                    pair = prediction["box"][box].tolist(), target["box"][lesion].tolist()
                    score = reference_box_iou(*pair)
                else:
                    score = overlap(box, lesion)
                if score >= threshold:
                    hits[lesion] = score
        free = {lesion: score for lesion, score in hits.items() if lesion not in taken}
        counting = {
            lesion: score
            for lesion, score in free.items()
            if low <= reference_volume(target["box"][lesion].tolist()) < high
        }
        choice = counting or free
        best = max(choice, key=lambda lesion, choice=choice: choice[lesion]) if choice else None
        if choice:
            taken.add(best)
            outcome = "true" if counting else "ignored"
        elif not low <= reference_volume(prediction["box"][box].tolist()) < high:
            outcome = "ignored"
        else:
            outcome = "duplicate" if hits else "false"
        outcomes.append((scores[box], int(prediction["label"][box]), outcome, best))
    return outcomes


def reference_volume(box):
    half = len(box) // 2
    return math.prod(high - low for low, high in zip(box[:half], box[half:], strict=True))


def reference_froc(predictions, targets, threshold, rates, *, weigh=None, overlap=None):
    """For each rate, the best sensitivity of all score thresholds that keep below it.

    `weigh(scan, lesion)` is what a lesion counts; without, each counts 1. `overlap(scan, box,
    lesion)` says what hits; without, it is the IoU.
    """
    worth = weigh or (lambda scan, lesion: 1.0)
    pooled = [
        (score, outcome, 0.0 if lesion is None else worth(scan, lesion))
        for scan, (prediction, target) in enumerate(zip(predictions, targets, strict=True))
        for score, _, outcome, lesion in reference_outcomes(
            prediction,
            target,
            threshold,
            by_existence=weigh is not None,
            overlap=overlap and partial(overlap, scan),
        )
    ]
    total = sum(
        worth(scan, lesion)
        for scan, target in enumerate(targets)
        for lesion in range(len(target["label"]))
    )
    if total == 0:
        return [math.nan] * len(rates)
    best = [0.0] * len(rates)
    for cut in {score for score, _, _ in pooled}:
        kept = [row for row in pooled if row[0] >= cut]
        false = sum(outcome == "false" for _, outcome, _ in kept)
        reached = sum(value for _, outcome, value in kept if outcome == "true")
        for number, rate in enumerate(rates):
            if false / len(predictions) <= rate:
                best[number] = max(best[number], reached / total)
    return best


def reference_ap(predictions, targets, threshold, label, *, sizes=(0, math.inf)):
    """Integrate the best precision at or above each recall, k/n for k = 1..n; None for n = 0."""
    pooled = [
        (score, outcome)
        for prediction, target in zip(predictions, targets, strict=True)
        for score, own, outcome, _ in reference_outcomes(prediction, target, threshold, sizes=sizes)
        if own == label and outcome != "ignored"
    ]
    total = reference_count(targets, label, sizes)
    if not total:
        return None
    points = []
    for cut in {score for score, _ in pooled}:
        kept = [outcome for score, outcome in pooled if score >= cut]
        points.append((kept.count("true"), kept.count("true") / len(kept)))
    wanted = range(1, total + 1)
    return sum(max([p for hit, p in points if hit >= k], default=0.0) for k in wanted) / total


def reference_recall(predictions, targets, threshold, label, limit, *, sizes=(0, math.inf)):
    """The share of a class's lesions that the best boxes of each scan find; None for no lesion."""
    hits = 0
    for prediction, target in zip(predictions, targets, strict=True):
        rows = reference_outcomes(prediction, target, threshold, sizes=sizes)
        own = [outcome for _, one, outcome, _ in rows if one == label]
        hits += own[:limit].count("true")
    total = reference_count(targets, label, sizes)
    return hits / total if total else None


def reference_count(targets, label, sizes):
    low, high = sizes
    return sum(
        int(one == label) and low <= reference_volume(box) < high
        for target in targets
        for one, box in zip(target["label"].tolist(), target["box"].tolist(), strict=True)
    )


def reference_ranks(values):
    """Ranks from 1, equal values sharing their mean."""
    return [
        sum(other < value for other in values) + (1 + sum(other == value for other in values)) / 2
        for value in values
    ]


def reference_spearman(a, b):
    """Pearson's correlation of the ranks."""
    a, b = reference_ranks(a), reference_ranks(b)
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    shared = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    spread_a = sum((x - mean_a) ** 2 for x in a)
    spread_b = sum((y - mean_b) ** 2 for y in b)
    return shared / math.sqrt(spread_a * spread_b)


def reference_kendall(a, b):
    """τ-b: pairs in order less pairs out of order, over those tied on neither side."""
    order = tied_a = tied_b = pairs = 0
    for i in range(len(a)):
        for j in range(i):
            pairs += 1
            first, second = (a[i] > a[j]) - (a[i] < a[j]), (b[i] > b[j]) - (b[i] < b[j])
            order += first * second
            tied_a += first == 0
            tied_b += second == 0
    return order / math.sqrt((pairs - tied_a) * (pairs - tied_b))


def reference_operating_point(scans, at):
    """The figures at a threshold, or at the one that a rule chooses; `scans` are single Outcomes.

    The largest F1 is sought in fractions, where equal is equal.
    """

    def exact(value):
        return Fraction(value).limit_denominator(1000)

    rows = [
        (score, outcome, exact(scan.existence[lesion].item()) if outcome == 1 else 0)
        for scan in scans
        for score, outcome, lesion in zip(
            scan.scores.tolist(),
            scan.outcome[:, 0, 0].tolist(),
            scan.lesion[:, 0, 0].tolist(),
            strict=True,
        )
    ]
    existence = [exact(value) for scan in scans for value in scan.existence.tolist()]
    total, lesions = sum(existence), sum(value > 0 for value in existence)

    def figures(threshold):
        kept = [row for row in rows if row[0] >= threshold]
        hits, false = (sum(row[1] == kind for row in kept) for kind in (1, -1))
        sensitivity = sum(row[2] for row in kept) / total if total else None
        precision = Fraction(hits, hits + false) if hits + false else None
        f1 = 0 if total or hits + false else None
        if hits:
            f1 = 2 / (1 / sensitivity + 1 / precision)
        return {
            "threshold": threshold, "sensitivity": sensitivity, "precision": precision, "f1": f1,
            "fps_per_scan": Fraction(false, len(scans)), "hits": hits, "false_positives": false,
            "lesions": lesions, "scans": len(scans),
        }  # fmt: skip

    steps = [math.inf, *sorted({row[0] for row in rows}, reverse=True)]
    if at == "f1":
        chosen = max((figures(step) for step in steps), key=lambda values: values["f1"] or 0)
    elif isinstance(at, str):
        within = [
            values for values in map(figures, steps) if values["fps_per_scan"] <= float(at[3:])
        ]
        chosen = within[-1]
    else:
        chosen = figures(-math.inf if at is None else at)
    return {name: math.nan if v is None else float(v) for name, v in chosen.items()}
