"""Dwell time against a loop over frames, and temporal detection against the challenges' rules."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap import box_iou, box_nms
from softoverlap.boxes import decode_boxes, encode_boxes
from softoverlap.measures import (
    compute_average_precision,
    compute_dwell,
    dwell_intervals,
    dwell_time,
    expected_dwell_time,
)

LEVELS = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


def reference_intervals(overlap, low, high, min_frames, max_gap_frames):
    """Frame by frame, gap by gap, run by run."""
    runs, start = [], None
    for frame, value in enumerate([*overlap, -math.inf]):
        if value >= low and start is None:
            start = frame
        if value < low and start is not None:
            if max(overlap[start:frame]) >= high:
                runs.append([start, frame])
            start = None
    joined = []
    for run in runs:
        if joined and run[0] - joined[-1][1] <= max_gap_frames:
            joined[-1][1] = run[1]
        else:
            joined.append(list(run))
    return [run for run in joined if run[1] - run[0] >= min_frames]


@given(
    overlap=st.lists(LEVELS, max_size=30),
    levels=st.tuples(LEVELS, LEVELS).map(lambda pair: tuple(sorted(pair))),
    frames=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    fps=st.sampled_from([1, 10, 25.0, 30]),
)
def test_intervals_equal_the_reference(overlap, levels, frames, fps):
    shortest, widest = frames
    found = dwell_intervals(
        torch.tensor(overlap, dtype=torch.float64),
        levels,
        min_length=shortest / fps,
        max_gap=widest / fps,
        fps=fps,
    )
    expected = reference_intervals(overlap, *levels, shortest, widest)
    assert found.shape == (len(expected), 2)
    assert (found * fps).tolist() == [pytest.approx(run) for run in expected]
    frames_in = sum(end - start for start, end in expected)
    assert dwell_time(found) == pytest.approx(frames_in / fps)


def test_gaps_are_filled_before_short_runs_are_dropped():
    overlap = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0])
    assert dwell_intervals(overlap, 0.5, min_length=3, max_gap=1).tolist() == [[0, 3]]
    assert dwell_intervals(overlap, 0.5, min_length=2).tolist() == []
    assert dwell_intervals(overlap.bool(), 1).tolist() == [[0, 1], [2, 3], [6, 7]]
    assert dwell_intervals(torch.zeros(0), 0.5).shape == (0, 2)


@given(data=st.data())
def test_union_and_error_equal_those_of_small_cells(data):
    ends = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted)
    pred, truth = (data.draw(st.lists(ends, max_size=5)) for _ in range(2))
    sides = [{cell for low, high in side for cell in range(low, high)} for side in (pred, truth)]
    tensors = [torch.tensor(side, dtype=torch.float32).view(-1, 2) / 8 for side in (pred, truth)]
    dwell = compute_dwell(*tensors)
    either = sides[0] | sides[1]
    expected = len(sides[0] & sides[1]) / len(either) if either else 1
    assert dwell.temporal_iou == pytest.approx(expected)
    assert dwell.seconds_error == pytest.approx((len(sides[0]) - len(sides[1])) / 8)
    assert dwell_time(tensors[0]) == pytest.approx(len(sides[0]) / 8)


def test_expected_time_is_the_mean_over_all_films():
    probabilities = torch.tensor([0.2, 0.9, 0.5, 0.7], dtype=torch.float64, requires_grad=True)
    total = filled = 0.0
    for film in range(16):
        seen = torch.tensor([film >> frame & 1 for frame in range(4)], dtype=torch.float64)
        chance = (seen * probabilities + (1 - seen) * (1 - probabilities)).prod().item()
        total += chance * dwell_time(dwell_intervals(seen, 1, fps=2))
        filled += chance * dwell_time(dwell_intervals(seen, 1, fps=2, max_gap=0.5))
    expected = expected_dwell_time(probabilities, fps=2)
    assert expected.item() == pytest.approx(total)
    assert filled > total + 0.01  # filled gaps need the joint probability
    assert torch.autograd.gradcheck(lambda p: expected_dwell_time(p, fps=2), probabilities)


def test_long_films_and_half_precision_lose_no_frame():
    overlap = torch.zeros(1_000_000)
    overlap[[5, 999_998]] = 1
    runs = dwell_intervals(overlap, 0.5, fps=29.97)
    assert (runs[:, 1] - runs[:, 0]).tolist() == pytest.approx([1 / 29.97] * 2, rel=1e-6)
    assert len(dwell_intervals(overlap, 0.5, fps=29.97, min_length=1 / 29.97)) == 2
    total = expected_dwell_time(torch.ones(100_000, dtype=torch.float16))
    assert total.item() == 100_000
    assert total.dtype == torch.float32


@pytest.mark.bad_input
def test_bad_input_is_refused():
    overlap = torch.tensor([0.0, 1.0])
    for error, match, call in (
        (TypeError, "^overlap must be a torch.Tensor", lambda: dwell_intervals([0.1], 0.5)),
        (ValueError, "^overlap must have shape", lambda: dwell_intervals(overlap[None], 1)),
        (ValueError, "NaN in frame 1$", lambda: dwell_intervals(torch.tensor([0, math.nan]), 0.5)),
        (ValueError, "^threshold must be", lambda: dwell_intervals(overlap, (0.7, 0.5))),
        (ValueError, "^threshold must be a number, or", lambda: dwell_intervals(overlap, math.nan)),
        (ValueError, "^min_length must be", lambda: dwell_intervals(overlap, 1, min_length=-1)),
        (ValueError, "^max_gap must be", lambda: dwell_intervals(overlap, 1, max_gap=-0.1)),
        (ValueError, "^fps must be", lambda: dwell_intervals(overlap, 1, fps=0)),
        (ValueError, "^intervals must", lambda: dwell_time(torch.tensor([[2.0, 1.0]]))),
        (ValueError, "^truth must", lambda: compute_dwell(torch.zeros(1, 2), torch.zeros(1, 4))),
        (ValueError, r"^probabilities must hold", lambda: expected_dwell_time(overlap * 2)),
    ):
        with pytest.raises(error, match=match):
            call()


def film(generator, count, noise):
    """True segments of one film, and detections of them: shifted, doubled, and some of nothing."""
    start = torch.rand(count, generator=generator) * 90
    truth = torch.stack([start, start + 1 + 9 * torch.rand(count, generator=generator)], dim=1)
    near = truth.repeat(3, 1) + noise * torch.randn(3 * count, 2, generator=generator)
    boxes = torch.cat([near, torch.rand(5, 1, generator=generator) * 90 + torch.tensor([0.0, 5.0])])
    boxes = boxes.sort(dim=1).values
    return truth, boxes, torch.rand(len(boxes), generator=generator)


def activitynet_ap(films, threshold):
    """Average precision at one temporal IoU, from ActivityNet's definition.

    Detections of all films by falling score; each takes the free segment of its film that it
    overlaps most, if by at least the threshold; the area below the envelope of precision.
    """
    order = sorted(
        ((score, number, box) for number, (_, boxes, scores) in enumerate(films)
         for box, score in zip(boxes.tolist(), scores.tolist(), strict=True)), reverse=True,
    )  # fmt: skip
    taken, hits = [set() for _ in films], []
    for _, number, (start, end) in order:
        best, chosen = threshold, None
        for place, (low, high) in enumerate(films[number][0].tolist()):
            shared = max(0.0, min(end, high) - max(start, low))
            iou = shared / (end - start + high - low - shared)
            if iou >= best and place not in taken[number]:
                best, chosen = iou, place
        hits.append(chosen is not None)
        if chosen is not None:
            taken[number].add(chosen)
    total, points, found = sum(len(truth) for truth, *_ in films), [], 0
    for count, hit in enumerate(hits, start=1):
        found += hit
        points.append((found / total, found / count))
    area = before = 0.0
    for place, (recall, _) in enumerate(points):
        area += (recall - before) * max(precision for _, precision in points[place:])
        before = recall
    return area


@pytest.mark.parametrize("seed", range(3))
def test_temporal_average_precision_is_that_of_the_challenges(seed):
    generator = torch.Generator().manual_seed(seed)
    films = [film(generator, count, 1.0) for count in (3, 1, 6, 4)]
    films = [(truth.double(), boxes.double(), scores) for truth, boxes, scores in films]
    targets = [{"box": truth, "label": torch.zeros(len(truth)).long()} for truth, *_ in films]
    found = [
        {"box": boxes, "label": torch.zeros(len(boxes)).long(), "label_scores": scores}
        for _, boxes, scores in films
    ]
    thumos, activitynet = (0.3, 0.4, 0.5, 0.6, 0.7), tuple(k / 100 for k in range(50, 100, 5))
    for levels in (thumos, activitynet):
        ap = compute_average_precision(found, targets, thresholds=levels)
        for level, value in ap.per_threshold.items():
            assert value == pytest.approx(activitynet_ap(films, level), abs=1e-12)
        assert ap.mean == pytest.approx(sum(ap.per_threshold.values()) / len(levels))
    assert 0.05 < ap.mean < 0.95


def test_segments_are_coded_by_centre_and_duration_and_suppressed():
    anchor, segment = torch.tensor([[10.0, 14.0]]), torch.tensor([[11.0, 19.0]])
    code = encode_boxes(segment, anchor)
    assert code[0].tolist() == pytest.approx([3 / 4, math.log(2)])
    assert torch.allclose(decode_boxes(code, anchor), segment)
    segments = torch.cat([segment, segment + 1, anchor])
    assert box_iou(segments[:1], segments[1:2]).item() == pytest.approx(7 / 9)
    assert box_nms(segments, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 2]
