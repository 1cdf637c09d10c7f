"""Pairs that could be taken for others: one file twice, links to nothing, names in other forms."""

from __future__ import annotations

import os
import re
import unicodedata

import pytest

from softoverlap.app.cohort import find_pairs, read_pairs
from tests.support.pairs import errors, make, paired


def names_of(table):
    return {case: tuple(path.name for path in files) for case, files in paired(table).items()}


ENDS = [".json", ".npz", ".mrk.json", ".csv", ".nii.gz"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("turned", [False, True])
def test_boxes_pair_with_masks_without_a_pattern(tmp_path, end, turned):
    make(tmp_path, f"found/a_boxes{end}", f"found/b_boxes{end}", "truth/a.nii.gz", "truth/b.nii.gz")
    make(tmp_path, "found/boxes.csv", "found/cases.csv")
    sides = [tmp_path / "found", tmp_path / "truth"]
    table = find_pairs(*(sides[::-1] if turned else sides))
    expected = (f"a_boxes{end}", "a.nii.gz")
    assert names_of(table)["a"] == (expected[::-1] if turned else expected)
    assert list(paired(table)) == ["a", "b"]


@pytest.mark.parametrize("turned", [False, True])
def test_what_detect_writes_beside_its_boxes_is_skipped_and_named(tmp_path, turned):
    ends = ("_boxes.json", "_boxes.mrk.json", "_heatmap.nii.gz")
    make(tmp_path, *(f"found/{case}{end}" for case in "ab" for end in ends))
    make(tmp_path, "found/scans.csv", "found/detections.csv", "truth/a.nii", "truth/b.nii")
    sides = [tmp_path / "found", tmp_path / "truth"]
    table = find_pairs(*(sides[::-1] if turned else sides))
    pair = names_of(table)["a"]
    assert (pair[::-1] if turned else pair) == ("a_boxes.json", "a.nii")
    assert {(file.path.name, file.reason) for file in table.passed_by} == {
        (f"{case}{end}", f"{case}_boxes.json is used") for case in "ab" for end in ends[1:]
    }


def test_boxes_on_both_sides_keep_the_name_that_they_share(tmp_path):
    make(tmp_path, "found/a_boxes.json", "truth/a_boxes.json", "truth/a.json")
    assert list(paired(find_pairs(tmp_path / "found", tmp_path / "truth"))) == ["a_boxes"]


def test_a_heat_map_without_boxes_is_a_mask(tmp_path):
    make(tmp_path, "found/a_heatmap.nii", "truth/a_heatmap.nii")
    assert list(paired(find_pairs(tmp_path / "found", tmp_path / "truth"))) == ["a_heatmap"]


@pytest.mark.bad_input
@pytest.mark.parametrize("way", ["same", "relative", "link", "dots"])
def test_one_folder_is_not_both_sides(tmp_path, way, monkeypatch):
    make(tmp_path, "truth/a.nii", "truth/sub/b.nii")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").symlink_to("truth")
    names = {"same": tmp_path / "truth", "relative": "truth", "link": "other", "dots": "truth/."}
    with pytest.raises(ValueError, match="truth must be another folder than `pred=`"):
        find_pairs(names[way], tmp_path / "truth")


@pytest.mark.bad_input
@pytest.mark.parametrize("way", ["same", "link", "hard link", "chain"])
def test_one_file_is_not_both_sides(tmp_path, way):
    make(tmp_path, "pred/z.nii", "truth/a.nii")
    truth, pred = tmp_path / "truth/a.nii", tmp_path / "pred/a.nii"
    if way == "same":
        pred = truth
    elif way == "hard link":
        os.link(truth, pred)
    else:
        (tmp_path / "step.nii").symlink_to(truth)
        pred.symlink_to(truth if way == "link" else tmp_path / "step.nii")
    with pytest.raises(ValueError, match="truth must be another file than `pred=`"):
        find_pairs(pred, truth)
    table = tmp_path / "pairs.csv"
    table.write_text(f"case,pred,truth\na,{pred},{truth}\n")
    assert errors(read_pairs(table))["a"].startswith(
        "one file is both the prediction and the truth"
    )
    if way != "same":
        found = errors(find_pairs(tmp_path / "pred", tmp_path / "truth"))
        assert found["a"].startswith("one file is both the prediction and the truth")


def test_equal_contents_in_a_store_of_git_annex_are_two_files(tmp_path):
    make(tmp_path, ".git/annex/objects/key", "pred/x.nii", "truth/x.nii")
    for side in ("pred", "truth"):
        (tmp_path / side / "a.nii").symlink_to("../.git/annex/objects/key")
    assert list(paired(find_pairs(tmp_path / "pred", tmp_path / "truth"))) == ["a", "x"]


BIDS = ["01/ses-1", "01/ses-2", "02/ses-1"]


def bids(folder, *, pred="desc-net_probseg", truth="desc-lesion_mask", run=""):
    for place in BIDS:
        name = f"sub-{place.replace('/', '_')}{run}"
        make(
            folder, f"sub-{place}/anat/{name}_{truth}.nii.gz", f"sub-{place}/anat/{name}_T1w.nii.gz"
        )
        make(folder, f"derivatives/net/sub-{place}/anat/{name}_{pred}.nii.gz")
    return folder / "derivatives/net", folder


@pytest.mark.parametrize("run", ["", "_run-01"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_derivative_below_the_root_pairs_by_subject_session_and_run(tmp_path, run, turned):
    sides = bids(tmp_path, run=run)
    table = find_pairs(*(sides[::-1] if turned else sides))
    end = run.replace("01", "1")
    assert list(paired(table)) == [f"sub-{place.replace('/', '_')}{end}" for place in BIDS]
    for pair in table.matched:
        pred, (truth,) = (pair.truth[0], (pair.pred,)) if turned else (pair.pred, pair.truth)
        assert "derivatives" in pred.parts
        assert "derivatives" not in truth.parts
        assert truth.name.endswith("_mask.nii.gz")
    assert errors(table) == {}
    assert len(table.passed_by) == 3  # the scans


def test_runs_are_numbers_and_raters_stay_raters(tmp_path):
    make(tmp_path, "p/sub-1_run-1_probseg.nii")
    make(tmp_path, *(f"t/sub-1_run-01_mask_rater{number}.nii" for number in (1, 2)))
    (pair,) = find_pairs(tmp_path / "p", tmp_path / "t").matched
    assert (pair.case, len(pair.truth)) == ("sub-1_run-1", 2)


def test_a_subject_of_one_side_alone_is_an_error_of_its_case(tmp_path):
    sides = bids(tmp_path)
    make(tmp_path, "sub-03/anat/sub-03_ses-1_desc-lesion_mask.nii.gz")
    assert errors(find_pairs(*sides)) == {"sub-03_ses-1": "no prediction"}


@pytest.mark.bad_input
def test_two_masks_of_a_subject_ask_for_a_pattern_that_works(tmp_path):
    sides = bids(tmp_path)
    for place in BIDS:
        name = f"sub-{place.replace('/', '_')}_desc-brain_mask.nii.gz"
        make(tmp_path, f"sub-{place}/anat/{name}")
    with pytest.raises(ValueError, match="truth must have one file for each subject") as caught:
        find_pairs(*sides)
    options = dict(re.findall(r'`(\w+)=` "([^"]+)"', str(caught.value)))
    assert options["truth_pattern"] == "{case}_desc-lesion_mask.nii.gz"
    assert len(find_pairs(*sides, **options).matched) == 3


def test_the_results_of_another_net_are_not_taken_for_the_truth(tmp_path):
    sides = bids(tmp_path)
    make(
        tmp_path, *(f"derivatives/old/sub-{place.replace('/', '_')}_probseg.nii" for place in BIDS)
    )
    with pytest.raises(ValueError, match="truth must have one file for each subject"):
        find_pairs(*sides)


def test_names_of_one_unicode_form_or_another_are_one_name(tmp_path):
    composed, apart = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    make(tmp_path, f"pred/{composed}.nii", f"truth/{apart}.nii")
    assert list(paired(find_pairs(tmp_path / "pred", tmp_path / "truth"))) == [composed]
    for text in (composed, apart):
        table = find_pairs(
            tmp_path / "pred",
            tmp_path / "truth",
            pred_pattern=f"{{case}}{text[1:]}.nii",
            truth_pattern=f"{{case}}{text[1:]}.nii",
        )
        assert list(paired(table)) == ["Z"]
    written = tmp_path / "pairs.csv"
    written.write_text(f"case,pred,truth\n{apart},pred/{apart}.nii,truth/{composed}.nii\n")
    assert list(paired(read_pairs(written))) == [composed]
    make(tmp_path, f"pred/{apart}.nii")  # where the disk has both forms, two files
    found = errors(find_pairs(tmp_path / "pred", tmp_path / "truth"))
    assert found[composed].startswith("several predictions")


@pytest.mark.parametrize("side", ["pred", "truth"])
@pytest.mark.parametrize("pattern", [None, "{case}.nii"])
def test_a_link_whose_target_is_missing_is_an_error_on_either_side(tmp_path, side, pattern):
    make(tmp_path, "pred/a.nii", "truth/a.nii", "pred/c.nii", "truth/c.nii")
    link = tmp_path / side / "c.nii"
    link.unlink()
    link.symlink_to("../.git/annex/objects/xx/c")
    options = {"pred_pattern": pattern, "truth_pattern": pattern}
    found = errors(find_pairs(tmp_path / "pred", tmp_path / "truth", **options))
    assert list(found) == ["c"]
    assert f"{link} is a link whose target is missing" in found["c"]
    table = tmp_path / "pairs.csv"
    table.write_text("case,pred,truth\nc,pred/c.nii,truth/c.nii\n")
    assert "is a link whose target is missing" in errors(read_pairs(table))["c"]


@pytest.mark.parametrize("what", ["boxes", "folder", "slices"])
def test_links_of_boxes_folders_and_slices_are_not_dropped(tmp_path, what):
    make(tmp_path, "truth/a.nii", "truth/c.nii")
    if what == "boxes":
        make(tmp_path, "pred/a_boxes.json")
        (tmp_path / "pred/c_boxes.json").symlink_to("gone")
    elif what == "folder":
        make(tmp_path, "pred/a.nii")
        (tmp_path / "pred/c").symlink_to("gone")
    else:
        make(tmp_path, "pred/a/notes.txt").joinpath("pred/c").mkdir()
        for case in "ac":
            (tmp_path / f"pred/{case}/1.dcm").symlink_to("gone")
    found = errors(find_pairs(tmp_path / "pred", tmp_path / "truth"))
    assert "is a link whose target is missing" in found["c"]


@pytest.mark.bad_input
def test_a_folder_that_is_a_link_to_nothing_is_named(tmp_path):
    make(tmp_path, "truth/a.nii")
    (tmp_path / "pred").symlink_to("gone")
    with pytest.raises(FileNotFoundError, match="is a link whose target is missing"):
        find_pairs(tmp_path / "pred", tmp_path / "truth")


HINTS = [
    (["p/a_prob.nii", "p/b_prob.nii"], ["t/a_seg.nii", "t/b_seg.nii"], 2),
    (["p/a_boxes_v2.json", "p/b_boxes_v2.json"], ["t/a.nii", "t/b.nii"], 2),
    (["p/net_001.nii.gz", "p/net_002.nii.gz"], ["t/gt001.nii.gz", "t/gt002.nii.gz"], 2),
    (["p/s1/out.nii", "p/s2/out.nii"], ["t/s1.nii", "t/s2.nii"], 2),
    (["p/s1/out.nii", "p/s2/out.nii"], ["t/s1/seg/s1_gt.nii", "t/s2/seg/s2_gt.nii"], 2),
    (["p/patient-7_pred.nii"], ["t/patient-7_label.nii", "t/patient-8_label.nii"], 1),
]


@pytest.mark.bad_input
@pytest.mark.parametrize(("preds", "truths", "count"), HINTS)
def test_the_pattern_that_is_proposed_works(tmp_path, preds, truths, count):
    make(tmp_path, *preds, *truths)
    with pytest.raises(ValueError, match=f"which pairs {count} case") as caught:
        find_pairs(tmp_path / "p", tmp_path / "t")
    options = dict(re.findall(r'`(\w+)=` "([^"]+)"', str(caught.value)))
    assert len(find_pairs(tmp_path / "p", tmp_path / "t", **options).matched) == count


@pytest.mark.bad_input
def test_a_path_with_a_wrong_pattern_gets_a_path_that_works(tmp_path):
    make(tmp_path, "p/a_prob.nii", "p/b_prob.nii", "t/a.nii", "t/b.nii")
    with pytest.raises(ValueError, match="which pairs 2 cases") as caught:
        find_pairs(f"{tmp_path}/p/{{case}}.nii", tmp_path / "t")
    (path,) = re.findall(r'`pred=` "([^"]+)"', str(caught.value))
    assert len(find_pairs(path, tmp_path / "t").matched) == 2


@pytest.mark.bad_input
def test_names_that_share_a_word_alone_get_no_such_pattern(tmp_path):
    make(tmp_path, "p/a_mask.nii", "t/x_mask.nii")
    with pytest.raises(ValueError, match="say where the case is in their names"):
        find_pairs(tmp_path / "p", tmp_path / "t")


def test_a_table_in_which_some_match_proposes_what_pairs_more(tmp_path):
    make(tmp_path, "p/a.nii", "p/b_p.nii", "p/c_p.nii", "p/d_p.nii")
    make(tmp_path, *(f"t/{case}.nii" for case in "abcd"))
    table = find_pairs(tmp_path / "p", tmp_path / "t")
    assert list(paired(table)) == ["a"]
    (pattern,) = re.findall(r'`pred_pattern=` "([^"]+)"', table.hint)
    assert len(find_pairs(tmp_path / "p", tmp_path / "t", pred_pattern=pattern).matched) == 3
    assert find_pairs(tmp_path / "p", tmp_path / "t", pred_pattern=pattern).hint == ""


@pytest.mark.bad_input
def test_the_count_of_a_hint_is_that_of_all_files(tmp_path):
    make(tmp_path, *(f"p/{number:03d}_p.nii" for number in range(450)))
    make(tmp_path, *(f"t/{number:03d}_t.nii" for number in range(430)))
    with pytest.raises(ValueError, match="which pairs 430 cases"):
        find_pairs(tmp_path / "p", tmp_path / "t")
