"""One case of each kind against its peer: what the README says, in a few minutes.

Each side runs in fresh processes that take turns, on all threads. Memory is beyond the inputs and
counts gradients. MONAI is imported where it is called, which keeps our processes short.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from _curves import THRESHOLDS, Run, generator, lesions_of, quality, random_boxes
from _fresh import Case, case_asked, compared
from _measure import store
from _sorted_clipping import sorted_iou
from torch import Tensor

import softoverlap
from softoverlap import ATSSMatcher, SummedVolume, ThresholdedDice
from softoverlap.lesion import Lesion

ROOM = 150.0  # of anchors and boxes, where lesions lie in 160³
ANCHORS = 300_000


def loss_step(module: torch.nn.Module) -> Run:
    """Forward and backward on 2×3×128³ logits."""
    shape = (2, 3, 128, 128, 128)
    logits = torch.randn(shape, generator=generator()).requires_grad_()
    target = torch.rand(shape, generator=generator(1))
    return lambda: torch.autograd.grad(module(logits, target), logits)


def our_loss() -> Run:
    return loss_step(softoverlap.SoftDiceLoss(sigmoid=True))


def monai_loss(*, soft_label: bool) -> Run:
    from monai.losses import DiceLoss

    return loss_step(DiceLoss(sigmoid=True, soft_label=soft_label))


def of_masks() -> Run:
    """Tables included."""
    lesions, anchors = lesions_of(12), random_boxes(190_000, ROOM)
    return lambda: softoverlap.mask_box_dice(SummedVolume.from_lesions(lesions), anchors)


def of_their_boxes() -> Run:
    from monai.data.box_utils import box_iou

    return partial(box_iou, boxes_of(lesions_of(12)), random_boxes(190_000, ROOM))


def boxes_of(lesions: list[Lesion]) -> Tensor:
    return torch.stack([lesion.box for lesion in lesions])


def our_matching(*, new: bool) -> Run:
    """The best box of a lesion that was met before is known: so in all epochs but the first."""
    lesions, anchors = lesions_of(100), random_boxes(ANCHORS, ROOM)
    layout = {"num_locations_per_level": [ANCHORS], "num_anchors_per_loc": 1}
    score = quality(lesions, anchors, new=new)
    return lambda: ATSSMatcher()(score(), boxes_of(lesions), anchors, **layout)


def monai_matching() -> Run:
    from monai.apps.detection.utils.ATSS_matcher import ATSSMatcher as Matcher
    from monai.data.box_utils import box_iou

    boxes, anchors = boxes_of(lesions_of(100)), random_boxes(ANCHORS, ROOM)
    matcher = Matcher(4, box_iou, center_in_gt=False)
    return lambda: matcher.compute_matches(boxes, anchors, [ANCHORS], 1)


def pairwise(score: Callable[..., object]) -> Run:
    return partial(score, random_boxes(2000, 100.0), random_boxes(20_000, 100.0, 2))


def monai_pairwise() -> Run:
    from monai.data.box_utils import box_iou

    return pairwise(box_iou)


def backward(score: Callable[..., Tensor], a: Tensor, b: Tensor) -> Run:
    """The gradients to both."""
    a, b = a.requires_grad_(), b.requires_grad_()
    return lambda: torch.autograd.grad(score(a, b).sum(), (a, b))


def aligned(score: Callable[..., Tensor]) -> Run:
    return backward(score, random_boxes(1_000_000, 100.0), random_boxes(1_000_000, 100.0, 2))


def monai_aligned() -> Run:
    from monai.data.box_utils import box_pair_giou

    return aligned(box_pair_giou)


def oriented(score: Callable[..., Tensor]) -> Run:
    """Pairs whose centres lie within each other's reach."""
    unit = torch.rand(2, 10_000, 5, generator=generator())
    a, b = unit * torch.tensor([4, 4, 4, 4, 6.28]) + torch.tensor([0, 0, 2, 2, 0.0])
    return backward(score, a, b)


def suppressed(nms: Callable[..., object]) -> Run:
    scores = torch.rand(2000, generator=generator(5))
    return partial(nms, random_boxes(2000, 100.0), scores, 0.2)


def monai_suppressed() -> Run:
    from monai.data.box_utils import non_max_suppression

    return suppressed(non_max_suppression)


def at_thresholds(score: Callable[..., object]) -> Run:
    pred, truth = torch.rand(2, 1, 1, 96, 96, 96, generator=generator())
    return partial(score, pred, truth)


def monai_at_thresholds() -> Run:
    from monai.metrics import compute_dice

    def loop(pred: Tensor, truth: Tensor) -> None:
        for threshold in THRESHOLDS:
            compute_dice((pred >= threshold).float(), (truth >= threshold).float())

    return at_thresholds(loop)


@dataclass(frozen=True)
class Headline:
    """What is compared with what, on which inputs."""

    name: str
    on: str
    ours: Case
    peer: str
    theirs: Case


HEADLINES = [
    Headline(
        "SoftDiceLoss",
        "2×3×128³ logits, sigmoid, forward + backward",
        our_loss,
        "MONAI's DiceLoss(soft_label=True)",
        partial(monai_loss, soft_label=True),
    ),
    Headline(
        "SoftDiceLoss, plain peer",
        "2×3×128³ logits, sigmoid, forward + backward",
        our_loss,
        "MONAI's DiceLoss()",
        partial(monai_loss, soft_label=False),
    ),
    Headline(
        "mask_box_dice",
        "190,000 anchors × 12 soft lesions",
        of_masks,
        "MONAI's box_iou on their boxes",
        of_their_boxes,
    ),
    Headline(
        "anchor_quality and ATSSMatcher",
        "300,000 anchors × 100 soft lesions met before",
        partial(our_matching, new=False),
        "MONAI's ATSSMatcher on their boxes",
        monai_matching,
    ),
    Headline(
        "anchor_quality and ATSSMatcher, new",
        "300,000 anchors × 100 new soft lesions",
        partial(our_matching, new=True),
        "MONAI's ATSSMatcher on their boxes",
        monai_matching,
    ),
    Headline(
        "box_iou",
        "2,000 × 20,000 boxes",
        partial(pairwise, softoverlap.box_iou),
        "MONAI's box_iou",
        monai_pairwise,
    ),
    Headline(
        "box_pair_giou",
        "1,000,000 pairs, forward + backward",
        partial(aligned, softoverlap.box_pair_giou),
        "MONAI's box_pair_giou",
        monai_aligned,
    ),
    Headline(
        "rotated_box_pair_iou",
        "10,000 pairs, forward + backward",
        partial(oriented, softoverlap.rotated_box_pair_iou),
        "a clipper that sorts corners",
        partial(oriented, sorted_iou),
    ),
    Headline(
        "box_nms",
        "2,000 boxes",
        partial(suppressed, softoverlap.box_nms),
        "MONAI's non_max_suppression",
        monai_suppressed,
    ),
    Headline(
        "ThresholdedDice",
        "100 thresholds, 96³",
        partial(at_thresholds, ThresholdedDice(thresholds=THRESHOLDS)),
        "a loop of MONAI's compute_dice",
        monai_at_thresholds,
    ),
]
CASES = {h.name: h.ours for h in HEADLINES} | {h.peer: h.theirs for h in HEADLINES}


def main() -> None:
    figures = compared(__file__, {h.name: (h.name, h.peer) for h in HEADLINES})
    for headline in HEADLINES:
        figures[headline.name]["on"] = headline.on
    store("headlines", "cpu", figures)


if __name__ == "__main__" and not case_asked(CASES, most=2.0):
    main()
