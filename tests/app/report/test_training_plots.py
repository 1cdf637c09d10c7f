"""Pictures of a training run: its curves, and boxes of a scan."""

from __future__ import annotations

import matplotlib.image
import numpy as np
import pytest
import torch

from softoverlap.app.report import plot_boxes, plot_curve, save_boxes_picture

ROWS = [
    {"epoch": "1", "step": "9", "learning_rate": "0.1", "loss": "2", "val_cpm": "", "val_ap": ""},
    {"epoch": "2", "step": "18", "learning_rate": "0.2", "loss": "1", "val_cpm": "0.5",
     "val_ap": "nan"},
]  # fmt: skip
NONE = torch.zeros(0, 6)
LESIONS = torch.tensor([[2.0, 3, 1, 5, 6, 3], [6.0, 6, 4, 14, 12, 7]])


def test_curves_are_drawn_where_they_have_values():
    loss, scores, rate = plot_curve(ROWS).axes
    assert [line.get_label() for line in loss.lines] == ["loss"]
    assert loss.lines[0].get_xydata().tolist() == [[9, 2], [18, 1]]
    assert [line.get_label() for line in scores.lines] == ["cpm"]
    assert scores.lines[0].get_xydata().tolist() == [[18, 0.5]]
    assert rate.lines[0].get_ydata().tolist() == [0.1, 0.2]
    with pytest.raises(ValueError, match="at least one epoch"):
        plot_curve([])


def test_the_slice_goes_through_the_largest_lesion():
    affine = torch.eye(4)
    image = torch.rand(16, 16, 8, generator=torch.Generator().manual_seed(0))
    found = LESIONS[:1] + 0.5
    figure = plot_boxes(image, affine, LESIONS, found, torch.tensor([0.25]))
    (axes,) = figure.axes
    assert axes.get_title() == "axial, S 5 mm"
    assert len(axes.patches) == 1  # the lesion of that slice
    figure = plot_boxes(image, affine, NONE, found, torch.tensor([0.25]))
    assert figure.axes[0].get_title() == "axial, S 2 mm"
    assert [text.get_text() for text in figure.axes[0].texts if "." in text.get_text()] == ["0.25"]


def test_boxes_have_their_classes_written_beside_them():
    image, scores = torch.zeros(16, 16, 8), torch.tensor([0.25])
    classes = {"truth_classes": ["core", "ed$ma"], "found_classes": ["a$b$c"]}
    figure = plot_boxes(image, torch.eye(4), LESIONS, LESIONS[1:], scores, **classes)
    words = [text.get_text() for text in figure.axes[0].texts]
    assert {"ed$ma", "a$b$c 0.25"} <= set(words)
    assert "core" not in words  # of another slice
    figure.canvas.draw()
    with pytest.raises(
        ValueError, match="truth_classes must name the class of each of 2 boxes, got"
    ):
        plot_boxes(image, torch.eye(4), LESIONS, NONE, NONE[:, 0], truth_classes=["core"])


def test_the_slice_is_one_that_the_scanner_took():
    affine = torch.diag(torch.tensor([4.0, 1, 1, 1]))
    figure = plot_boxes(torch.rand(16, 16, 8), affine, LESIONS, NONE, torch.zeros(0))
    assert figure.axes[0].get_title().startswith("sagittal")


def test_the_picture_is_what_was_written(tmp_path):
    path = tmp_path / "a.png"
    pixels = save_boxes_picture(path, torch.rand(8, 8, 8), torch.eye(4), NONE, NONE, NONE[:, 0])
    stored = matplotlib.image.imread(path)
    assert np.abs(stored[..., :3] * 255 - pixels).max() < 0.5
