"""Suppression and clustering, against brute force, MONAI and the cases of the field."""

import json
import math
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap import boxes as geometry
from softoverlap.overlaps import (
    box_ciou,
    box_giou,
    box_iof,
    box_iou,
    box_volume,
    overlap_named,
    rotated_box_diou,
    rotated_box_giou,
    rotated_box_iof,
    rotated_box_iou,
    rotated_box_pair_iou,
)
from softoverlap.rotated import circumscribed
from softoverlap.suppression import (
    _greedy,
    _sweep,
    box_nms,
    rotated_nms,
    soft_nms,
    weighted_box_clustering,
)
from tests.support.reference import (
    reference_box_giou,
    reference_box_iou,
    reference_clusters,
    reference_nms,
    reference_soft_nms,
)
from tests.support.strategies import box_batches

VECTORS = Path(__file__).parents[3] / "shared" / "data" / "vectors" / "boxes.json"
NAMES = ("iou", "dice", "iof", "giou", "diou", "ciou", "eiou")
SWEPT = [overlap_named(f"box_{name}") for name in NAMES]  # above 0 only where boxes meet
TURNS = st.sampled_from([0.0, math.pi / 2, 0.3, -2.0])


@st.composite
def detections(draw, boxes=None):
    count = draw(st.integers(0, 12))
    if boxes is None:
        ndim = draw(st.integers(1, 3))
        boxes = box_batches(ndim=ndim, count=count, low=0, high=2)
    else:
        boxes = boxes(count)
    scores = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    labels = draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    scores = torch.tensor(scores, dtype=torch.float64) / 4
    return draw(boxes), scores, torch.tensor(labels, dtype=torch.int64)


@st.composite
def oriented(draw, count):
    """Oriented rectangles on a coarse grid, many of them alike."""
    parameters = [st.integers(0, 2), st.integers(0, 2), st.integers(0, 3), st.integers(0, 3), TURNS]
    rows = draw(st.lists(st.tuples(*parameters), min_size=count, max_size=count))
    return torch.tensor(rows, dtype=torch.float64).reshape(count, 5)


@contextmanager
def in_blocks_of(size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_greedy, "_FEW", size)
        patch.setattr(_greedy, "_MANY", 2 * size)
        patch.setattr(_sweep, "_ROWS_AT_ONCE", max(1, size // 3))
        yield


def as_lists(*tensors):
    return [tensor.tolist() for tensor in tensors]


@given(detections(), st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.0]), st.sampled_from([1, 3, 1024]))
def test_box_nms_is_the_greedy_suppression(detected, threshold, block):
    boxes, scores, labels = detected
    with in_blocks_of(block):
        kept = box_nms(boxes, scores, threshold, labels)
    listed = as_lists(boxes, scores)
    assert kept.tolist() == reference_nms(*listed, threshold, labels.tolist(), reference_box_iou)


@given(detections(), st.sampled_from([-0.51, -0.13, 0.21, 0.63]))
def test_box_nms_takes_another_overlap_as_its_criterion(detected, threshold):
    boxes, scores, labels = detected
    kept = box_nms(boxes, scores, threshold, labels, overlap=box_giou)
    listed = as_lists(boxes, scores)
    assert kept.tolist() == reference_nms(*listed, threshold, labels.tolist(), reference_box_giou)


