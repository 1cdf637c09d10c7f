"""Cases whose masks lie on other grids: cropped to what is marked, far away, without an affine."""

from __future__ import annotations

import json

import pytest
import torch

from softoverlap.app.cohort import ScorePair, ScoreSettings, find_pairs, score_case, score_cohort
from softoverlap.images import save_nifti, write_boxes

SHAPE = (40, 36, 30)
RESAMPLE = ScoreSettings(geometry="resample")
AFFINE = torch.tensor([[-1.0, 0, 0, 90], [0, 1.2, 0, -126], [0, 0, 2.5, -72], [0, 0, 0, 1]])
PLACES = ("error", "warning", "pred", "truth", "geometry_displacement_voxels")


def scan():
    """A truth of two lesions, and a prediction with one of them and two that are false."""
    truth, pred = torch.zeros(SHAPE), torch.zeros(SHAPE)
    truth[15:20, 15:20, 12:16] = truth[22:25, 20:24, 14:17] = 1
    pred[16:20, 15:20, 12:16] = 0.9
    pred[0:4, 0:4, 0:3] = pred[36:40, 30:36, 26:30] = 0.8
    return pred, truth


def save(path, mask, low=(0, 0, 0), high=SHAPE, affine=AFFINE):
    """The mask cropped to a window."""
    matrix = affine.clone()
    matrix[:3, 3] += matrix[:3, :3] @ torch.tensor(low).float()
    window = tuple(slice(first, end) for first, end in zip(low, high, strict=True))
    save_nifti(path, mask[window].clone(), matrix)
    return path


def tight(mask):
    marked = mask.nonzero()
    return marked.amin(dim=0).tolist(), (marked.amax(dim=0) + 1).tolist()


def scored(pred, truth, settings=RESAMPLE):
    return score_case(
        ScorePair("a", pred, truth if isinstance(truth, tuple) else (truth,)), settings
    )


def numbers(result):
    """All that is said of the case but the files and their grids."""
    rows = [{k: v for k, v in row.items() if k not in PLACES} for row in result.rows]
    return json.loads(json.dumps([rows, result.lesions, result.boxes, result.statistics]))


def same(rows, others):
    """Equal but for what float32 does to a volume."""
    return all(
        row.keys() == other.keys()
        and all(v == other[k] or v == pytest.approx(other[k], rel=1e-6) for k, v in row.items())
        for row, other in zip(rows, others, strict=True)
    )


@pytest.mark.parametrize("cut", ["truth", "one voxel", "flipped"])
def test_a_cropped_truth_gives_the_numbers_of_the_whole_one(tmp_path, cut):
    pred, truth = scan()
    if cut == "one voxel":
        truth *= 0
    whole = scored(save(tmp_path / "p.nii", pred), save(tmp_path / "t.nii", truth))
    low, high = ([19, 3, 7], [20, 4, 8]) if cut == "one voxel" else tight(truth)
    path = save(tmp_path / "small.nii", truth, low, high)
    if cut == "flipped":
        small = truth[tuple(map(slice, low, high))].flip(1).clone()
        matrix = AFFINE.clone()
        matrix[:3, 3] += matrix[:3, :3] @ torch.tensor([low[0], high[1] - 1, low[2]]).float()
        matrix[:3, 1] *= -1
        save_nifti(path, small, matrix)
    found = scored(tmp_path / "p.nii", path)
    (row,) = found.rows
    assert row["false_positives"] == (3 if cut == "one voxel" else 2)
    words = "marks nothing" if cut == "one voxel" else "its voxels were placed by the affines"
    assert words in row["warning"]
    ours, wholes = numbers(found), numbers(whole)
    assert same(ours[0], wholes[0])
    assert ours[3] == wholes[3]


def test_places_are_in_voxels_of_the_truths_file(tmp_path):
    pred, truth = scan()
    low, high = tight(truth)
    whole = scored(save(tmp_path / "p.nii", pred), save(tmp_path / "t.nii", truth))
    found = scored(tmp_path / "p.nii", save(tmp_path / "small.nii", truth, low, high))
    assert len(found.boxes) == 3
    for table in ("lesions", "boxes"):
        for own, other in zip(getattr(found, table), getattr(whole, table), strict=True):
            shift = {
                f"{name}{end}": low[axis]
                for axis in range(3)
                for name, end in (
                    (f"centre_axis{axis}", ""),
                    (f"axis{axis}", "_min"),
                    (f"axis{axis}", "_max"),
                )
            }
            assert {k: v + shift.get(k, 0) if k in shift else v for k, v in own.items()} == other


