"""Thresholds, ignored lesions and anchors: kept where a format has them, named where not."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap.images import (
    FORMATS,
    BoxFile,
    box_schema,
    read_box_files,
    read_boxes,
    save_nifti,
    write_box_files,
    write_boxes,
)
from tests.support.box_makers import AFFINES, BOXES, LABELS, SCORES, refused_when_changed

IGNORED = torch.tensor([False, True])
WHOLE = torch.tensor([[0.0, 0, 0, 2, 2, 2], [3, 3, 3, 4, 4, 4]], dtype=torch.float64)


def full(boxes=BOXES, **more):
    known = {
        "score_threshold": 0.25,
        "threshold_rule": "f1 on 3 validation scans",
        "ignored": IGNORED,
        "smallest_anchor": (5.0, 5.0, 2.5),
    }
    return BoxFile(boxes, SCORES, LABELS, AFFINES["plain"], "a", **{**known, **more})


@given(
    st.floats(0, 1) | st.integers(0, 1),
    st.text(max_size=20),
    st.tuples(*[st.floats(0.1, 100)] * 3),
    st.tuples(st.booleans(), st.booleans()),
)
def test_our_json_keeps_every_field(tmp_path_factory, threshold, rule, anchor, ignored):
    file = full(
        score_threshold=threshold,
        threshold_rule=rule,
        smallest_anchor=anchor,
        ignored=torch.tensor(ignored),
    )
    path = tmp_path_factory.mktemp("rare") / "a.json"
    write_box_files(path, {"a": file})
    found = read_boxes(path)
    assert (found.score_threshold, found.threshold_rule) == (threshold, rule)
    assert found.smallest_anchor == anchor
    assert torch.equal(found.ignored, file.ignored)


@pytest.mark.parametrize("name", ["json", "csv", "coco"])
def test_ignored_lesions_read_back(tmp_path, name):
    path = tmp_path / f"a{FORMATS[name].suffix}"
    write_box_files(path, {"a": BoxFile(BOXES, ignored=IGNORED)}, format=name)
    assert torch.equal(read_boxes(path).ignored, IGNORED)
    assert read_boxes(path).ignored.dtype == torch.bool


@pytest.mark.parametrize("name", ["csv", "coco"])
def test_ignored_lesions_of_one_case_do_not_touch_another(tmp_path, name):
    path = tmp_path / f"a{FORMATS[name].suffix}"
    files = {"a": BoxFile(BOXES, ignored=IGNORED), "b": BoxFile(BOXES)}
    write_box_files(path, files, format=name)
    found = read_box_files(path)
    assert torch.equal(found["a"].ignored, IGNORED)
    assert found["b"].ignored is None


@pytest.mark.parametrize("name", list(FORMATS))
def test_files_without_these_fields_say_nothing_about_them(tmp_path, name):
    save_nifti(tmp_path / "scan.nii.gz", torch.zeros(6, 6, 6), AFFINES["plain"])
    path = tmp_path / f"a{FORMATS[name].suffix}"
    options = {"format": name, "image": tmp_path / "scan.nii.gz"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_boxes(path, WHOLE, scores=SCORES, case="a", **options)
        found = read_boxes(path, **options)
    fields = found.score_threshold, found.threshold_rule, found.ignored, found.smallest_anchor
    assert fields == (None, None, None, None)
    assert found.above.all()


@pytest.mark.parametrize(
    ("name", "dropped"),
    [
        ("csv", "the score threshold, the smallest anchor"),
        ("coco", "the score threshold, the smallest anchor"),
        ("monai", "the score threshold, which lesions are ignored, the smallest anchor"),
        ("nndetection", "the score threshold, which lesions are ignored, the smallest anchor"),
        ("slicer", "the score threshold, which lesions are ignored, the smallest anchor"),
        ("labelmap", "the score threshold, which lesions are ignored, the smallest anchor"),
    ],
)
def test_what_a_format_does_not_keep_is_said(tmp_path, name, dropped):
    save_nifti(tmp_path / "scan.nii.gz", torch.zeros(6, 6, 6), AFFINES["plain"])
    path = tmp_path / f"a{FORMATS[name].suffix}"
    with pytest.warns(UserWarning, match="does not keep") as caught:
        write_box_files(
            path, {"a": full(WHOLE, score_threshold=0.01)}, format=name,
            image=tmp_path / "scan.nii.gz",
        )  # fmt: skip
    assert [str(one.message) for one in caught] == [f"{path}: {name} does not keep {dropped}"]


def test_markups_hold_the_findings_and_say_how_many_candidates_they_leave_out(tmp_path):
    path = tmp_path / "a.mrk.json"
    file = BoxFile(BOXES, SCORES, LABELS, AFFINES["plain"], score_threshold=0.25)
    with (
        pytest.warns(UserWarning, match=r"1 box of a below the score threshold 0\.25 left out"),
        pytest.warns(UserWarning, match="slicer does not keep the score threshold"),
    ):
        write_box_files(path, {"a": file})
    found = read_boxes(path, affine=AFFINES["plain"])
    torch.testing.assert_close(found.boxes, BOXES[1:])
    assert torch.equal(found.scores, SCORES[1:])
    assert torch.equal(found.labels, LABELS[1:])


def test_a_box_at_the_threshold_is_a_finding():
    assert full(score_threshold=float(SCORES[1])).above.tolist() == [False, True]
    assert full(score_threshold=0).above.tolist() == [True, True]


def test_the_schema_knows_the_fields(tmp_path):
    write_box_files(tmp_path / "a.json", {"a": full()})
    content, schema = json.loads((tmp_path / "a.json").read_text()), box_schema()
    assert set(content) == set(schema["properties"])
    assert set(content["boxes"][0]) == set(schema["properties"]["boxes"]["items"]["properties"])


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.update(score_threshold="high"),
            "got: score_threshold must be a finite number, got 'high'",
        ),
        (
            lambda c: c.update(score_threshold=True),
            "got: score_threshold must be a finite number, got True",
        ),
        (
            lambda c: c.pop("score_threshold"),
            "got: threshold_rule must go with a score_threshold, got 'f1 on 3",
        ),
        (lambda c: c.update(threshold_rule=3), "got threshold_rule must be words, got 3"),
        (
            lambda c: [row.pop("score") for row in c["boxes"]],
            r"got: score_threshold must go with scores, got 0\.25 and none",
        ),
        (
            lambda c: c["boxes"][0].update(ignored=1),
            "must have true or false as ignored, got 1",
        ),
        (
            lambda c: c.update(smallest_anchor=[5, 5]),
            r"got: smallest_anchor must hold one edge for each of 3 axes, got \(5, 5\)",
        ),
        (
            lambda c: c.update(smallest_anchor=[5, 5, 0]),
            r"got: smallest_anchor must hold edges above 0 in voxels, got \(5, 5, 0\)",
        ),
        (
            lambda c: c.update(smallest_anchor=5),
            "got: smallest_anchor must hold edges above 0 in voxels, got 5",
        ),
    ],
)
def test_a_wrong_field_in_a_file_is_named(tmp_path, change, message):
    write_box_files(tmp_path / "a.json", {"a": full()})
    refused_when_changed(tmp_path / "a.json", change, message)


def test_ignored_may_be_missing_in_some_boxes_of_a_file(tmp_path):
    write_box_files(tmp_path / "a.json", {"a": full()})
    content = json.loads((tmp_path / "a.json").read_text())
    del content["boxes"][0]["ignored"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert torch.equal(read_boxes(tmp_path / "a.json").ignored, IGNORED)


def test_a_table_by_hand_may_say_ignored_in_other_ways(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("axis0_min,axis0_max,ignored\n0,1,true\n1,2,0\n2,3,\n3,4,1\n")
    assert read_boxes(path).ignored.tolist() == [True, False, False, True]
    path.write_text("axis0_min,axis0_max,ignored\n0,1,maybe\n")
    with pytest.raises(
        ValueError, match="must have True or False as ignored in line 2, got 'maybe'"
    ):
        read_boxes(path)


@pytest.mark.bad_input
def test_wrong_fields_of_a_record_are_named():
    with pytest.raises(ValueError, match="score_threshold must be a finite number, got nan"):
        full(score_threshold=float("nan"))
    with pytest.raises(TypeError, match="threshold_rule must be words, got 3"):
        full(threshold_rule=3)
    with pytest.raises(TypeError, match=r"ignored must be booleans, got dtype torch\.float32"):
        full(ignored=torch.zeros(2))
    with pytest.raises(ValueError, match=r"ignored must have shape \(2,\), got \(3,\)"):
        full(ignored=torch.zeros(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="smallest_anchor must hold edges above 0 in voxels"):
        full(smallest_anchor=[1.0, 1.0, 1.0])