def test_a_function_of_the_user_may_be_the_criterion():
    boxes = torch.tensor([[0.0, 8.0], [2.0, 3.0], [20.0, 30.0]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert box_nms(boxes, scores, 0.5).tolist() == [0, 1, 2]
    inside_kept = box_nms(boxes, scores, 0.5, overlap=lambda a, b: box_iof(b, a).T)
    assert inside_kept.tolist() == [0, 2]


@given(detections(oriented), st.sampled_from([0.0, 0.11, 0.33, 0.77, 1.0]))
def test_rotated_nms_is_the_greedy_suppression(detected, threshold):
    boxes, scores, labels = detected
    with in_blocks_of(5):
        kept = rotated_nms(boxes, scores, threshold, labels)
    iou = rotated_box_iou(boxes, boxes)
    expected = reference_nms(
        range(len(boxes)), scores.tolist(), threshold, labels.tolist(), lambda i, j: iou[i, j]
    )
    assert kept.tolist() == expected


@pytest.mark.parametrize("overlap", [rotated_box_giou, rotated_box_diou, rotated_box_iof], ids=repr)
@given(detected=detections(oriented), threshold=st.sampled_from([-0.3, 0.05, 0.33]))
def test_any_overlap_of_oriented_boxes_may_be_the_criterion(overlap, detected, threshold):
    boxes, scores, labels = detected
    threshold = max(threshold, overlap.range[0] + 0.05)
    kept = rotated_nms(boxes, scores, threshold, labels, overlap=overlap)
    score = overlap(boxes, boxes)
    expected = reference_nms(
        range(len(boxes)), scores.tolist(), threshold, labels.tolist(), lambda i, j: score[i, j]
    )
    assert kept.tolist() == expected


@pytest.mark.bad_input
def test_rotated_nms_takes_overlaps_of_oriented_boxes_alone():
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.0]])
    with pytest.raises(TypeError, match="overlap must be one of oriented boxes such as .*box_iou"):
        rotated_nms(boxes, torch.ones(1), 0.5, overlap=box_iou)
    with pytest.raises(ValueError, match=r"iou_threshold must lie in \[-1, 1\], got -2"):
        rotated_nms(boxes, torch.ones(1), -2.0, overlap=rotated_box_giou)


@pytest.mark.skipif(not VECTORS.exists(), reason="the shared conformance cases are not here")
def test_rotated_nms_keeps_what_the_case_of_the_field_keeps():
    cases = json.loads(VECTORS.read_text())["cases"]
    cases = [case for case in cases if case["op"] == "nms_rotated"]
    assert cases
    for case in cases:
        boxes, scores = (torch.tensor(case[key], dtype=torch.float64) for key in ("a", "scores"))
        kept = rotated_nms(boxes, scores, case["iou_threshold"])
        assert kept.tolist() == case["expected"]


@pytest.mark.parametrize("away", [0.0, 1e6])
def test_two_cars_parked_at_right_angles_both_stay(away):
    cars = torch.tensor([[away, away, 4.5, 1.8, 0.785], [away, away, 4.5, 1.8, 2.356]])
    around = circumscribed(cars)
    scores = torch.tensor([0.8, 0.9])
    assert box_iou(around, around)[0, 1] > 0.9
    assert len(box_nms(around, scores, 0.5)) == 1
    assert rotated_nms(cars, scores, 0.5).tolist() == [1, 0]


def test_two_neighbours_that_lie_aslant_both_stay_though_their_upright_boxes_overlap():
    ribs = torch.tensor([[10.0, 10.0, 12.0, 3.0, 0.785], [12.5, 7.5, 12.0, 3.0, 0.785]])
    upright, scores = circumscribed(ribs), torch.tensor([0.8, 0.9])
    assert box_iou(upright, upright)[0, 1] > 0.3
    assert box_nms(upright, scores, 0.3).tolist() == [1]
    for overlap in (rotated_box_iou, rotated_box_giou, rotated_box_diou):
        assert rotated_nms(ribs, scores, 0.0, overlap=overlap).tolist() == [1, 0]


def test_a_box_turned_by_half_a_circle_is_the_same_box():
    boxes = torch.tensor([[1e6, 5.0, 4.0, 2.0, 0.0], [1e6, 5.0, 4.0, 2.0, math.pi]])
    assert rotated_nms(boxes, torch.tensor([0.8, 0.8]), 0.9).tolist() == [0]


