"""The picture of a plan."""

import pytest
import torch

from softoverlap import AnchorPlan
from softoverlap.app.report import plot_plan
from tests.support.lesion_makers import ball_lesion

PLAN = AnchorPlan(
    strides=[(2, 2, 1), (4, 4, 2)], sizes=[[(3, 3, 2)], [(6, 6, 3)]], spacing=(1, 1, 3)
)


def test_each_class_is_a_row_of_its_lesions_by_rising_quality():
    lesions = [ball_lesion(side, [side, 2 * side, 3]) for side in (2, 3, 8, 9, 10, 11, 12, 13, 14)]
    quality = PLAN.quality(lesions)
    figure = plot_plan(PLAN, lesions, quality, ["small"] * 2 + ["large"] * 7)
    assert len(figure.axes) == 10
    assert [figure.axes[k].get_ylabel() for k in (0, 5)] == [
        "small\n2 lesions", "large\n7 lesions",
    ]  # fmt: skip
    shown = [float(axes.get_title()[:4]) for axes in figure.axes[5:]]
    assert shown == sorted(shown)
    assert [axes.get_title() for axes in figure.axes[2:5]] == [""] * 3
    assert all(len(axes.patches) == 2 for axes in figure.axes[5:])


def test_lesions_in_2d_are_drawn():
    plan = AnchorPlan(strides=[(2, 2)], sizes=[[(4, 3)]])
    lesion = ball_lesion(5, [0, 3], ndim=2)
    figure = plot_plan(plan, [lesion], plan.quality([lesion]), ["all"])
    assert " of " in figure.axes[0].get_title()


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="must be as many, at least one, got 0, 0 and 0"):
        plot_plan(PLAN, [], torch.zeros(0), [])
