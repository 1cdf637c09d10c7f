"""Overlap of balls, in 2D discs, with balls and with boxes, differentiable in all faces."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from softoverlap import balls, scores
from softoverlap.overlaps.box_family import BoxOverlap, Parameters, Terms, score_of_nothing


class BallOverlap(BoxOverlap):
    """Overlap of boxes of which one or both stand for the ball that touches their faces.

    So it is one of boxes, and goes where these go: into hits, anchors and suppression.
    """

    def check(self, validate: bool | None, parameters: Parameters, /, **boxes: Tensor) -> None:
        """Refuse what is not two sets of boxes with one to three axes; called as they are given."""
        check = partial(super().check, validate, parameters, **boxes)
        balls.check_ball_boxes(check, **boxes)
        for name, each in boxes.items():
            if each.shape[1] > 2 * balls.MOST_AXES:
                raise ValueError(
                    f"{name} must have one to three axes where boxes stand for balls, "
                    f"got shape {tuple(each.shape)}"
                )


@partial(BallOverlap, stretch_free=True, zero_apart=True)
def ball_iou(a: Tensor, b: Tensor) -> Terms:
    """Intersection over union of the balls in two boxes, exact up to rounding.

    A ball is given by the smallest box around it (`boxes_of_balls`), in mm or in voxels of any
    spacing. Between boxes of different proportions, which hold ellipsoids, the score is a lower
    bound: what the largest balls in both share, where each axis is measured in the geometric mean
    of both edges. The gradient in centres and diameters is exact; where two balls are equal, it
    is the mean of both sides.

    References:
        Luo et al., SCPM-Net, an anchor-free 3D lung nodule detection network using sphere
        representation, https://arxiv.org/abs/2104.05215
        Yang et al., CircleNet, anchor-free detection with circle representation,
        https://arxiv.org/abs/2006.02474

    Examples:
        >>> import torch
        >>> from softoverlap import boxes_of_balls
        >>> nodule = boxes_of_balls(torch.tensor([[0.0, 0.0, 0.0, 2.0]]))  # centre, diameter
        >>> found = boxes_of_balls(torch.tensor([[1.0, 0.0, 0.0, 2.0], [0.0, 0.0, 0.0, 1.0]]))
        >>> ball_iou(found, nodule), ball_iou.pairs(found[:1], nodule)
        (tensor([[0.1852],
                [0.1250]]), tensor([0.1852]))
    """
    shared, *sizes = balls.shared_and_own(a, b)
    return scores.iou(shared, *sizes, empty=score_of_nothing(a, b, *sizes)), []


@partial(BallOverlap, stretch_free=True, zero_apart=True)
def ball_dice(a: Tensor, b: Tensor) -> Terms:
    """Dice score of the balls in two boxes; see `ball_iou`.

    Examples:
        >>> import torch
        >>> from softoverlap import boxes_of_balls
        >>> nodule = boxes_of_balls(torch.tensor([[0.0, 0.0, 0.0, 2.0]]))
        >>> found = boxes_of_balls(torch.tensor([[1.0, 0.0, 0.0, 2.0]]))
        >>> ball_dice(found, nodule), ball_dice.pairs(found, nodule)
        (tensor([[0.3125]]), tensor([0.3125]))
    """
    shared, *sizes = balls.shared_and_own(a, b)
    return scores.dice(shared, *sizes, empty=score_of_nothing(a, b, *sizes)), []


@partial(BallOverlap, stretch_free=True, zero_apart=True, symmetric=False)
def ball_centreness(a: Tensor, b: Tensor) -> Terms:
    """How near the first box's centre is to that of the ball in the second, in its radii.

    1 at the centre, falling evenly to 1/2 at the surface, 0 from there on. Any threshold up to 1/2
    is LUNA16's rule of a hit: the centre found lies closer to the nodule's than its radius. Above
    that it is stricter: 3/4 asks for half of the radius. The size of the first box does not
    matter, so it may be a point.

    References:
        Setio et al., Validation, comparison, and combination of algorithms for automatic detection
        of pulmonary nodules in CT images, the LUNA16 challenge, https://arxiv.org/abs/1612.08012

    Examples:
        >>> import torch
        >>> from softoverlap import boxes_of_balls
        >>> nodule = boxes_of_balls(torch.tensor([[0.0, 0.0, 0.0, 8.0]]))
        >>> found = boxes_of_balls(torch.tensor([[0.0, 2.0, 0.0, 3.0], [0.0, 5.0, 0.0, 9.0]]))
        >>> ball_centreness(found, nodule), ball_centreness.pairs(found[:1], nodule)
        (tensor([[0.7500],
                [0.0000]]), tensor([0.7500]))
    """
    return scores.nearness(balls.relative_distance(a, b)), []


@partial(BallOverlap, stretch_free=True, zero_apart=True, symmetric=False)
def box_ball_iou(a: Tensor, b: Tensor) -> Terms:
    """Intersection over union of the first box and the ball in the second, right to 1e-13.

    So boxes of a detector meet nodules that are balls: the tight box of a ball has almost twice
    its volume, and a perfect one scores 0.52 in 3D (π/6), 0.79 in 2D.

    Examples:
        >>> import torch
        >>> from softoverlap import boxes_of_balls
        >>> nodule = boxes_of_balls(torch.tensor([[1.0, 1.0, 1.0, 2.0]]))
        >>> box_ball_iou(nodule, nodule), box_ball_iou.pairs(nodule, nodule)
        (tensor([[0.5236]]), tensor([0.5236]))
    """
    shared, *sizes = balls.shared_with_box(a, b)
    return scores.iou(shared, *sizes, empty=score_of_nothing(a, b, *sizes)), []


@partial(BallOverlap, stretch_free=True, zero_apart=True, symmetric=False)
def box_ball_dice(a: Tensor, b: Tensor) -> Terms:
    """Dice score of the first box and the ball in the second; see `box_ball_iou`.

    Examples:
        >>> import torch
        >>> from softoverlap import boxes_of_balls
        >>> disc = boxes_of_balls(torch.tensor([[1.0, 1.0, 2.0]]))
        >>> box_ball_dice(disc, disc), box_ball_dice.pairs(disc, disc)
        (tensor([[0.8798]]), tensor([0.8798]))
    """
    shared, *sizes = balls.shared_with_box(a, b)
    return scores.dice(shared, *sizes, empty=score_of_nothing(a, b, *sizes)), []


ball_pair_iou, ball_pair_dice = ball_iou.pairs, ball_dice.pairs
ball_pair_centreness = ball_centreness.pairs
box_ball_pair_iou, box_ball_pair_dice = box_ball_iou.pairs, box_ball_dice.pairs