@given(detections(), st.sampled_from([0.0, 0.3, 0.7]))
def test_unturned_boxes_are_suppressed_as_axis_aligned_ones(detected, threshold):
    boxes, scores, labels = detected
    ndim = boxes.shape[1] // 2
    if ndim == 1:
        return
    edges = boxes[:, ndim:] - boxes[:, :ndim]
    turned = torch.cat([geometry.centres(boxes), edges, torch.zeros(len(boxes), 1)], dim=1)
    kept = rotated_nms(turned, scores, threshold + 1e-3, labels)
    assert torch.equal(kept, box_nms(boxes, scores, threshold + 1e-3, labels))


def random_detections(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 3, generator=generator) * 60
    boxes = torch.cat([low, low + 4 + 12 * torch.rand(count, 3, generator=generator)], dim=1)
    return boxes, torch.rand(count, generator=generator)


def random_oriented(count, room):
    generator = torch.Generator().manual_seed(1)
    place = room * torch.rand(count, 2, generator=generator)
    edges = 2 + 4 * torch.rand(count, 2, generator=generator)
    angle = 6 * torch.rand(count, 1, generator=generator)
    return torch.cat([place, edges, angle], dim=1), torch.rand(count, generator=generator)


@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.6])
@pytest.mark.parametrize("size", [64, 2048])
def test_box_nms_equals_monai(threshold, size):
    from monai.data.box_utils import non_max_suppression

    boxes, scores = random_detections(600)
    theirs = non_max_suppression(boxes, scores, threshold)
    with in_blocks_of(size):
        kept = box_nms(boxes, scores, threshold)
    assert 0 < len(kept) < len(boxes)
    assert kept.tolist() == theirs.tolist()


@pytest.mark.parametrize("far", [0.0, 1e4, 3e6])
@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("overlap", SWEPT, ids=repr)
def test_boxes_far_from_the_origin_are_not_lost_by_the_sweep(overlap, threshold, far):
    assert overlap.least_iou is not None
    boxes, scores = random_detections(300)
    boxes = (boxes * 0.5 + far).float()
    boxes[200:] = boxes[:100]  # shifted on one axis until the IoU is just above the threshold
    left = 2 * (threshold + 0.01) / (1 + threshold + 0.01)
    boxes[200:, ::3] += (boxes[:100, 3:4] - boxes[:100, :1]) * (1 - left)
    table = overlap(boxes, boxes)
    expected = reference_nms(
        range(len(boxes)), scores.tolist(), threshold, [0] * 300, lambda i, j: table[i, j]
    )
    with in_blocks_of(48):
        assert box_nms(boxes, scores, threshold, overlap=overlap).tolist() == expected


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_boxes_that_are_not_looked_at_spoil_no_others(bad):
    boxes, scores = random_detections(80)
    spoilt = torch.cat([boxes, boxes[:3]])
    spoilt[80, 0], spoilt[81, 4], spoilt[82] = bad, bad, bad
    more = torch.cat([scores, torch.tensor([2.0, 1e-3, 3.0])])
    with in_blocks_of(16):
        kept = box_nms(spoilt, more, 0.3, validate=False)
        expected = box_nms(boxes, scores, 0.3)
    assert [k for k in kept.tolist() if k < 80] == expected.tolist()


def test_oriented_boxes_that_barely_meet_far_away_are_not_lost():
    generator = torch.Generator().manual_seed(0)
    edge = torch.rand(400, 1, generator=generator, dtype=torch.float64)
    first = torch.cat([torch.full_like(edge, 1e9), 0 * edge, edge, edge, 0 * edge], dim=1)
    second = first.clone()
    second[:, :1] += (edge * 2**23).floor() / 2**23  # a little less than an edge
    boxes, labels = torch.cat([first, second]), torch.arange(400).repeat(2)
    meet = rotated_box_pair_iou(first, second) > 0
    assert meet.sum() > 100
    kept = rotated_nms(boxes, torch.arange(800.0, 0, -1), 0.0, labels)
    assert len(kept) == 800 - meet.sum()


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_crowded_boxes_take_no_longer_than_their_blocks_ask_for(threshold):
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(2000, 3, generator=generator)
    boxes = torch.cat([low, low + 10], dim=1)
    scores = torch.rand(2000, generator=generator)
    looked_at = []

    def counted(a, b):
        looked_at.append(len(a) * len(b))
        return box_iou(a, b)

    kept = box_nms(boxes, scores, threshold, overlap=counted)
    assert torch.equal(kept, box_nms(boxes, scores, threshold))
    assert threshold == 0.9 or sum(looked_at) < 2000 * 2000 / 4


