import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap.anchors import AnchorWeighting, Matches

MATCHES = Matches(
    quality=torch.tensor([0.9, 0.5, 0.0, 0.3, 0.2]), index=torch.tensor([0, 1, 1, -1, -2])
)
EXISTENCE = torch.tensor([1.0, 0.4])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("hard", [1, 1, 1, 0, 0]),
        ("existence", [1, 0.4, 0.4, 0, 0]),
        ("quality", [0.9, 0.5, 0.1, 0, 0]),
        ("existence_quality", [0.9, 0.2, 0.04, 0, 0]),
    ],
)
def test_the_target_is_what_its_name_says(target, expected):
    weights = AnchorWeighting(target=target, floor=0.1)(MATCHES, EXISTENCE)
    assert weights.target.tolist() == pytest.approx(expected)


def test_background_weighs_one_and_ignored_anchors_nothing():
    weights = AnchorWeighting()(MATCHES, EXISTENCE)
    assert weights.cls_weight.tolist() == [1, 1, 1, 1, 0]
    weights = AnchorWeighting(cls_weight="quality")(MATCHES, EXISTENCE)
    assert weights.cls_weight.tolist() == pytest.approx([0.9, 0.5, 0.1, 1, 0])


def test_only_positives_regress():
    weights = AnchorWeighting(box_weight="quality")(MATCHES, EXISTENCE)
    assert weights.box_weight.tolist() == pytest.approx([0.9, 0.5, 0.1, 0, 0])
    weights = AnchorWeighting(box_weight="one")(MATCHES, EXISTENCE)
    assert weights.box_weight.tolist() == [1, 1, 1, 0, 0]


def test_by_default_every_positive_counts_one_as_in_retinanet():
    assert AnchorWeighting() == AnchorWeighting(target="hard", cls_weight="one", box_weight="one")


def test_no_lesion_needs_no_existence():
    matches = Matches(torch.zeros(3), torch.full((3,), -1))
    weights = AnchorWeighting()(matches, torch.zeros(0))
    assert weights.target.tolist() == [0, 0, 0]


def test_a_lesion_without_existence_is_refused():
    for target in ("existence", "existence_quality"):
        with pytest.raises(ValueError, match="existence must hold a value for each lesion"):
            AnchorWeighting(target=target)(MATCHES, torch.ones(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "soft"}, "target must be one of"),
        ({"box_weight": "iou"}, "box_weight must be one of"),
        ({"floor": 1.5}, r"floor must lie in \[0, 1\]"),
        ({"gamma": -1.0}, "gamma must be at least 0"),
        ({"eta": -1.0}, "eta must be at least 0"),
        ({"ignore_band": (0.0, 0.4)}, "ignore_band must satisfy 0 < low <= high <= 1, got"),
        ({"ignore_band": (0.5, 0.4)}, "ignore_band must satisfy 0 < low <= high <= 1, got"),
    ],
)
def test_unknown_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AnchorWeighting(**options)


def weights_of(matches=MATCHES, **options):
    return AnchorWeighting(**options)(matches, EXISTENCE)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"box_weight": "focal", "gamma": 2.0}, [0.01, 0.25, 0.81, 0, 0]),
        ({"box_weight": "focal", "gamma": 0.5}, [0.1**0.5, 0.5**0.5, 0.9**0.5, 0, 0]),
        ({"box_weight": "iou_balanced", "eta": 1.0}, [3 * 0.9 / 1.5, 1.0, 0.2, 0, 0]),
        ({"box_weight": "iou_balanced", "eta": 0.0}, [1, 1, 1, 0, 0]),
        (
            {"box_weight": "iou_balanced", "eta": 2.0, "floor": 0.0},
            [2.43 / 1.06, 0.75 / 1.06, 0, 0, 0],
        ),
        ({"box_weight": "rank"}, [1, 4 / 3, 2 / 3, 0, 0]),
    ],
)
def test_the_regression_weight_has_its_closed_form(options, expected):
    assert weights_of(**options).box_weight.tolist() == pytest.approx(expected)


def test_equal_qualities_share_their_mean_rank():
    matches = Matches(torch.tensor([0.5, 0.9, 0.5, 0.2]), torch.tensor([3, 3, 3, 3]))
    weights = AnchorWeighting(box_weight="rank")(matches, torch.ones(4))
    assert weights.box_weight.tolist() == pytest.approx([1.0, 1.6, 1.0, 0.4])


def test_lesions_share_alike_where_asked():
    weights = weights_of(box_weight="quality", cls_weight="quality", normalize_per_lesion=True)
    expected = [0.75, 0.75 * 5 / 6, 0.75 / 6]
    assert weights.box_weight.tolist() == pytest.approx([*expected, 0, 0])
    assert weights.cls_weight.tolist() == pytest.approx([*expected, 1, 0])


