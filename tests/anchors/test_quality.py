import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap import overlaps
from softoverlap.anchors import anchor_quality, best_box
from softoverlap.lesion import Lesion, crop_lesion
from softoverlap.overlaps import mask_box_dice, mask_box_diou, mask_box_iou, mask_box_tversky
from tests.support.lesion_makers import ball_lesion, lesion_from_crop
from tests.support.reference import reference_box_iof, reference_mask_box_diou, reference_mass

UNEVEN = mask_box_tversky.with_(alpha=0.3, beta=0.7)
MASK_OVERLAPS = ["dice", "iou", "tversky"]
BOX_OVERLAPS = ["iou", "dice", "iof", "giou", "diou", "ciou", "eiou", "nwd"]
SPARSE = [*MASK_OVERLAPS, "box_iou", "box_dice", "box_iof"]


def some_anchors(count, extent, ndim=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, ndim, generator=generator) * extent - 2
    return torch.cat([low, low + 1 + 6 * torch.rand(count, ndim, generator=generator)], dim=1)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_quality_is_the_overlap_over_the_best_overlap(ndim):
    lesions = [ball_lesion(5, [3] * ndim, ndim=ndim), ball_lesion(4, [8] * ndim, ndim=ndim)]
    anchors = some_anchors(20, 12, ndim)
    quality = anchor_quality(lesions, anchors)
    assert quality.shape == (2, 20)
    for row, lesion in enumerate(lesions):
        shift = lesion.offset.repeat(2)
        for column, anchor in enumerate(anchors):
            mass = reference_mass(lesion.crop.double(), (anchor - shift).double())
            volume = float((anchor[ndim:] - anchor[:ndim]).double().prod())
            dice = 2 * mass / (float(lesion.crop.double().sum()) + volume)
            expected = dice / best_box(lesion.crop)[1]
            assert quality[row, column].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("overlap", [mask_box_dice, mask_box_iou, UNEVEN])
def test_the_best_box_has_quality_one_and_no_anchor_more(overlap):
    lesion = ball_lesion(7, [4, 5, 6])
    box, score, _ = best_box(lesion.crop, overlap=overlap)
    best_anchor = (box + lesion.offset.repeat(2)).float()[None]
    options = {"overlap": overlap}
    assert anchor_quality([lesion], best_anchor, **options).item() == pytest.approx(1, abs=1e-6)
    plain = anchor_quality([lesion], best_anchor, normalize=None, **options)
    assert plain.item() == pytest.approx(score, abs=1e-6)
    anchors = some_anchors(500, 14)
    assert anchor_quality([lesion], anchors, **options).min() >= 0
    assert anchor_quality([lesion], anchors, **options).max() <= 1


def test_no_lesion_gives_no_rows():
    assert anchor_quality([], some_anchors(4, 8)).shape == (0, 4)


def test_no_anchor_gives_no_columns():
    assert anchor_quality([ball_lesion(3, [0, 0, 0])], torch.zeros(0, 6)).shape == (1, 0)


def test_a_lesion_without_mass_has_no_quality():
    hollow = Lesion(
        box=torch.tensor([0.0, 2.0]),
        crop=torch.zeros(2),
        offset=torch.tensor([0]),
        centre=torch.tensor([1.0]),
        volume_mm3=0.0,
    )
    assert anchor_quality([hollow], torch.tensor([[0.0, 2.0], [5.0, 6.0]])).tolist() == [[0, 0]]


def test_anchors_far_outside_the_image_have_no_quality():
    anchors = torch.tensor([[-50.0, -50, -50, -40, -40, -40]])
    assert anchor_quality([ball_lesion(3, [0, 0, 0])], anchors).item() == 0


def test_tversky_with_a_cheap_outside_prefers_the_whole_lesion():
    lesion = lesion_from_crop(torch.tensor([0.3, 1.0, 1.0, 0.3]), [0])
    core, whole = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 4.0])
    anchors = torch.stack([core, whole])
    dice = anchor_quality([lesion], anchors)[0]
    tversky = anchor_quality(
        [lesion], anchors, overlap=mask_box_tversky.with_(alpha=0.1, beta=0.9)
    )[0]
    assert dice[0] > dice[1]
    assert tversky[1] > tversky[0]