@given(detections(), st.sampled_from([0.0, 0.3, 0.7]))
def test_a_second_suppression_changes_nothing(detected, threshold):
    boxes, scores, labels = detected
    kept = box_nms(boxes, scores, threshold, labels)
    again = box_nms(boxes[kept], scores[kept], threshold, labels[kept])
    assert again.tolist() == list(range(len(kept)))


def test_a_long_chain_is_resolved_one_after_the_other():
    low = torch.arange(300.0)
    boxes = torch.stack([low, low + 2], dim=1)
    kept = box_nms(boxes, torch.linspace(1, 0, 300), 0.3)
    assert kept.tolist() == list(range(0, 300, 2))


def test_equal_scores_stay_in_the_order_given():
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]]).repeat(5, 1)
    scores = torch.tensor([0.5, 0.7, 0.7, 0.5, 0.7])
    assert rotated_nms(boxes, scores, 0.5, torch.arange(5)).tolist() == [1, 2, 4, 0, 3]
    assert rotated_nms(boxes, scores, 0.5).tolist() == [1]


def test_two_thousand_boxes_take_well_below_a_second():
    boxes, scores = random_detections(2000)

    def seconds():
        start = time.perf_counter()
        box_nms(boxes, scores, 0.3)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(4)) < 1


@pytest.mark.slow
@pytest.mark.parametrize("room", [400.0, 20.0], ids=["as in a street", "crowded"])
@pytest.mark.parametrize("threshold", [0.1, 0.7])
def test_ten_thousand_oriented_boxes_take_seconds(room, threshold):
    boxes, scores = random_oriented(10_000, room)
    start = time.perf_counter()
    kept = rotated_nms(boxes, scores, threshold)
    assert time.perf_counter() - start < 30
    iou = rotated_box_iou(boxes[kept[:300]], boxes[kept[:300]])
    assert (iou.fill_diagonal_(0) <= threshold + 1e-6).all()


@given(detections(), st.sampled_from(["gaussian", "linear"]), st.sampled_from([0.0, 0.2]))
def test_soft_nms_decays_as_brute_force_does(detected, decay, score_threshold):
    boxes, scores, labels = detected
    scores = scores + torch.linspace(0, 0.1, len(scores)).double()  # no ties: rounding breaks them
    factors = {
        "gaussian": lambda iou: math.exp(-(iou**2) / 0.4),
        "linear": lambda iou: 1 - iou if iou > 0.25 else 1,
    }
    kept, decayed = soft_nms(
        boxes,
        scores,
        labels,
        decay=decay,
        sigma=0.4,
        iou_threshold=0.25,
        score_threshold=score_threshold + 1e-5,
    )
    listed = as_lists(boxes, scores, labels)
    expected = reference_soft_nms(*listed, factors[decay], score_threshold + 1e-5)
    assert kept.tolist() == [index for index, _ in expected]
    assert decayed.tolist() == pytest.approx([score for _, score in expected], abs=1e-12)


def test_soft_nms_leaves_its_input_as_it_was():
    boxes, scores = random_detections(50)
    before = scores.clone()
    soft_nms(boxes, scores)
    assert torch.equal(scores, before)


@pytest.mark.parametrize("decay", ["gaussian", "linear"])
def test_decayed_scores_fall_and_never_exceed_the_given_ones(decay):
    boxes, scores = random_detections(300)
    kept, decayed = soft_nms(boxes, scores, decay=decay)
    assert (decayed.diff() <= 0).all()
    assert (decayed <= scores[kept]).all()
    assert len(set(kept.tolist())) == len(kept)