def test_a_lesion_without_any_weight_gets_its_share_too():
    matches = Matches(torch.tensor([1.0, 1.0, 0.5]), torch.tensor([0, 0, 1]))
    weights = AnchorWeighting(box_weight="focal", normalize_per_lesion=True)(matches, EXISTENCE)
    assert weights.box_weight.tolist() == pytest.approx([0.0625, 0.0625, 0.125])


def test_background_in_the_band_is_ignored_and_positives_are_not():
    matches = Matches(
        torch.tensor([0.35, 0.29, 0.3, 0.4, 0.41, 0.35]), torch.tensor([0, -1, -1, -1, -1, -2])
    )
    weights = weights_of(matches, ignore_band=(0.3, 0.4))
    assert weights.cls_weight.tolist() == [1, 1, 0, 0, 1, 0]
    assert weights_of(matches).cls_weight.tolist() == [1, 1, 1, 1, 1, 0]


SETTINGS = [
    {"box_weight": box, "cls_weight": cls, "normalize_per_lesion": alike}
    for box in ("one", "quality", "focal", "iou_balanced", "rank")
    for cls in ("one", "quality")
    for alike in (False, True)
]


@st.composite
def matched(draw):
    """Anchors of up to 5 lesions, with fallbacks and equal qualities among them."""
    values = st.one_of(st.sampled_from([-0.5, 0.0, 0.5, 1.0]), st.floats(0, 1, width=32))
    rows = draw(st.lists(st.tuples(values, st.integers(-2, 4)), max_size=20))
    quality = torch.tensor([value for value, _ in rows], dtype=torch.float64)
    return Matches(quality, torch.tensor([index for _, index in rows], dtype=torch.int64))


@given(matched(), st.sampled_from(SETTINGS), st.floats(0, 1))
def test_weights_are_finite_and_belong_to_whom_they_should(matches, options, floor):
    weights = AnchorWeighting(floor=floor, **options)(matches, torch.ones(5))
    for value in (weights.target, weights.cls_weight, weights.box_weight):
        assert torch.isfinite(value).all()
        assert (value >= 0).all()
    assert (weights.target <= 1).all()
    assert (weights.target[matches.positive] >= floor).all()
    assert (weights.box_weight[~matches.positive] == 0).all()
    assert (weights.cls_weight[matches.index == -1] == 1).all()
    assert (weights.cls_weight[matches.index == -2] == 0).all()


@given(matched(), st.sampled_from(["iou_balanced", "rank"]))
def test_balanced_and_rank_keep_the_sum_of_equal_weights(matches, kind):
    weights = AnchorWeighting(box_weight=kind)(matches, torch.ones(5)).box_weight
    assert weights.sum().item() == pytest.approx(int(matches.positive.sum()))
    if kind == "rank":
        for lesion in range(5):
            mine = matches.index == lesion
            assert weights[mine].sum().item() == pytest.approx(int(mine.sum()))


@given(matched(), st.sampled_from(SETTINGS))
def test_every_lesion_has_the_same_sum_and_the_total_stays(matches, options):
    before = AnchorWeighting(**{**options, "normalize_per_lesion": False})(matches, torch.ones(5))
    after = AnchorWeighting(**{**options, "normalize_per_lesion": True})(matches, torch.ones(5))
    served = matches.index[matches.positive].unique().tolist()
    for name in ("cls_weight", "box_weight"):
        total = getattr(before, name)[matches.positive].sum().item()
        for lesion in served:
            mine = getattr(after, name)[matches.index == lesion]
            assert mine.sum().item() == pytest.approx(total / len(served), abs=1e-12)


@given(matched(), st.sampled_from(["quality", "focal", "iou_balanced", "rank"]))
def test_weights_follow_quality_and_focal_ones_run_against_it(matches, kind):
    weights = AnchorWeighting(box_weight=kind, floor=0.0)(matches, torch.ones(5)).box_weight
    sign = -1 if kind == "focal" else 1
    for lesion in range(5):
        mine = matches.index == lesion
        order = matches.quality[mine].clamp(min=0).argsort()
        assert (sign * weights[mine][order].diff() >= -1e-12).all()


@given(matched())
def test_a_fallback_is_weighed_as_if_it_had_the_floor(matches):
    lifted = Matches(matches.quality.where(~matches.fallback, 0.1), matches.index)
    for options in SETTINGS:
        one = AnchorWeighting(floor=0.1, **options)(matches, torch.ones(5))
        other = AnchorWeighting(floor=0.1, **options)(lifted, torch.ones(5))
        assert torch.equal(one.target, other.target)
        assert torch.equal(one.box_weight, other.box_weight)


def test_the_weights_keep_the_type_of_the_quality():
    for dtype in (torch.float16, torch.float32, torch.float64):
        matches = Matches(MATCHES.quality.to(dtype), MATCHES.index)
        for options in SETTINGS:
            weights = weights_of(matches, **options)
            assert weights.target.dtype == weights.cls_weight.dtype == dtype
            assert weights.box_weight.dtype == dtype
