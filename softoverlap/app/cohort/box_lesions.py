"""Found boxes against lesions, found lesions against true boxes, boxes against boxes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from softoverlap.app.cohort.coverage import coverage
from softoverlap.app.cohort.hit_rule import BY_CENTRE, TOO_LARGE, hit_of_boxes
from softoverlap.app.cohort.marked import Marked
from softoverlap.app.cohort.matches import LesionMatches, left_out
from softoverlap.app.cohort.records import ScoreSettings
from softoverlap.app.cohort.tables import LesionTables, Row, place_columns
from softoverlap.measures import Hit, Outcomes, centred_in, match_scan
from softoverlap.overlaps import BoxOverlap, best_iou_of_size, box_iou, box_volume


def box_lesions(
    pred: Marked, truth: Marked, *, settings: ScoreSettings, kind: str = "boxes"
) -> LesionTables:
    """Match what was found with what is there, each lesion of a mask by its tight box.

    By descending score each found box takes the free
    lesion that it hits best; the rule is that of the settings, and a second time the centre's.

    Args:
        pred: Found boxes or lesions.
        truth: True lesions or boxes.
        settings: The rule, and which lesions do not count.
        kind: What is compared, in words.

    Returns:
        Rows of true lesions, and what hit what.

    Raises:
        ValueError: If the rule asks for masks of lesions that are boxes.

    Examples:
        >>> from softoverlap.app.cohort.marked import marked_by_boxes
        >>> from softoverlap.images import BoxFile
        >>> file = BoxFile(torch.tensor([[0.0, 0, 0, 2, 2, 2]]).double())
        >>> boxes = marked_by_boxes(file, spacing=(1.0, 1.0, 1.0))
        >>> box_lesions(boxes, boxes, settings=ScoreSettings()).lesions[0]["box_iou"]
        1.0
    """
    truth = truth.judged(settings, boxes=kind != "masks")
    hit, target = hit_of_boxes(settings, masks=truth.lesions is not None), _target(truth)
    outcomes, by_centre = (_outcomes(pred, truth, target, rule) for rule in (hit, BY_CENTRE))
    counts = torch.tensor([not reason for reason in truth.reasons], dtype=torch.bool)
    near = _near(hit, pred.boxes, target)
    matches = LesionMatches(
        kind=kind,
        outcomes=outcomes,
        volumes=pred.volumes,
        left_out=left_out(outcomes, near, truth.reasons),
        by_centre=by_centre,
        covered=[
            coverage(truth, number, pred)
            for number, reason in enumerate(truth.reasons)
            if reason == TOO_LARGE
        ],
        score_threshold=pred.stored.score_threshold,
        threshold_rule=pred.stored.threshold_rule,
        own_box=int((counts & ~_reach_themselves(truth, target, hit)).sum()),
        smallest_anchor=_beyond_smallest_anchor(pred, truth, hit, counts),
    )
    return LesionTables(_rows(pred, truth, target, near, outcomes, by_centre), matches)


def _target(truth: Marked) -> dict[str, Any]:
    target: dict[str, Any] = {
        "box": truth.boxes,
        "label": torch.zeros(len(truth.boxes)),
        "existence": torch.tensor(truth.existence, dtype=torch.float64),
        "ignored": torch.tensor([bool(reason) for reason in truth.reasons], dtype=torch.bool),
        "spacing": truth.spacing,
    }
    return target if truth.lesions is None else {**target, "lesions": truth.lesions}


def _outcomes(pred: Marked, truth: Marked, target: dict[str, Any], hit: Hit) -> Outcomes:
    """Boxes without scores are one group, as boxes of equal scores are."""
    none = torch.zeros(len(pred.boxes), dtype=torch.float64)
    scores = none if pred.scores is None else pred.scores.double()
    found = {"box": pred.boxes, "label": torch.zeros(len(pred.boxes)), "label_scores": scores}
    outcomes = match_scan(found, target, hit=hit, weight="existence")
    sizes = torch.tensor(truth.volumes, dtype=torch.float64)
    return replace(
        outcomes, sizes=sizes, scores=none + torch.nan if pred.scores is None else scores
    )


def _rows(
    pred: Marked,
    truth: Marked,
    target: dict[str, Any],
    near: Bool[Tensor, "lesions boxes"],
    outcomes: Outcomes,
    by_centre: Outcomes,
) -> list[Row]:
    iou = _quality(Hit(box_iou, 1.0), pred.boxes, target)
    taken = outcomes.box_of_lesion
    centre_of = by_centre.box_of_lesion
    rows = []
    for number, reason in enumerate(truth.reasons):
        box = _best(near[number], pred.scores) if reason else taken[number]
        centre = centre_of[number]
        found = box is not None
        rows.append(
            {
                "lesion": number,
                "volume_mm3": truth.volumes[number],
                "box_iou": float(iou[number, box]) if found else 0.0,
                "detected": found,
                "score": _score(pred, box),
                "found_by_centre": None if reason else centre is not None,
                "centre_score": _score(pred, centre),
                "not_counted": reason or None,
                "existence": truth.existence[number],
                "n_pred": int(found),
                "pred_volume_mm3": pred.volumes[box] if found else 0.0,
                **place_columns(truth.boxes[number].tolist(), truth.centres[number]),
            }
        )
    return rows


def _score(pred: Marked, box: int | None) -> float | None:
    return None if box is None or pred.scores is None else float(pred.scores[box])


def _quality(hit: Hit, boxes: Tensor, target: dict[str, Any]) -> Float[Tensor, "lesions boxes"]:
    """How well each box meets each lesion."""
    if not len(boxes) or not len(target["box"]):
        return torch.zeros(len(target["box"]), len(boxes), dtype=torch.float64)
    return hit.quality(boxes, target)


def _near(hit: Hit, boxes: Tensor, target: dict[str, Any]) -> Bool[Tensor, "lesions boxes"]:
    """Which box hits a lesion or is centred in it: what finds one that does not count."""
    if not len(boxes) or not len(target["box"]) or not bool(target["ignored"].any()):
        return torch.zeros(len(target["box"]), len(boxes), dtype=torch.bool)
    return hit.reached(hit.quality(boxes, target)) | centred_in(boxes, target)


def _best(near: Bool[Tensor, "boxes"], scores: Tensor | None) -> int | None:
    """The box of the highest score among some."""
    if not bool(near.any()):
        return None
    ranks = near.double() if scores is None else torch.where(near, scores.double(), -torch.inf)
    return int(ranks.argmax())


def _reach_themselves(truth: Marked, target: dict[str, Any], hit: Hit) -> Bool[Tensor, "lesions"]:
    """Which lesions their own tight box hits; a box always does by an overlap of two boxes."""
    if isinstance(hit.overlap, BoxOverlap) or not len(truth.boxes):
        return torch.ones(len(truth.boxes), dtype=torch.bool)
    return hit.reached(hit.quality(truth.boxes, target)).diagonal()


def _beyond_smallest_anchor(
    pred: Marked, truth: Marked, hit: Hit, counts: Bool[Tensor, "lesions"]
) -> int | None:
    """How many lesions are too small for any box of the detector's smallest anchor, where known."""
    if pred.stored.smallest_anchor is None or hit.overlap is not box_iou:
        return None
    size = pred.stored.smallest_anchor
    smaller = box_volume(truth.boxes) < math.prod(size)  # other anchors are there for larger ones
    best = best_iou_of_size(truth.boxes, size)
    return int((counts & smaller & ~hit.reached(best)).sum())
