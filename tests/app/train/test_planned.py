"""A plan that was made of other scans than those to train on."""

from __future__ import annotations

import json

import pytest

from softoverlap.app.train import TrainingRun, training_config
from softoverlap.app.train.planned import doubts_about_plan, planned_settings
from softoverlap.app.train.reading import CheckedScans
from tests.support.bundle_runs import tiny_scans

PLAN = {
    "axes": "RAS",
    "spacing": [1.0, 1.0, 1.5],
    "patch_size": [16, 16, 16],
    "strides": [[2, 2, 2], [4, 4, 4]],
    "sizes": [[[3, 3, 3]], [[6, 6, 6]]],
}


def doubts(folder, scans_spacing, extent, **changes):
    """What is odd about the plan on scans of this spacing, the longest of these edges."""
    path = folder / "plan.json"
    path.write_text(json.dumps(PLAN))
    config = training_config("d", "o", plan=path, settings=changes)
    scans = CheckedScans(3, 2, scans_spacing, ((0.0,), (1.0,)), extent)
    return doubts_about_plan(config, planned_settings(path), scans)


@pytest.mark.parametrize(
    ("spacing", "extent", "words"),
    [
        ((1.0, 1.0, 1.5), (32.0, 32.0, 36.0), None),
        ((0.7, 1.4, 2.0), (13.0, 13.0, 19.5), None),  # up to a factor 1.5, and the stride
        (
            (1.0, 0.6, 1.5),
            (32.0, 32.0, 36.0),
            "a spacing of 1 x 1 x 1.5 mm, the scans one of 1 x 0.6 x 1.5 mm: was it made of these",
        ),
        (
            (1.0, 1.0, 1.5),
            (32.0, 12.0, 36.0),
            "of 16 x 16 x 16 voxels, larger than every scan, which has at most 32 x 12 x 24 at",
        ),
    ],
)
def test_a_plan_of_far_spacing_or_of_too_large_patches_is_doubted(tmp_path, spacing, extent, words):
    told = doubts(tmp_path, spacing, extent)
    assert len(told) == (words is not None)
    assert all(str(words) in one for one in told)


def test_what_a_user_chose_in_place_of_the_plan_is_not_doubted(tmp_path):
    small = (32.0, 12.0, 36.0)
    assert doubts(tmp_path, (1.0, 1.0, 1.5), small, patch_size=[20, 20, 20]) == ()
    own = {"strides": [2, 2, 2], "sizes": None, "spacing": [1.0, 2.0, 1.5]}
    assert doubts(tmp_path, (1.0, 2.0, 1.5), (32.0, 32.0, 36.0), **own, patch_size=[16] * 3) == ()


def test_a_training_tells_it_after_the_scans_are_read(tmp_path):
    scans = tiny_scans(tmp_path / "scans", count=2)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**PLAN, "spacing": [1.0, 1.0, 5.0], "patch_size": [16, 16, 64]}))
    notes = TrainingRun(scans, tmp_path / "out", plan=path, device="cpu").check().notes
    assert [note.split(",")[0] for note in notes if "made of these" in note] == [
        "the plan has a spacing of 1 x 1 x 5 mm",
        "the plan has patches of 16 x 16 x 64 voxels",
    ]
    path.write_text(json.dumps(PLAN))
    run = TrainingRun(scans, tmp_path / "out", plan=path, device="cpu")
    assert not any("made of these" in note for note in run.check().notes)
