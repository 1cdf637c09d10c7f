"""Notes are returned where there is a place for them, and are warnings elsewhere."""

from __future__ import annotations

import warnings

import pytest
import torch

from softoverlap.app.cohort import ScorePair, ScoreSettings, score_case
from softoverlap.images import (
    Hints,
    as_probabilities,
    load_raters,
    noted_box_files,
    noted_probabilities,
    read_boxes,
    read_json,
    save_nifti,
    write_json,
    write_markups,
)

LABELS = torch.tensor([0, 1, 2])


@pytest.mark.skipif(
    hasattr(as_probabilities, "__wrapped__"), reason="enforced shapes call it from a line of theirs"
)
def test_a_bare_value_comes_with_a_warning_at_the_line_of_the_caller():
    with pytest.warns(UserWarning, match="mask has no label 7, only 1, 2") as caught:
        as_probabilities(LABELS, label=7)
    assert caught[0].filename == __file__


def test_the_same_with_a_place_for_notes_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values, notes = noted_probabilities(LABELS, label=7)
    assert values.tolist() == [0, 0, 0]
    assert notes == ("mask has no label 7, only 1, 2",)


def test_boxes_keep_what_was_said_when_they_were_read(tmp_path):
    path = tmp_path / "a.mrk.json"
    write_markups(path, torch.tensor([[0.0, 0, 0, 4, 4, 2]]), torch.eye(4))
    content = read_json(path)
    write_json(path, {"markups": [*content["markups"], {"type": "Line"}]})
    with pytest.warns(UserWarning, match="1 markup is not an ROI") as caught:
        boxes = read_boxes(path, affine=torch.eye(4))
    assert [str(warning.message) for warning in caught] == list(boxes.notes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = noted_box_files(path, hints=Hints(affine=torch.eye(4)))
    assert files["a"].notes == boxes.notes


def test_scoring_and_fusing_emit_nothing_and_return_their_notes(tmp_path):
    mask = LABELS.reshape(3, 1, 1).expand(3, 4, 4).to(torch.uint8)
    paths = [tmp_path / "a.nii", tmp_path / "b.nii"]
    for path in paths:
        save_nifti(path, mask, torch.eye(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        result = score_case(ScorePair("a", paths[0], (paths[1],)), ScoreSettings(labels=(7,)))
        stack = load_raters(paths, label=7)
    expected = [f"{path} has no label 7, only 1, 2" for path in paths]
    assert result.rows[0]["warning"] == "; ".join(expected)
    assert list(stack.notes) == expected
