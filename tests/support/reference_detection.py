"""Detection metrics the slow way: a box at a time, a threshold at a time, over plain lists."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial

from hypothesis import reject

from tests.support.reference import reference_box_iou


def reference_outcomes(
    prediction, target, threshold, *, overlap=None, sizes=(0, math.inf), by_existence=False
):
    """For each box (score, label, outcome, lesion), by descending score.

    Boxes of equal score are matched together: as many hits as possible, then the highest sum of
    quality, found by trying all. A lesion outside `sizes` is ignored, and so are a box that takes
    it and a box of such a size that takes nothing (COCO). A box that takes nothing and meets one of
    the target's "ignored" lesions is ignored too.
    """
    scores, labels = prediction["label_scores"].tolist(), prediction["label"].tolist()
    fitting = [_fits(box, sizes) for box in target["box"].tolist()]
    reached = [_reached(prediction, target, box, threshold, overlap) for box in range(len(scores))]
    hits = [_counted(target, own, by_existence) for own in reached]
    taken, rows = set(), []
    for score in sorted(set(scores), reverse=True):
        group = [box for box in range(len(scores)) if scores[box] == score]
        alone = {
            box: _unmatched(prediction, target, box, reached[box], hits[box], sizes)
            for box in group
        }
        ways = list(_ways_of_a_group(group, hits, fitting, taken, alone))
        if len(group) > 1 and len({tuple(sorted(map(str, way.values()))) for way in ways}) > 1:
            reject()  # equally good matches: any of them will do
        taken |= {lesion for _, lesion in ways[0].values() if lesion is not None}
        rows += [(score, labels[box], *ways[0][box]) for box in group]
    return rows


def _reached(prediction, target, box, threshold, overlap):
    """The lesions of its label that a box hits, and how well."""
    reached = {}
    for lesion, label in enumerate(target["label"].tolist()):
        if overlap is None:
            pair = prediction["box"][box].tolist(), target["box"][lesion].tolist()
            quality = reference_box_iou(*pair)
        else:
            quality = overlap(box, lesion)
        if label == prediction["label"][box] and quality >= threshold:
            reached[lesion] = quality
    return reached


def _counted(target, reached, by_existence):
    """Those that are there, and not ignored."""
    return {
        lesion: quality
        for lesion, quality in reached.items()
        if not _is_ignored(target, lesion)
        and not (by_existence and target["existence"][lesion] == 0)
    }


def _unmatched(prediction, target, box, reached, hits, sizes):
    """What a box is that takes nothing."""
    edges = prediction["box"][box].tolist()
    met = any(
        _is_ignored(target, lesion) and (lesion in reached or reference_centred(edges, place))
        for lesion, place in enumerate(target["box"].tolist())
        if target["label"][lesion] == prediction["label"][box]
    )
    if met or not _fits(edges, sizes):
        return "ignored", None
    return "duplicate" if hits else "false", None


def _fits(box, sizes):
    return sizes[0] <= reference_volume(box) < sizes[1]


def _ways_of_a_group(group, hits, fitting, taken, alone):
    """Each best way: lesions that count first, others to the boxes that are left."""
    free = {lesion for lesion in range(len(fitting)) if lesion not in taken}
    counting = {lesion for lesion in free if fitting[lesion]}
    for first in _best_ways(group, hits, counting):
        left = [box for box in group if box not in first]
        for second in _best_ways(left, hits, free - counting):
            yield {
                **alone,
                **{box: ("ignored", lesion) for box, lesion in second.items()},
                **{box: ("true", lesion) for box, lesion in first.items()},
            }


def _best_ways(boxes, hits, free):
    """Every way of giving boxes different free lesions that is best: most, then highest sum."""
    ways = [{}]
    for box in boxes:
        ways += [
            {**way, box: lesion}
            for way in ways
            for lesion in hits[box]
            if lesion in free and lesion not in way.values()
        ]
    most = [way for way in ways if len(way) == max(map(len, ways))]
    sums = [sum(hits[box][lesion] for box, lesion in way.items()) for way in most]
    return [way for way, total in zip(most, sums, strict=True) if total >= max(sums) - 1e-9]


def reference_centred(box, lesion):
    """Whether the centre of a box lies in that of a lesion."""
    half = len(box) // 2
    centres = [(low + high) / 2 for low, high in zip(box[:half], box[half:], strict=True)]
    return all(
        low <= at < high
        for at, low, high in zip(centres, lesion[:half], lesion[half:], strict=True)
    )


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
        if not _is_ignored(target, lesion)
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
    """The share of a class's lesions that the best boxes of each scan find; None for no lesion.

    Of equal scores at the cut each counts the share that fits.
    """
    hits = 0
    for prediction, target in zip(predictions, targets, strict=True):
        rows = reference_outcomes(prediction, target, threshold, sizes=sizes)
        own = [(score, outcome) for score, one, outcome, _ in rows if one == label]
        for score, outcome in own:
            above = sum(other > score for other, _ in own)
            equal = sum(other == score for other, _ in own)
            hits += (outcome == "true") * min(1, max(0, (limit - above) / equal))
    total = reference_count(targets, label, sizes)
    return hits / total if total else None


def reference_count(targets, label, sizes):
    low, high = sizes
    return sum(
        int(one == label) and low <= reference_volume(box) < high
        for target in targets
        for lesion, (one, box) in enumerate(
            zip(target["label"].tolist(), target["box"].tolist(), strict=True)
        )
        if not _is_ignored(target, lesion)
    )


def _is_ignored(target, lesion):
    return "ignored" in target and bool(target["ignored"][lesion])


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


def reference_touching(scans, rates):
    """Between masks, at each score: a lesion is found if anything kept touches it.

    A scan is (hits, scores, existence, ignored), with a row of `hits` for each lesion. The result
    holds the points (score, hits, false, sensitivity), the readings at the rates, and the AP.
    """
    total, lesions = 0.0, 0
    for _, _, existence, ignored in scans:
        total += sum(e for e, out in zip(existence, ignored, strict=True) if not out)
        lesions += sum(not out for out in ignored)
    points, counts = [(math.inf, 0, 0, 0.0 if total else math.nan)], [0]
    for step in sorted({score for scan in scans for score in scan[1]}, reverse=True):
        true = false = count = 0
        found = 0.0
        for hits, scores, existence, ignored in scans:
            kept = [box for box, score in enumerate(scores) if score >= step]
            for box in kept:
                on = {ignored[row] for row in range(len(hits)) if hits[row][box]}
                true, false = true + (False in on), false + (not on)
            for row, touching in enumerate(hits):
                if not ignored[row] and any(touching[box] for box in kept):
                    found, count = found + existence[row], count + 1
        points.append((step, true, false, found / total if total else math.nan))
        counts.append(count)
    read = [max(p[3] for p in points if p[2] / len(scans) <= rate) for rate in rates]
    precision = [true / (true + false) if true + false else 0 for _, true, false, _ in points]
    area = sum(
        (counts[n] - counts[n - 1]) * max(precision[n:]) for n in range(1, len(points))
    )  # fmt: skip
    return points, read, area / lesions if lesions else math.nan
