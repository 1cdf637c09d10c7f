import pytest
import torch

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
    weights = AnchorWeighting()(MATCHES, EXISTENCE)
    assert weights.box_weight.tolist() == pytest.approx([0.9, 0.5, 0.1, 0, 0])
    weights = AnchorWeighting(box_weight="one")(MATCHES, EXISTENCE)
    assert weights.box_weight.tolist() == [1, 1, 1, 0, 0]


def test_no_lesion_needs_no_existence():
    matches = Matches(torch.zeros(3), torch.full((3,), -1))
    weights = AnchorWeighting()(matches, torch.zeros(0))
    assert weights.target.tolist() == [0, 0, 0]


def test_a_lesion_without_existence_is_refused():
    with pytest.raises(ValueError, match="existence must hold a value for each lesion"):
        AnchorWeighting()(MATCHES, torch.ones(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "soft"}, "target must be one of"),
        ({"box_weight": "iou"}, "box_weight must be one of"),
        ({"floor": 1.5}, r"floor must lie in \[0, 1\]"),
    ],
)
def test_unknown_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AnchorWeighting(**options)