def test_both_sides_and_all_raters_may_be_cropped(tmp_path):
    pred, truth = scan()
    second = truth.clone()
    second[30:33, 4:8, 20:24] = 1
    masks = {"p": pred, "r1": truth, "r2": second}
    whole = {name: save(tmp_path / f"{name}.nii", mask) for name, mask in masks.items()}
    small = {
        name: save(tmp_path / f"{name}-.nii", mask, *tight(mask)) for name, mask in masks.items()
    }
    expected = scored(whole["p"], (whole["r1"], whole["r2"])).rows[0]
    found = scored(small["p"], (small["r1"], small["r2"])).rows[0]
    for name in ("soft_dice", "lesions", "lesion_recall", "false_positives", "pred_volume_ml"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6)


def test_two_crops_that_do_not_meet_are_a_miss_and_a_false_positive(tmp_path):
    mask = torch.zeros(SHAPE)
    mask[2:5, 2:5, 2:5] = 1
    other = mask.flip(0)
    paths = [save(tmp_path / f"{n}.nii", m, *tight(m)) for n, m in enumerate((mask, other))]
    (row,) = scored(*paths).rows
    assert (row["soft_dice"], row["lesion_recall"], row["false_positives"]) == (0, 0, 1)
    assert "shares no space with it" in row["warning"]


@pytest.mark.parametrize("turned", [False, True])
def test_boxes_against_a_cropped_mask_are_all_counted(tmp_path, turned):
    _, truth = scan()
    boxes = torch.tensor([[15.0, 15, 12, 20, 20, 16], [22, 20, 14, 25, 24, 17]]).double()
    far = torch.tensor([[0.0, 0, 0, 4, 4, 3], [36, 30, 26, 40, 36, 30]]).double()
    boxes = torch.cat([boxes, far])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6]).double()
    write_boxes(tmp_path / "b.json", boxes, scores=scores, affine=AFFINE.double())
    mask = save(tmp_path / "t.nii", truth, *tight(truth))
    result = scored(*((mask, tmp_path / "b.json") if turned else (tmp_path / "b.json", mask)))
    (row,) = result.rows
    missed = row["lesions"] - row["lesions_found"]
    assert (row["lesions_found"], row["false_positives"], missed) == (
        (2, 0, 2) if turned else (2, 2, 0)
    )


@pytest.mark.bad_input
def test_a_lost_affine_is_an_error_with_its_cure_and_index_scores_it(tmp_path):
    pred, truth = scan()
    save(tmp_path / "whole.nii", pred)
    save(tmp_path / "t.nii", truth)
    save_nifti(tmp_path / "p.nii", pred, torch.eye(4))
    pair = tmp_path / "p.nii", tmp_path / "t.nii"
    words = (
        r"the affine of \S*p\.nii looks as if it was lost when the mask was saved: store it with"
    )
    for settings in (ScoreSettings(), RESAMPLE):
        with pytest.raises(ValueError, match=words):
            scored(*pair, settings)
    found = scored(*pair, ScoreSettings(geometry="index"))
    assert numbers(found) == numbers(scored(tmp_path / "whole.nii", pair[1]))
    assert "looks as if it was lost" in found.rows[0]["warning"]


@pytest.mark.bad_input
def test_boxes_of_a_mask_without_its_affine_are_named_and_index_takes_them(tmp_path):
    _, truth = scan()
    mask = save(tmp_path / "t.nii", truth)
    boxes = torch.tensor([[15.0, 15, 12, 20, 20, 16], [22, 20, 14, 25, 24, 17]]).double()
    write_boxes(tmp_path / "b.json", boxes, affine=torch.eye(4).double())
    for settings in (ScoreSettings(), RESAMPLE):
        with pytest.raises(ValueError, match=r"the affine of \S*b\.json looks as if it was lost"):
            scored(tmp_path / "b.json", mask, settings)
    (row,) = scored(tmp_path / "b.json", mask, ScoreSettings(geometry="index")).rows
    assert (row["lesions_found"], row["false_positives"]) == (2, 0)


@pytest.mark.bad_input
def test_grids_too_far_apart_are_an_error_before_memory_is_taken(tmp_path):
    pred, truth = scan()
    away = AFFINE.clone()
    away[:3, 3] += 50000
    save_nifti(tmp_path / "p.nii", pred, away)
    with pytest.raises(ValueError, match="got grids so far apart that one for all would have"):
        scored(tmp_path / "p.nii", save(tmp_path / "t.nii", truth))


def test_a_link_to_nothing_and_a_missing_scan_leave_the_others_scored(tmp_path):
    pred, truth = scan()
    for side, mask in (("pred", pred), ("truth", truth)):
        (tmp_path / side).mkdir()
        save(tmp_path / side / "a.nii", mask)
    (tmp_path / "pred/b.nii").symlink_to("gone")
    (tmp_path / "truth/b.nii").symlink_to("gone")
    (tmp_path / "truth/c.nii").symlink_to(tmp_path / "truth/a.nii")
    result = score_cohort(find_pairs(tmp_path / "pred", tmp_path / "truth"), tmp_path / "out")
    found = {one.case: one.error for one in result.results}
    assert found["a"] is None
    assert "b.nii is a link whose target is missing" in str(found["b"])
    assert found["c"] == "no prediction"
