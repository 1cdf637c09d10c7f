"""What the curves of growth measure: each makes the inputs of a size and returns the call.

Time and memory should grow as each curve says, by default in proportion to the size.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from softoverlap import (
    ATSSMatcher,
    CalibrationError,
    ExpectedDice,
    LesionwiseDice,
    SoftDiceCELoss,
    SoftDiceLoss,
    ThresholdedDice,
    anchor_quality,
    box_iou,
    box_nms,
    box_pair_giou,
    box_pair_iou,
    compute_froc,
    lesions_from_mask,
    mask_box_dice,
    mask_dice,
    match_scan,
)
from softoverlap.lesion import Lesion

Run = Callable[[], object]
FEW = 20  # lesions, where their number does not vary
ANCHORS = 100_000


@dataclass(frozen=True)
class Curve:
    """What grows with what; sizes above `largest` are left out."""

    axis: str
    make: Callable[[int], Run]
    time: str = "n"
    memory: str | None = "n"
    largest: float = math.inf


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lesion_mask(side: int, count: int) -> Tensor:
    """Soft balls of radius 3, as many as asked for, none touching another."""
    mask, cells = torch.zeros(side, side, side), math.ceil(count ** (1 / 3))
    axis = torch.arange(-3, 4.0)
    distance = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)
    ball = (1.5 - distance / 3).clamp(0, 1)
    for cell in torch.randperm(cells**3, generator=generator())[:count].tolist():
        places = (cell // cells**2, cell // cells % cells, cell % cells)
        low = [side * place // cells + (side // cells - 7) // 2 for place in places]
        mask[tuple(slice(start, start + 7) for start in low)] = ball
    return mask


def pair(side: int, count: int = FEW) -> tuple[Tensor, Tensor]:
    """A prediction that is one voxel off and a little less sure, and its target."""
    truth = lesion_mask(side, count)
    return 0.9 * truth.roll(1, dims=0)[None, None], truth[None, None]


def random_boxes(count: int, room: float, seed: int = 0) -> Tensor:
    """3D boxes with edges of 4 to 12 in a cube."""
    low = room * torch.rand(count, 3, generator=generator(seed))
    return torch.cat([low, low + 4 + 8 * torch.rand(count, 3, generator=generator(seed + 1))], 1)


def loss_step(loss: Callable[..., torch.nn.Module], side: int) -> Run:
    """Forward and backward from logits."""
    shape = (1, 1, side, side, side)
    logits = torch.randn(shape, generator=generator()).requires_grad_()
    target = torch.rand(shape, generator=generator(1))
    module = loss(sigmoid=True)
    return lambda: torch.autograd.grad(module(logits, target), logits)


def volume_alone(side: int) -> Run:
    """Reads two volumes and writes one, with nothing of ours."""
    a, b = (torch.rand(side, side, side, generator=generator(seed)) for seed in (0, 1))
    return lambda: torch.minimum(a, b)


def numbers_alone(count: int) -> Run:
    """Writes 100 numbers a box, as `pairwise` has to."""
    a, b = torch.rand(100, 1, generator=generator()), torch.rand(count, generator=generator(1))
    return lambda: a + b


def of_pair(function: Callable[[Tensor, Tensor], object], side: int) -> Run:
    return partial(function, *pair(side))


def components(side: int) -> Run:
    mask = lesion_mask(side, FEW)
    return lambda: lesions_from_mask(mask, spacing=(1.0, 1.0, 1.0))


def scored_pair(side: int) -> Run:
    """A pair of compressed files, from reading them to the rows of the tables."""
    from softoverlap.app.cohort import ScorePair, score_case
    from softoverlap.images import save_nifti

    folder = tempfile.TemporaryDirectory()
    paths = [Path(folder.name) / f"{name}.nii.gz" for name in ("pred", "truth")]
    for path, mask in zip(paths, pair(side), strict=True):
        save_nifti(path, mask[0, 0], torch.eye(4))
    case = ScorePair("case", paths[0], (paths[1],))

    def run() -> None:
        if error := score_case(case).error:
            raise RuntimeError(f"{error} ({folder.name})")  # which also keeps the folder alive

    return run


def boxes_on_a_mask(count: int) -> Run:
    mask = lesion_mask(128, FEW)[None]
    return partial(mask_box_dice, mask, random_boxes(count, 120.0))


def boxes_on_a_mask_backward(count: int) -> Run:
    mask = lesion_mask(128, FEW)[None]
    boxes = random_boxes(count, 120.0).requires_grad_()
    return lambda: torch.autograd.grad(mask_box_dice(mask, boxes).sum(), boxes)


def aligned(count: int) -> Run:
    return partial(box_pair_iou, random_boxes(count, 100.0), random_boxes(count, 100.0, 2))


def aligned_backward(count: int) -> Run:
    a, b = (random_boxes(count, 100.0, seed).requires_grad_() for seed in (0, 2))
    return lambda: torch.autograd.grad(box_pair_giou(a, b).sum(), (a, b))


def pairwise(count: int) -> Run:
    return partial(box_iou, random_boxes(100, 100.0, 2), random_boxes(count, 100.0))


def suppressed(count: int) -> Run:
    """Room grows with the number of boxes, so that each meets as many others whatever it is."""
    boxes = random_boxes(count, 12.0 * count ** (1 / 3))
    return partial(box_nms, boxes, torch.rand(count, generator=generator(5)), 0.2)


def found_and_true(found: int, true: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    room = 20.0 * max(true, 8) ** (1 / 3)
    target = random_boxes(true, room)
    boxes = random_boxes(found, room, 2)
    some = torch.arange(min(found, true))
    boxes[some] = target[some] + 0.5
    scores = torch.rand(found, generator=generator(5))
    prediction = {"box": boxes, "label": torch.zeros(found), "label_scores": scores}
    return prediction, {"box": target, "label": torch.zeros(true)}


def matched_boxes(count: int) -> Run:
    return partial(match_scan, *found_and_true(count, FEW))


def matched_lesions(count: int) -> Run:
    return partial(match_scan, *found_and_true(2 * count, count))


def lesions_of(count: int) -> list[Lesion]:
    return lesions_from_mask(lesion_mask(160, count), spacing=(1.0, 1.0, 1.0))


def quality(lesions: list[Lesion], anchors: Tensor, *, new: bool) -> Run:
    """The best box of a lesion is known from the last call, unless its crop is a new one."""
    shares = (1 - 1e-4 * number for number in itertools.count())

    def run() -> Tensor:
        share = next(shares) if new else 1.0
        now = [replace(one, crop=one.crop * share) for one in lesions] if new else lesions
        return anchor_quality(now, anchors)

    return run


def quality_of_lesions(count: int, *, new: bool = False) -> Run:
    return quality(lesions_of(count), random_boxes(ANCHORS, 150.0), new=new)


def quality_of_anchors(count: int) -> Run:
    return quality(lesions_of(FEW), random_boxes(count, 150.0), new=False)


def matched_anchors(lesions: list[Lesion], anchors: Tensor) -> Run:
    scores = anchor_quality(lesions, anchors)
    boxes = torch.stack([lesion.box for lesion in lesions])
    layout = {"num_locations_per_level": [len(anchors)], "num_anchors_per_loc": 1}
    return lambda: ATSSMatcher()(scores, boxes, anchors, **layout)


def atss_of_lesions(count: int) -> Run:
    return matched_anchors(lesions_of(count), random_boxes(ANCHORS, 150.0))


def atss_of_anchors(count: int) -> Run:
    return matched_anchors(lesions_of(FEW), random_boxes(count, 150.0))


def components_of(count: int) -> Run:
    mask = lesion_mask(160, count)
    return lambda: lesions_from_mask(mask, spacing=(1.0, 1.0, 1.0))


def lesionwise_of(count: int) -> Run:
    return partial(LesionwiseDice(min_mm3=0.0), *pair(160, count))


def froc(scans: int) -> Run:
    """Five lesions and twenty boxes a scan, with intervals."""
    sides = zip(*[found_and_true(20, 5) for _ in range(scans)], strict=True)
    predictions, targets = map(list, sides)
    for number, prediction in enumerate(predictions):
        prediction["label_scores"] = torch.rand(20, generator=generator(number))
    return partial(compute_froc, predictions, targets, resamples=200)


THRESHOLDS = tuple(number / 100 for number in range(1, 101))

CURVES = {
    "memory alone, a volume": Curve("voxels", volume_alone),  # nothing of ours, to compare with
    "memory alone, 100 numbers a box": Curve("boxes", numbers_alone),
    "SoftDiceLoss, forward + backward": Curve("voxels", partial(loss_step, SoftDiceLoss)),
    "SoftDiceCELoss, forward + backward": Curve("voxels", partial(loss_step, SoftDiceCELoss)),
    "mask_dice": Curve("voxels", partial(of_pair, mask_dice)),
    "ThresholdedDice at 100 thresholds": Curve(
        "voxels", partial(of_pair, ThresholdedDice(thresholds=THRESHOLDS))
    ),
    "ExpectedDice, exact": Curve("voxels", partial(of_pair, ExpectedDice()), "n log n"),
    "CalibrationError": Curve("voxels", partial(of_pair, CalibrationError())),
    "lesions_from_mask": Curve("voxels", components),
    "LesionwiseDice": Curve("voxels", partial(of_pair, LesionwiseDice(min_mm3=0.0))),
    "score_case, with reading": Curve("voxels", scored_pair),
    "mask_box_dice on a mask of 128³": Curve("boxes", boxes_on_a_mask),
    "mask_box_dice, forward + backward": Curve("boxes", boxes_on_a_mask_backward),
    "box_pair_iou": Curve("boxes", aligned),
    "box_pair_giou, forward + backward": Curve("boxes", aligned_backward),
    "box_iou with 100 boxes": Curve("boxes", pairwise),
    "box_nms, sparse": Curve("boxes", suppressed, "n log n", largest=1e5),
    "anchor_quality of 20 lesions": Curve("boxes", quality_of_anchors),
    "ATSSMatcher of 20 lesions": Curve("boxes", atss_of_anchors),
    "match_scan of 20 lesions": Curve("boxes", matched_boxes, "n log n"),
    "anchor_quality, 100,000 anchors": Curve("lesions", quality_of_lesions),
    "anchor_quality, lesions not seen before": Curve(
        "lesions", partial(quality_of_lesions, new=True)
    ),
    "ATSSMatcher, 100,000 anchors": Curve("lesions", atss_of_lesions),
    "lesions_from_mask, 160³": Curve("lesions", components_of),
    "LesionwiseDice, 160³": Curve("lesions", lesionwise_of),
    "match_scan, two boxes a lesion": Curve("lesions", matched_lesions, "n²", "n²"),
    "compute_froc with intervals": Curve("scans", froc, "n log n"),
}
