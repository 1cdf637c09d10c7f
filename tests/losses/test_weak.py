"""Losses that let a mask learn from a box: projections, alike neighbours, a usual size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.utils import LossReduction

from softoverlap.losses import BoxProjectionLoss, PairwiseAffinityLoss, SizePriorLoss
from tests.support.lesion_makers import ball
from tests.support.reference import reference_affinity_loss, reference_projection_loss
from tests.support.strategies import masks_and_boxes


def affinity(reduction="mean", **options):
    """The affinity loss on one fixed image, with the arguments of the others."""
    loss = PairwiseAffinityLoss(reduction, scale=0.5, **options)
    return lambda masks, boxes, weight=None: loss(masks, image_like(masks), boxes, weight)


def image_like(masks):
    values = torch.rand(masks.shape, generator=torch.Generator().manual_seed(3))
    return values.to(masks.dtype if masks.is_floating_point() else torch.float32)


def size_prior(reduction="mean", **options):
    return SizePriorLoss(0.3, 0.4, reduction, **options)


LOSSES = [BoxProjectionLoss, affinity, size_prior]
every = pytest.mark.parametrize("loss", LOSSES)


def pairs(count=4, ndim=3, seed=0, dtype=torch.float64):
    """Masks without ties, and boxes away from voxel edges."""
    generator = torch.Generator().manual_seed(seed)
    masks = 0.05 + 0.9 * torch.rand(count, *[5] * ndim, generator=generator, dtype=dtype)
    low = torch.randint(-1, 3, (count, ndim), generator=generator)
    edge = torch.randint(1, 4, (count, ndim), generator=generator)
    parts = 0.1 + 0.8 * torch.rand(2, count, ndim, generator=generator, dtype=dtype)
    return masks, torch.cat([low + parts[0], low + edge + parts[1]], dim=1)


def aligned(case):
    masks, boxes = case
    count = min(len(masks), len(boxes))
    return masks[:count], boxes[:count]


@given(masks_and_boxes())
def test_projection_loss_equals_its_definition(case):
    masks, boxes = aligned(case)
    value = BoxProjectionLoss("none")(masks, boxes)
    for mask, box, found in zip(masks, boxes, value, strict=True):
        expected = reference_projection_loss(mask.numpy(), box.tolist())
        assert found.item() == pytest.approx(expected, abs=1e-12)
        assert 0 <= found <= 1


@pytest.mark.parametrize("dilation", [1, 2])
@given(case=masks_and_boxes())
def test_affinity_loss_equals_its_definition(dilation, case):
    masks, boxes = aligned(case)
    images = image_like(masks)
    loss = PairwiseAffinityLoss("none", scale=0.4, threshold=0.4, dilation=dilation)
    for mask, image, box, found in zip(
        masks, images, boxes, loss(masks, images, boxes), strict=True
    ):
        expected = reference_affinity_loss(
            mask.numpy(), image.numpy(), box.tolist(), 0.4, 0.4, dilation
        )
        assert found.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("size", "expected"), [(0, 0.09), (2, 0.01), (3, 0), (4, 0), (10, 0.36)])
def test_size_prior_is_quadratic_outside_its_range(size, expected):
    mask, box = torch.zeros(1, 10, 3), torch.tensor([[0.0, 0.0, 10.0, 1.0]])
    mask[0, :size, 2] = 1  # where it lies doesn't count
    value = SizePriorLoss(0.3, 0.4)(mask, box)
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_real_valued_faces_count_by_coverage():
    box = torch.tensor([[1.25, 0.5, 3.0, 3.5]]).double()
    coverage = torch.tensor([0, 0.75, 1, 0]).double()[:, None] * torch.tensor([0.5, 1, 1, 0.5])
    assert BoxProjectionLoss()(coverage[None], box).item() == 0
    assert BoxProjectionLoss()(coverage.round()[None], box) > 0.01


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_box_beyond_the_image_asks_for_nothing(ndim):
    box = torch.tensor([[9.0] + [0.0] * (ndim - 1) + [12.0] + [5.0] * (ndim - 1)])
    assert BoxProjectionLoss()(torch.zeros(1, *[5] * ndim), box).item() == 0
    assert BoxProjectionLoss()(torch.ones(1, *[5] * ndim), box).item() == 1


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_filled_box_has_the_lowest_projection_loss_and_is_not_alone(ndim):
    box = torch.tensor([[2.0] * ndim + [6.0] * ndim])
    filled, diagonal = torch.zeros(2, 1, *[8] * ndim)
    filled[(0, *[slice(2, 6)] * ndim)] = 1
    for voxel in range(2, 6):
        diagonal[(0, *[voxel] * ndim)] = 1
    touching = torch.zeros_like(filled)  # what a lesion looks like
    axis = torch.arange(4) - 1.5
    radius = torch.stack(torch.meshgrid(*[axis] * ndim, indexing="ij")).square().sum(0).sqrt()
    touching[(0, *[slice(2, 6)] * ndim)] = (radius < 2).float()
    loss = BoxProjectionLoss()
    assert loss(filled, box) == loss(diagonal, box) == loss(touching, box) == 0
    for seed in range(20):
        noise = torch.rand(filled.shape, generator=torch.Generator().manual_seed(seed))
        assert loss(noise, box) > 0
    faint = 0.9 * touching + 0.1 * ball(8, ndim=ndim)
    assert loss(filled, box) < loss(faint, box)


def test_alone_the_image_term_is_content_with_nothing_and_with_everything():
    image, box = torch.rand(1, 8, 8), torch.tensor([[2.0, 2.0, 6.0, 6.0]])
    for mask in (torch.zeros(1, 8, 8), torch.ones(1, 8, 8)):
        assert PairwiseAffinityLoss()(mask, image, box).item() == 0


def test_projection_and_image_term_together_prefer_the_object_to_the_filled_box():
    disc = (ball(8, ndim=2, edge=0.01) > 0.5).float()
    image = torch.nn.functional.pad(disc, [3] * 4)[None]
    filled = torch.nn.functional.pad(torch.ones(8, 8), [3] * 4)[None]
    box = torch.tensor([[3.0, 3.0, 11.0, 11.0]])
    projection, alike = BoxProjectionLoss(), PairwiseAffinityLoss(scale=0.5)
    assert projection(image, box) == projection(filled, box) == 0
    assert alike(image, image, box).item() == 0
    assert alike(filled, image, box) > 0.5


def test_unlike_neighbours_and_edges_outside_of_the_box_do_not_count():
    image = torch.tensor([[0.0, 0.0, 9.0, 9.0, 0.0, 0.0]])
    mask = torch.tensor([[0.5, 0.5, 0.0, 1.0, 0.5, 0.5]])
    box = torch.tensor([[2.0, 4.0]])
    apart = PairwiseAffinityLoss()(mask, image, box)
    assert apart.item() == pytest.approx(-torch.tensor(torch.finfo(torch.float32).eps).log().item())
    mask[0, 2] = 1
    assert PairwiseAffinityLoss()(mask, image, box).item() == 0


def test_labels_that_contradict_each_other_have_a_finite_loss_and_gradient():
    mask = torch.tensor([[0.0, 1.0, 0.0]], requires_grad=True)
    value = PairwiseAffinityLoss()(mask, torch.zeros(1, 3), torch.tensor([[0.0, 3.0]]))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(mask.grad).all()


@every
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_gradients_pass_gradcheck(loss, ndim):
    masks, boxes = pairs(count=3, ndim=ndim)
    boxes.requires_grad_(loss is not affinity)
    inputs = (masks.requires_grad_(), boxes)
    assert torch.autograd.gradcheck(loss("none", validate=False), inputs)


@every
def test_flat_boxes_and_empty_masks_have_finite_gradients(loss):
    masks = torch.zeros(3, 4, 4, requires_grad=True)
    boxes = torch.tensor([[1.0, 1, 1, 3], [2.0] * 4, [0.0, 0, 3, 3]]).requires_grad_()
    value = loss("none")(masks, boxes)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(masks.grad).all()
    assert boxes.grad is None or torch.isfinite(boxes.grad).all()


@every
def test_an_inverted_box_that_is_not_looked_at_counts_as_flat(loss):
    masks, _ = pairs(count=1, ndim=2)
    inverted = torch.tensor([[3.0, 3.0, 1.0, 1.0]]).double()
    flat = torch.tensor([[3.0, 3.0, 3.0, 3.0]]).double()
    assert loss(validate=False)(masks, inverted) == loss()(masks, flat)


def test_an_empty_mask_is_drawn_into_its_box():
    masks = torch.full((1, 4, 4), 0.01, requires_grad=True)
    box = torch.tensor([[1.0, 1.0, 3.0, 3.0]])
    (BoxProjectionLoss()(masks, box) + SizePriorLoss(0.3, 0.5)(masks, box)).backward()
    assert (masks.grad[0, 1:3, 1:3] < 0).all()


@every
@pytest.mark.parametrize("reduction", ["none", "mean", "sum", *LossReduction], ids=str)
def test_reductions_may_be_monais_enum(loss, reduction):
    masks, boxes = pairs()
    each = loss("none")(masks, boxes)
    assert each.shape == (4,)
    assert (each > 0).any()
    name = getattr(reduction, "value", reduction)
    expected = each if name == "none" else getattr(each, name)()
    torch.testing.assert_close(loss(reduction)(masks, boxes), expected)


@every
def test_a_weight_counts_per_box_and_the_mean_is_over_all(loss):
    masks, boxes = pairs(count=3)
    masks.requires_grad_()
    weight = torch.tensor([1.0, 0.0, 2.5]).double()
    each = loss("none")(masks, boxes)
    torch.testing.assert_close(loss("none")(masks, boxes, weight), weight * each)
    torch.testing.assert_close(loss()(masks, boxes, weight), (weight * each).sum() / 3)
    (gradient,) = torch.autograd.grad(loss("sum")(masks, boxes, weight), masks)
    assert (gradient[1] == 0).all()


@every
def test_the_loss_of_no_boxes_is_zero_and_attached(loss):
    masks, boxes = torch.zeros(0, 4, 4, requires_grad=True), torch.zeros(0, 4)
    for reduction in ("mean", "sum"):
        value = loss(reduction)(masks, boxes)
        assert value.item() == 0
        (gradient,) = torch.autograd.grad(value, masks)
        assert gradient.shape == masks.shape
    assert loss("none")(masks, boxes).shape == (0,)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_are_computed_in_float32(loss, dtype):
    masks, boxes = (tensor.to(dtype) for tensor in pairs())
    if loss is affinity:
        images = image_like(masks)
        function = PairwiseAffinityLoss("none", scale=0.5)
        value = function(masks, images, boxes)
        wide = function(masks.float(), images.float(), boxes.float())
    else:
        value, wide = loss("none")(masks, boxes), loss("none")(masks.float(), boxes.float())
    assert value.dtype == torch.float32
    assert torch.equal(value, wide)


@every
def test_metatensors_give_plain_tensors(loss):
    masks, boxes = pairs()
    value = loss()(MetaTensor(masks), MetaTensor(boxes))
    assert type(value) is torch.Tensor
    torch.testing.assert_close(value, loss()(masks, boxes))


def test_they_are_built_from_a_monai_config():
    config = {
        "projection": {"_target_": "softoverlap.BoxProjectionLoss", "reduction": "sum"},
        "image": {"_target_": "softoverlap.PairwiseAffinityLoss", "scale": 0.5},
        "size": {"_target_": "softoverlap.SizePriorLoss", "low": 0.3, "high": 0.5},
    }
    parser = ConfigParser(config)
    assert parser.get_parsed_content("projection").reduction == "sum"
    assert parser.get_parsed_content("image").scale == 0.5
    assert parser.get_parsed_content("size").high == 0.5


def test_arguments_out_of_range_are_refused():
    for loss in (BoxProjectionLoss, PairwiseAffinityLoss, size_prior):
        with pytest.raises(ValueError, match=r"reduction must be one of .*, got 'median'"):
            loss("median")
    with pytest.raises(ValueError, match="scale must be above 0 and finite, got 0"):
        PairwiseAffinityLoss(scale=0.0)
    with pytest.raises(ValueError, match=r"threshold must lie in \(0, 1\], got 0"):
        PairwiseAffinityLoss(threshold=0.0)
    with pytest.raises(ValueError, match="dilation must be at least 1, got 0"):
        PairwiseAffinityLoss(dilation=0)
    with pytest.raises(ValueError, match=r"low and high must satisfy .*, got 0.5 and 0.4"):
        SizePriorLoss(0.5, 0.4)


@pytest.mark.bad_input
@every
def test_bad_masks_boxes_and_weights_are_named(loss):
    masks, boxes = pairs(count=2)
    with pytest.raises(
        ValueError, match=r"masks must have shape .* with 2 spatial axes, .*\(2, 4\)"
    ):
        loss()(masks, boxes[:, :4])
    with pytest.raises(ValueError, match="masks and boxes must have as many rows"):
        loss()(masks, boxes[:1])
    with pytest.raises(ValueError, match="masks must hold probabilities"):
        loss()(masks + 1, boxes)
    with pytest.raises(ValueError, match="boxes must have every maximum"):
        loss()(masks, -boxes)
    with pytest.raises(ValueError, match=r"weight must have shape \(2,\), one a box, got \(1,\)"):
        loss()(masks, boxes, torch.ones(1))
    with pytest.raises(TypeError, match=r"masks must be a torch.Tensor, got list"):
        (BoxProjectionLoss if loss is affinity else loss)()(masks.tolist(), boxes)


@pytest.mark.bad_input
def test_bad_images_are_named():
    masks, boxes = pairs(count=2)
    with pytest.raises(ValueError, match="images must have the shape of masks"):
        PairwiseAffinityLoss()(masks, masks[:, None], boxes)
    with pytest.raises(ValueError, match="images must hold finite intensities, got NaN"):
        PairwiseAffinityLoss()(masks, masks * float("nan"), boxes)
    with pytest.raises(TypeError, match="images must hold real numbers"):
        PairwiseAffinityLoss()(masks, masks.to(torch.complex64), boxes)


@pytest.mark.bad_input
@pytest.mark.parametrize("loss", [BoxProjectionLoss(), SizePriorLoss(0.3, 0.5)])
def test_a_channel_is_named(loss):
    boxes = torch.tensor([[1.0, 1.0, 1.0, 3.0, 3.0, 3.0]] * 2)
    with pytest.raises(ValueError, match=r"masks must have shape \(K, \*spatial\) with 3 spatial"):
        loss(torch.zeros(2, 1, 4, 4, 4), boxes)