@given(detections(), st.sampled_from([0.0, 0.3, 0.7, 1.0]), st.booleans())
def test_clusters_equal_those_of_brute_force(detected, threshold, many_views):
    boxes, scores, labels = detected
    weights = torch.linspace(0, 2, len(boxes)).double()
    expected = torch.full((len(boxes),), 3.0 if many_views else 0.0).double()
    with in_blocks_of(4):
        found, score, heads = weighted_box_clustering(
            boxes, scores, threshold, labels, weights=weights, expected=expected
        )
    listed = as_lists(boxes, scores)
    reference = reference_clusters(
        *listed, threshold, labels.tolist(), weights.tolist(), expected.tolist()
    )
    assert (score.diff() <= 0).all()
    assert sorted(heads.tolist()) == sorted(head for _, _, head in reference)
    for box, value, head in reference:
        place = heads.tolist().index(head)
        assert found[place].tolist() == pytest.approx(box, abs=1e-9)
        assert score[place].item() == pytest.approx(value, abs=1e-9)


@given(detections(), st.sampled_from([0.0, 0.3, 0.7]))
def test_heads_are_the_boxes_that_suppression_keeps(detected, threshold):
    boxes, scores, labels = detected
    _, _, heads = weighted_box_clustering(boxes, scores, threshold, labels)
    assert sorted(heads.tolist()) == sorted(box_nms(boxes, scores, threshold, labels).tolist())


def test_equal_boxes_cluster_to_themselves_and_to_the_mean_score():
    boxes = torch.tensor([[1.0, 2.0, 3.0, 4.0]]).repeat(4, 1)
    scores = torch.tensor([0.2, 0.4, 0.6, 0.8])
    found, score, heads = weighted_box_clustering(boxes, scores, 0.5)
    assert found.tolist() == [[1.0, 2.0, 3.0, 4.0]]
    assert score.item() == pytest.approx(0.5)
    assert heads.tolist() == [3]


def test_a_box_that_most_views_missed_loses_score():
    box, score = torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([0.8])
    for views in (1, 2, 4):
        _, found, _ = weighted_box_clustering(box, score, 0.5, expected=torch.tensor([views]))
        assert found.item() == pytest.approx(0.8 / views)


def test_volumes_as_weights_draw_the_mean_to_the_larger_box():
    boxes, scores = torch.tensor([[0.0, 10.0], [0.0, 14.0]]), torch.tensor([0.6, 0.5])
    even, _, _ = weighted_box_clustering(boxes, scores, 0.5)
    by_size, _, _ = weighted_box_clustering(boxes, scores, 0.5, weights=box_volume(boxes))
    assert 10 < even[0, 1] < by_size[0, 1] < 14


def test_clusters_without_score_are_their_heads():
    boxes = torch.tensor([[0.0, 10.0], [0.0, 14.0]])
    found, score, heads = weighted_box_clustering(boxes, torch.zeros(2), 0.5)
    assert found.tolist() == [[0.0, 10.0]]
    assert score.tolist() == [0.0]
    assert heads.tolist() == [0]


@pytest.mark.parametrize("parameters", [6, 7])
def test_no_box_gives_no_index(parameters):
    boxes, scores = torch.zeros(0, parameters), torch.zeros(0)
    if parameters == 7:
        kept = [rotated_nms(boxes, scores, 0.5)]
    else:
        clusters = weighted_box_clustering(boxes, scores, 0.5)
        assert clusters[0].shape == (0, 6)
        kept = [box_nms(boxes, scores, 0.5), soft_nms(boxes, scores)[0], clusters[2]]
    for indices in kept:
        assert indices.shape == (0,)
        assert indices.dtype == torch.int64


