"""Pairing: names, patterns, nested folders, raters, tables, and whatever does not fit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from softoverlap.app.cohort import find_pairs, read_pairs
from softoverlap.app.cohort.names import OUTPUTS
from tests.support.pairs import errors, make, paired


def test_files_of_one_name_are_a_pair_whatever_their_format(tmp_path):
    make(tmp_path, "pred/a.nii.gz", "pred/b.mha", "truth/a.nrrd", "truth/b.nii")
    found = paired(find_pairs(tmp_path / "pred", tmp_path / "truth"))
    assert found == {
        "a": (tmp_path / "pred/a.nii.gz", tmp_path / "truth/a.nrrd"),
        "b": (tmp_path / "pred/b.mha", tmp_path / "truth/b.nii"),
    }


def test_two_files_are_one_pair_whatever_their_names(tmp_path):
    make(tmp_path, "mine.nii.gz", "theirs.nii.gz")
    (pair,) = find_pairs(tmp_path / "mine.nii.gz", tmp_path / "theirs.nii.gz").pairs
    assert (pair.case, pair.error) == ("mine", None)


def test_a_case_without_partner_is_there_with_the_reason(tmp_path):
    make(tmp_path, "pred/a.nii", "pred/b.nii", "truth/a.nii", "truth/c.nii")
    table = find_pairs(tmp_path / "pred", tmp_path / "truth")
    assert errors(table) == {"b": "no truth", "c": "no prediction"}
    assert [pair.case for pair in table.pairs] == ["a", "b", "c"]


def test_two_files_of_one_case_are_an_error_of_that_case_alone(tmp_path):
    make(tmp_path, "pred/a.nii", "pred/a.nii.gz", "pred/b.nii", "truth/a.nii", "truth/b.nii")
    table = find_pairs(tmp_path / "pred", tmp_path / "truth")
    assert list(paired(table)) == ["b"]
    assert errors(table)["a"].startswith("several predictions: ")


def test_patterns_say_where_the_case_stands(tmp_path):
    make(tmp_path, "pred/s_1_prob.nii.gz", "pred/s_1_other.nii.gz", "truth/s_1_seg.nii.gz")
    table = find_pairs(
        tmp_path / "pred",
        tmp_path / "truth",
        pred_pattern="{case}_prob.nii.gz",
        truth_pattern="{case}_seg.nii.gz",
    )
    assert list(paired(table)) == ["s_1"]
    assert [(file.path.name, file.reason) for file in table.passed_by] == [
        ("s_1_other.nii.gz", "does not match {case}_prob.nii.gz")
    ]


@pytest.mark.parametrize("sign", ["{case}", "*"])
def test_a_path_may_be_a_pattern(tmp_path, sign):
    make(tmp_path, "pred/a_p.nii", "pred/b_p.nii", "truth/a/seg.nii", "truth/b/seg.nii")
    table = find_pairs(f"{tmp_path}/pred/{sign}_p.nii", f"{tmp_path}/truth/{sign}/seg.nii")
    assert list(paired(table)) == ["a", "b"]


def test_segmentations_of_slicer_are_called_as_their_case(tmp_path):
    make(tmp_path, "pred/a.nii.gz", "truth/a.seg.nrrd")
    assert list(paired(find_pairs(tmp_path / "pred", tmp_path / "truth"))) == ["a"]


def test_nested_folders_are_searched(tmp_path):
    make(
        tmp_path,
        "out/sub-1/ses-1/sub-1_ses-1_mask.nii.gz",
        "out/sub-2/sub-2_mask.nii.gz",
        "bids/derivatives/sub-1_ses-1_mask.nii.gz",
        "bids/sub-2/anat/sub-2_mask.nii.gz",
    )
    table = find_pairs(tmp_path / "out", tmp_path / "bids")
    assert list(paired(table)) == ["sub-1_ses-1_mask", "sub-2_mask"]


def test_names_that_come_twice_are_told_apart_by_their_folders(tmp_path):
    names = ["sub-1/mask.nii", "sub-2/mask.nii", "single.nii"]
    make(tmp_path / "pred", *names)
    make(tmp_path / "truth", *names)
    table = find_pairs(tmp_path / "pred", tmp_path / "truth")
    assert list(paired(table)) == ["single", "sub-1/mask", "sub-2/mask"]


def test_a_placeholder_that_comes_twice_holds_the_same(tmp_path):
    make(tmp_path, "pred/s1/s1_p.nii", "pred/s1/s2_p.nii", "truth/s1.nii", "truth/s2.nii")
    table = find_pairs(tmp_path / "pred", tmp_path / "truth", pred_pattern="{case}/{case}_p.nii")
    assert list(paired(table)) == ["s1"]


def test_raters_are_gathered_in_the_order_of_their_numbers(tmp_path):
    raters = [f"truth/a_rater{number}.nii" for number in (1, 2, 10)]
    make(tmp_path, "pred/a.nii", *raters)
    (pair,) = find_pairs(tmp_path / "pred", tmp_path / "truth").matched
    assert pair.truth == tuple(tmp_path / name for name in raters)


@pytest.mark.parametrize("other", ["a", "a_rater01"])
def test_a_consensus_or_a_rater_of_the_same_number_is_no_further_rater(tmp_path, other):
    make(tmp_path, "pred/a.nii", "truth/a_rater1.nii", "truth/a_rater2.nii", f"truth/{other}.nii")
    pairs = find_pairs(tmp_path / "pred", tmp_path / "truth")
    assert "several truths: " in errors(pairs)["a"]
    assert "`truth_pattern=`" in errors(pairs)["a"]
    told = find_pairs(
        tmp_path / "pred", tmp_path / "truth", truth_pattern="{case}_rater{rater}.nii"
    )
    assert ("a" in paired(told)) == (other == "a")


def test_raters_by_a_pattern(tmp_path):
    make(tmp_path, "pred/a.nii", "truth/a_by_anna.nii", "truth/a_by_ben.nii")
    table = find_pairs(tmp_path / "pred", tmp_path / "truth", truth_pattern="{case}_by_{rater}.nii")
    assert [path.name for path in table.matched[0].truth] == ["a_by_anna.nii", "a_by_ben.nii"]


def test_a_rater_scored_against_raters_keeps_its_name(tmp_path):
    make(tmp_path, "one/a_rater1.nii", "two/a_rater1.nii")
    assert list(paired(find_pairs(tmp_path / "one", tmp_path / "two"))) == ["a_rater1"]


def test_json_beside_images_is_passed_by_and_alone_it_is_boxes(tmp_path):
    make(tmp_path, "pred/a.nii", "pred/a.json", "pred/dataset.json", "truth/a.json")
    (pair,) = find_pairs(tmp_path / "pred", tmp_path / "truth").pairs
    assert (pair.pred.name, pair.truth[0].name) == ("a.nii", "a.json")


def test_hidden_files_are_passed_by(tmp_path):
    make(tmp_path, "pred/a.nii", "pred/._a.nii", "pred/.tmp/a.nii", "truth/a.nii")
    assert list(paired(find_pairs(tmp_path / "pred", tmp_path / "truth"))) == ["a"]


def test_a_table_names_cases_with_paths_relative_to_it(tmp_path):
    make(tmp_path, "p/a.nii", "t/a.nii", "p/b.nii", "t/1.nii", "t/2.nii")
    table = tmp_path / "pairs.csv"
    table.write_text("case,pred,truth,note\na,p/a.nii,t/a.nii,x\nb,p/b.nii,t/1.nii; t/2.nii,\n")
    assert paired(read_pairs(table)) == {
        "a": (tmp_path / "p/a.nii", tmp_path / "t/a.nii"),
        "b": (tmp_path / "p/b.nii", tmp_path / "t/1.nii", tmp_path / "t/2.nii"),
    }


def test_rows_that_are_no_pair_say_why(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("case,pred,truth\na,a.nii,\na,b.nii,c.nii\nb,,b.nii\n,x.nii,y.nii\n")
    assert errors(read_pairs(table)) == {
        "a": "2 rows of this case in the table",
        "b": "no prediction",
        "line 5": "no case in line 5",
    }


def test_a_file_of_a_table_that_is_not_there_is_an_error_of_its_case(tmp_path):
    make(tmp_path, "a.nii", "z.nii", "dicom/1.dcm")
    table = tmp_path / "pairs.csv"
    table.write_text(
        "case,pred,truth\nfile,a.nii,z.nii\nfolder,a.nii,dicom\nno pred,b.nii,a.nii\n"
        "no rater,a.nii,a.nii;c.nii\nneither,x.nii,y.nii\n"
    )
    found = read_pairs(table)
    assert list(paired(found)) == ["file", "folder"]
    assert errors(found) == {
        "no pred": f"found no such file: {tmp_path}/b.nii",
        "no rater": f"found no such file: {tmp_path}/c.nii",
        "neither": f"found no such file: {tmp_path}/x.nii, {tmp_path}/y.nii",
    }


@pytest.mark.parametrize("pattern", [None, "{case}.json"])
@pytest.mark.parametrize("output", ["pred/res", "pred/deep/res", "pred", "truth", "elsewhere"])
def test_results_in_a_searched_folder_are_no_cases(tmp_path, output, pattern):
    make(tmp_path, "pred/a.json", "truth/a.json")
    sides = (tmp_path / "pred", tmp_path / "truth")
    options = {"pred_pattern": pattern, "truth_pattern": pattern, "output": tmp_path / output}
    before = find_pairs(*sides, **options)
    make(tmp_path, *(f"{output}/{name}" for name in OUTPUTS))
    assert find_pairs(*sides, **options) == before
    assert list(paired(before)) == ["a"]


def test_an_output_above_the_files_hides_none(tmp_path):
    make(tmp_path, "pred/a.json", "truth/a.json", "pred/deep/summary.json", "truth/summary.json")
    table = find_pairs(tmp_path / "pred", tmp_path / "truth", output=tmp_path)
    assert list(paired(table)) == ["a", "summary"]
    table = find_pairs(tmp_path / "pred", tmp_path / "truth", output=tmp_path / "pred")
    assert list(paired(table)) == ["a", "summary"]  # deeper than the results


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (
            ["pred/a.nii", "truth/b.nii"],
            {},
            "must share at least one case with `pred=`, got predictions of a",
        ),
        (["pred/a.txt", "truth/b.nii"], {}, "pred must hold images or files of boxes, found none"),
        (["pred/a.nii", "truth/a.nii"], {"pred_pattern": "a.nii"}, "must say with {case}"),
        (["pred/a.nii", "truth/a.nii"], {"pred_pattern": "{case}{x}.nii"}, "got {x}"),
        (["pred/a.nii", "truth/a.nii"], {"pred_pattern": "{case}_{rater}.nii"}, "got {rater}"),
    ],
)
def test_what_cannot_be_paired_is_named(tmp_path, names, options, words):
    make(tmp_path, *names)
    with pytest.raises(ValueError, match=re.escape(words)):
        find_pairs(tmp_path / "pred", tmp_path / "truth", **options)


@pytest.mark.bad_input
def test_what_is_not_there_is_named(tmp_path):
    make(tmp_path, "pred/a.nii")
    with pytest.raises(FileNotFoundError, match="truth must exist, found no"):
        find_pairs(tmp_path / "pred", tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="truth must be a folder, as the other side is one"):
        find_pairs(tmp_path / "pred", tmp_path / "pred/a.nii")
    with pytest.raises(FileNotFoundError, match="must be a CSV table, found no such file"):
        read_pairs(tmp_path / "gone.csv")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("case;pred;truth\na;b;c\n", "must have the columns case, pred and truth"),
        ("case,pred,truth\n", "must have one row per case"),
        ("", "must have the columns"),
    ],
)
def test_a_table_of_another_kind_is_named(tmp_path, text, words):
    path = Path(tmp_path / "pairs.csv")
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_pairs(path)


def test_a_lone_case_with_two_files_is_a_row_with_that_error(tmp_path):
    for path in ("pred/b.nii", "pred/b.nii.gz", "truth/b.nii.gz"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    (pair,) = find_pairs(tmp_path / "pred", tmp_path / "truth").pairs
    assert pair.case == "b"
    assert "several predictions: " in pair.error