def test_an_inverted_anchor_is_refused():
    with pytest.raises(ValueError, match="anchors must have every maximum at or above"):
        anchor_quality([], torch.tensor([[2.0, 1.0]]))


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ValueError, match="normalize must be one of"):
        anchor_quality([], torch.zeros(0, 2), normalize="max")


@pytest.mark.bad_input
def test_anchors_of_other_axes_are_refused():
    with pytest.raises(ValueError, match=r"anchors must have shape \(N, 6\)"):
        anchor_quality([ball_lesion(3, [0, 0, 0])], torch.zeros(1, 4))


def a_scene(ndim=3, count=3, extent=14, seed=0):
    """Lesions, the whole masks that hold one each, one mask of all, and its labels."""
    generator = torch.Generator().manual_seed(seed)
    masks, lesions = torch.zeros(count, *[extent] * ndim), []
    labels = torch.zeros([extent] * ndim, dtype=torch.int64)
    for k in range(count):
        side = int(torch.randint(1, 4, (), generator=generator))
        corner = torch.randint(0, extent // count - 3, (ndim,), generator=generator)
        corner = corner + k * extent // count
        window = tuple(slice(int(c), int(c) + side) for c in corner)
        masks[k][window] = 0.2 + 0.8 * torch.rand([side] * ndim, generator=generator)
        labels[window] = 2 * k + 1  # labels need not be consecutive
        lesions.append(lesion_from_crop(masks[k][window], corner))
    return lesions, masks, masks.sum(0), labels


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("overlap", [mask_box_dice, mask_box_iou, UNEVEN, mask_box_diou])
@pytest.mark.parametrize("sparse", [False, True])
def test_lesions_whole_masks_and_labels_agree(ndim, overlap, sparse):
    if sparse and not overlap.zero_apart:
        pytest.skip("has no zeros")
    lesions, masks, mask, labels = a_scene(ndim, extent=21)
    anchors = some_anchors(60, 20, ndim)
    options = {"overlap": overlap, "sparse": sparse}
    expected = anchor_quality(lesions, anchors, **options).to_dense()
    assert expected.max() > 0
    for found in (
        anchor_quality(masks, anchors, **options),
        anchor_quality(mask, anchors, labels=labels, **options),
        anchor_quality(mask, anchors, labels=labels.to(torch.uint8), **options),
    ):
        torch.testing.assert_close(found.to_dense(), expected, atol=1e-6, rtol=0)


def test_labels_keep_apart_what_touches():
    mask, labels = torch.tensor([0.5, 1.0, 0.8, 0.0]), torch.tensor([4, 4, 2, 0])
    anchors = torch.tensor([[0.0, 2.0], [2.0, 3.0]])
    quality = anchor_quality(mask, anchors, labels=labels)  # row 0 is label 2
    torch.testing.assert_close(quality, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    apart = torch.tensor([[0.0, 0.0, 0.8, 0.0], [0.5, 1.0, 0.0, 0.0]])
    torch.testing.assert_close(quality, anchor_quality(apart, anchors))


@pytest.mark.parametrize("sparse", [False, True])
def test_labels_without_a_lesion_give_no_rows(sparse):
    nothing = torch.zeros(5, 5)
    quality = anchor_quality(nothing, some_anchors(4, 8, 2), labels=nothing.long(), sparse=sparse)
    assert quality.shape == (0, 4)
    assert quality.is_sparse == sparse


@pytest.mark.parametrize("name", BOX_OVERLAPS)
def test_box_overlaps_take_the_lesions_box_or_boxes_alone(name):
    lesions, _, _, _ = a_scene()
    anchors = some_anchors(30, 12)
    boxes = torch.stack([lesion.box for lesion in lesions])
    quality = anchor_quality(lesions, anchors, overlap=f"box_{name}")
    expected = getattr(overlaps, f"box_{name}")(anchors, boxes).mT
    torch.testing.assert_close(quality, expected, atol=1e-6, rtol=0)
    assert torch.equal(anchor_quality(boxes, anchors, overlap=f"box_{name}"), quality)
    assert quality.is_contiguous()


def test_box_iof_is_the_share_of_the_anchor():
    boxes, anchors = torch.tensor([[0.0, 8.0]]), torch.tensor([[6.0, 10.0]])
    quality = anchor_quality(boxes, anchors, overlap="box_iof").item()
    assert quality == reference_box_iof(anchors[0], boxes[0]) == 0.5


@pytest.mark.parametrize("overlap", ["diou", *[f"box_{name}" for name in BOX_OVERLAPS]])
def test_distances_and_box_overlaps_are_not_normalised(overlap):
    lesions, _, _, _ = a_scene()
    anchors = some_anchors(30, 12)
    plain = anchor_quality(lesions, anchors, overlap=overlap, normalize=None)
    assert torch.equal(anchor_quality(lesions, anchors, overlap=overlap), plain)


@given(st.integers(0, 10**6))
def test_diou_ranks_anchors_that_miss(seed):
    lesions, masks, _, _ = a_scene(2, extent=21, seed=seed)
    anchors = some_anchors(20, 30, 2, seed=seed)
    quality = anchor_quality(lesions, anchors, overlap="diou")
    for row, mask in enumerate(masks):
        for column, anchor in enumerate(anchors):
            expected = reference_mask_box_diou(mask.double().numpy(), anchor.double().numpy())
            assert quality[row, column].item() == pytest.approx(expected, abs=1e-5)
    assert (quality != 0).all()


def test_a_lesion_without_mass_is_never_the_best_of_an_anchor():
    hollow = lesion_from_crop(torch.ones(2, 2), [0, 0])
    hollow = Lesion(hollow.box, torch.zeros(2, 2), hollow.offset, hollow.centre, 0.0)
    lesions = [hollow, ball_lesion(4, [9, 9], ndim=2)]
    quality = anchor_quality(lesions, torch.tensor([[0.0, 0, 2, 2]]), overlap="diou")
    assert quality[0].item() == -1
    assert -1 < quality[1].item() < 0
    assert anchor_quality(lesions, torch.tensor([[0.0, 0, 2, 2]]), sparse=True)._nnz() == 0


@pytest.mark.parametrize("overlap", SPARSE)
@pytest.mark.parametrize("normalize", ["best", None])
@pytest.mark.parametrize("per_group", [1 << 20, 50])
def test_sparse_holds_the_pairs_of_the_dense_matrix(overlap, normalize, per_group, monkeypatch):
    monkeypatch.setattr("softoverlap.mask_boxes.meeting._PAIRS_PER_GROUP", per_group)
    lesions, _, _, _ = a_scene()
    anchors = some_anchors(200, 12)
    options = {"overlap": UNEVEN if overlap == "tversky" else overlap, "normalize": normalize}
    dense = anchor_quality(lesions, anchors, **options)
    found = anchor_quality(lesions, anchors, sparse=True, **options)
    assert found.is_coalesced()
    assert torch.equal(found.indices(), dense.to_sparse().indices())  # in order, and no zeros
    assert 0 < found._nnz() < dense.numel() / 2
    assert torch.equal(found.to_dense(), dense)
    assert found.dtype == dense.dtype


@pytest.mark.parametrize("overlap", SPARSE)
@pytest.mark.parametrize("sparse", [False, True])
def test_no_anchor_and_no_lesion_are_normal_input(overlap, sparse):
    options = {"overlap": overlap, "sparse": sparse}
    lesion, anchors = ball_lesion(3, [0, 0, 0]), some_anchors(4, 8)
    assert anchor_quality([], anchors, **options).shape == (0, 4)
    assert anchor_quality([lesion], anchors[:0], **options).shape == (1, 0)
    assert anchor_quality([], anchors[:0], **options).shape == (0, 0)
    assert anchor_quality([], anchors, **options).is_sparse == sparse


def test_anchors_that_overlap_nothing_leave_a_sparse_matrix_empty():
    found = anchor_quality([ball_lesion(3, [0, 0, 0])], some_anchors(9, 8) + 50, sparse=True)
    assert found.shape == (1, 9)
    assert found._nnz() == 0


@pytest.mark.parametrize("overlap", ["dice", "diou", "box_giou"])
def test_gradients_flow_to_the_anchors(overlap):
    lesion = ball_lesion(5, [3, 3], ndim=2)
    anchors = torch.tensor([[2.3, 3.4, 6.2, 7.7]], dtype=torch.float64, requires_grad=True)
    score = lambda boxes: anchor_quality([lesion], boxes, overlap=overlap)  # noqa: E731
    assert score(anchors).requires_grad
    if overlap != "box_giou":  # the ball's table is exact in float64
        assert torch.autograd.gradcheck(score, (anchors,))
    values = lambda boxes: anchor_quality([lesion], boxes, sparse=True).values()  # noqa: E731
    assert torch.autograd.gradcheck(values, (anchors,))


def test_a_lesion_smaller_than_any_anchor_ranks_the_anchors_around_it():
    voxel = lesion_from_crop(torch.full((1, 1, 1), 0.8), [10, 10, 10])
    low = torch.tensor([[8.0, 8, 8], [10, 10, 10], [10.5, 10, 10], [11, 10, 10]])
    anchors = torch.cat([low, low + 4], dim=1)
    quality = anchor_quality([voxel], anchors)[0]
    best = 2 * 0.8 / 1.8
    expected = torch.tensor([2 * 0.8 / 64.8, 2 * 0.8 / 64.8, 2 * 0.4 / 64.8, 0]) / best
    torch.testing.assert_close(quality, expected, atol=1e-6, rtol=0)


def test_anchors_that_reach_beyond_the_image_count_in_full():
    mask = torch.zeros(1, 6, 6)
    mask[0, :2, :2] = 1  # at the border of the image
    anchors = torch.tensor([[0.0, 0, 2, 2], [-2.0, -2, 2, 2], [-9.0, -9, -7, -7]])
    expected = torch.tensor([[1.0, 2 * 4 / (4 + 16), 0.0]])
    torch.testing.assert_close(anchor_quality(mask, anchors), expected)


@pytest.mark.parametrize("overlap", MASK_OVERLAPS)
def test_a_truncated_lesion_is_scored_by_what_is_visible(overlap):
    whole = ball_lesion(8, [4, 4, 4])
    part = crop_lesion(whole, [8, 0, 0], [16, 16, 16])
    assert part is not None
    box = best_box(part.crop, overlap=overlap)[0] + part.offset.repeat(2)
    anchors = torch.cat([box[None].float(), some_anchors(300, 14)])
    quality = anchor_quality([part], anchors, overlap=overlap)[0]
    assert quality[0].item() == pytest.approx(1, abs=1e-6)
    assert quality.max() <= 1
    beyond = box.float()[None] - torch.tensor([[3.0, 0, 0, 0, 0, 0]])  # where the rest would be
    assert anchor_quality([part], beyond, overlap=overlap).item() < 0.9


def test_half_precision_anchors_are_taken():
    lesion, anchors = ball_lesion(5, [3, 3, 3]), some_anchors(20, 12).half()
    quality = anchor_quality([lesion], anchors)
    expected = anchor_quality([lesion], anchors.double())
    torch.testing.assert_close(quality.double(), expected, atol=1e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to see the peak")
@pytest.mark.parametrize(
    ("sparse", "least", "most"), [(False, 1.9e8, 6e8), (True, 0, 2e8)]
)  # the dense matrix alone takes 2e8
@pytest.mark.parametrize("overlap", ["dice", "diou", "box_iou"])
def test_a_million_anchors_meet_fifty_lesions(overlap, sparse, least, most):
    """In a process of its own, whose peak is not yet high."""
    if sparse and overlap == "diou":
        pytest.skip("has no zeros")
    script = """
import re, time, torch
from pathlib import Path
from softoverlap.anchors import anchor_quality
from softoverlap.lesion import Lesion
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
generator = torch.Generator().manual_seed(0)
extent = torch.tensor([256.0, 256.0, 192.0])
centres = torch.rand(1_000_000, 3, generator=generator) * extent
half = 1 + 8 * torch.rand(1_000_000, 3, generator=generator)
anchors = torch.cat([centres - half, centres + half], dim=1)
del centres, half
lesions = []
for side in range(2, 52):
    side = 2 + side % 17
    corner = torch.randint(0, 150, (3,), generator=generator)
    box = torch.cat([corner, corner + side]).float()
    crop = torch.rand(side, side, side, generator=generator)
    lesions.append(Lesion(box, crop, corner, corner + side / 2, 1.0))
anchor_quality(lesions[:1], anchors[:9])
before, start = peak(), time.perf_counter()
quality = anchor_quality(lesions, anchors, overlap="OVERLAP", sparse=SPARSE)
seconds = time.perf_counter() - start
assert quality.shape == (50, 1_000_000) and quality.is_sparse == SPARSE
assert (quality.values() if SPARSE else quality).max() > 0.1
print(peak() - before, seconds)
"""
    script = script.replace("OVERLAP", overlap).replace("SPARSE", str(sparse))
    grown, seconds = map(float, subprocess.check_output([sys.executable, "-c", script]).split())
    print(f"{overlap}, sparse {sparse}: {grown / 1e6:.0f} MB, {seconds:.2f} s")  # noqa: T201
    assert least <= grown < most


@pytest.mark.bad_input
def test_bad_lesions_are_named():
    anchors, mask = some_anchors(4, 8), torch.zeros(6, 6, 6)
    boxes = torch.tensor([[0.0, 0, 0, 2, 2, 2]])
    with pytest.raises(ValueError, match="soft masks for overlap 'mask_box_dice', got boxes"):
        anchor_quality(boxes, anchors)
    with pytest.raises(ValueError, match=r"or boxes \(M, 6\) for overlap 'box_iou', got masks"):
        anchor_quality(mask[None], anchors, overlap="box_iou")
    with pytest.raises(ValueError, match=r"or boxes \(M, 6\) for overlap 'box_iou', got masks"):
        anchor_quality(mask, anchors, labels=mask.long(), overlap="box_iou")
    with pytest.raises(ValueError, match=r"lesions must have shape \(N, 6\), got \(1, 4\)"):
        anchor_quality(boxes[:, :4], anchors, overlap="box_iou")
    with pytest.raises(ValueError, match=r"shape \(M, \*spatial\) with 3 spatial axes, got"):
        anchor_quality(mask, anchors)
    with pytest.raises(ValueError, match="labels must be None unless lesions is one soft mask"):
        anchor_quality([ball_lesion(3, [0, 0, 0])], anchors, labels=mask.long())
    with pytest.raises(ValueError, match="one mask with 3 axes where labels are given"):
        anchor_quality(mask[None], anchors, labels=mask[None].long())
    with pytest.raises(ValueError, match="labels must have the shape of lesions"):
        anchor_quality(mask, anchors, labels=mask[:3].long())
    with pytest.raises(TypeError, match=r"labels must hold integers, got dtype torch.float32"):
        anchor_quality(mask, anchors, labels=mask)
    with pytest.raises(TypeError, match="lesions must be a sequence of Lesion"):
        anchor_quality([mask], anchors)
    with pytest.raises(ValueError, match="lesions must hold probabilities"):
        anchor_quality(mask - 4, anchors, labels=mask.long())
    with pytest.raises(ValueError, match="lesions must have every maximum"):
        anchor_quality(boxes.flip(1), anchors, overlap="box_iou")


@pytest.mark.parametrize("overlap", ["diou", "box_giou", "box_nwd"])
def test_overlaps_without_zeros_are_not_sparse(overlap):
    with pytest.raises(ValueError, match="overlap must be 0 where boxes miss for sparse=True"):
        anchor_quality([], some_anchors(1, 4), overlap=overlap, sparse=True)


def test_an_unknown_overlap_is_refused():
    with pytest.raises(ValueError, match="overlap must be one of"):
        anchor_quality([], some_anchors(1, 4), overlap="giou")