def test_half_precision_boxes_are_compared_in_float32():
    boxes, scores = random_detections(100)
    half = boxes.bfloat16()
    assert torch.equal(box_nms(half, scores, 0.3), box_nms(half.float(), scores, 0.3))


CALLS = {
    "box_nms": (partial(box_nms, iou_threshold=0.5), [[0.0, 1.0]]),
    "rotated_nms": (partial(rotated_nms, iou_threshold=0.5), [[0.0, 0.0, 1.0, 1.0, 0.0]]),
    "soft_nms": (soft_nms, [[0.0, 1.0]]),
    "clustering": (partial(weighted_box_clustering, iou_threshold=0.5), [[0.0, 1.0]]),
}


@pytest.mark.parametrize("name", CALLS)
def test_nan_scores_are_refused(name):
    call, box = CALLS[name]
    with pytest.raises(ValueError, match="scores must be numbers, got NaN"):
        call(torch.tensor(box), torch.tensor([float("nan")]))


@pytest.mark.parametrize("name", CALLS)
def test_a_threshold_out_of_range_is_refused(name):
    call, box = CALLS[name]
    with pytest.raises(ValueError, match=r"iou_threshold must lie in \[0, 1\], got 50"):
        call(torch.tensor(box), torch.tensor([0.5]), iou_threshold=50.0)


def test_a_negative_threshold_is_one_of_giou_alone():
    box, score = torch.tensor([[0.0, 1.0]]), torch.tensor([0.5])
    assert box_nms(box, score, -0.5, overlap=box_giou).tolist() == [0]
    with pytest.raises(ValueError, match=r"iou_threshold must lie in \[0, 1\], got -0.5"):
        box_nms(box, score, -0.5)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"decay": "cubic"}, "decay must be one of"),
        ({"sigma": 0.0}, "sigma must be above 0"),
        ({"score_threshold": -1.0}, "score_threshold must be at least 0"),
    ],
)
def test_options_of_soft_nms_out_of_range_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        soft_nms(torch.tensor([[0.0, 1.0]]), torch.tensor([0.5]), **option)


@pytest.mark.bad_input
@pytest.mark.parametrize("name", CALLS)
def test_scores_of_another_length_are_refused(name):
    call, box = CALLS[name]
    with pytest.raises(ValueError, match=r"scores must have shape \(1,\)"):
        call(torch.tensor(box), torch.tensor([0.5, 0.6]))
    with pytest.raises(ValueError, match=r"labels must have shape \(1,\)"):
        call(torch.tensor(box), torch.tensor([0.5]), labels=torch.tensor([1, 2]))


@pytest.mark.bad_input
@pytest.mark.parametrize(("overlap", "low"), [(box_iou, "0"), (box_giou, "-1"), (box_ciou, "-1.5")])
def test_a_threshold_lies_in_the_range_of_the_overlap(overlap, low):
    box, score = torch.tensor([[0.0, 1.0]]), torch.tensor([0.5])
    assert box_nms(box, score, float(low), overlap=overlap).tolist() == [0]
    for wrong in (float(low) - 0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=rf"iou_threshold must lie in \[{low}, 1\], got"):
            box_nms(box, score, wrong, overlap=overlap)


@pytest.mark.bad_input
@pytest.mark.parametrize("name", CALLS)
def test_what_is_not_a_tensor_is_refused(name):
    call, box = CALLS[name]
    with pytest.raises(TypeError, match="scores must be a torch.Tensor, got list"):
        call(torch.tensor(box), [0.5])


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "suppress", [soft_nms, partial(weighted_box_clustering, iou_threshold=0.5)]
)
def test_logits_are_refused_and_integers_become_floats(suppress):
    boxes = torch.tensor([[0.0, 4.0], [1.0, 5.0]])
    with pytest.raises(ValueError, match="scores must be at least 0 and finite"):
        suppress(boxes, torch.tensor([-1.0, -2.0]))
    assert suppress(boxes, torch.tensor([3, 2]))[1].is_floating_point()
