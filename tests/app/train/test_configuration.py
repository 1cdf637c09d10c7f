"""The bundle's configuration with a plan, files and single settings filled in."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from monai.handlers import write_metrics_reports

from softoverlap.app.train import training_config
from softoverlap.app.train.configuration import STEPS, different, own_errors

PLAN = {
    "axes": "LPS",
    "spacing": [1.0, 1.0, 2.0],
    "patch_size": [32, 32, 16],
    "strides": [[2, 2, 2], [4, 4, 4]],
    "sizes": [[[3, 3, 3]], [[6, 6, 6]]],
    "batch_size": 2,
    "foreground": 0.5,
    "expected_quality": {"all": {"lesions": 3}},
}


def written(folder, name, content):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_later_ones_win_plan_files_settings(tmp_path):
    plan = written(tmp_path, "plan.json", PLAN)
    one = written(tmp_path, "one.yaml", "batch_size: 6\nmatcher#num_candidates: 7\nmax_epochs: 3\n")
    other = written(tmp_path, "other.json", {"max_epochs": 4})
    settings = {"max_epochs": 5}
    config = training_config("d", "o", plan=plan, config=[one, other], settings=settings)
    assert (config["axes"], config["spacing"]) == ("LPS", [1.0, 1.0, 2.0])
    assert (config["batch_size"], config["max_epochs"]) == (6, 5)
    assert config["matcher"]["num_candidates"] == 7
    assert "expected_quality" not in config
    assert config["plan"]["_target_"] == "softoverlap.anchors.AnchorPlan"
    assert config["steps"] is None  # since the epochs are said
    assert (config["data_dir"], config["output_dir"]) == ("d", "o")


@pytest.mark.parametrize("name", ["steps", "max_epochs", "trainer#max_epochs"])
def test_a_length_of_the_users_own_is_kept(name):
    assert training_config("d", "o")["steps"] == STEPS
    assert training_config("d", "o", settings={name: 7})["steps"] == (
        7 if name == "steps" else None
    )


def test_the_end_of_a_name_is_enough_where_no_other_ends_so():
    config = training_config("d", "o", settings={"trainer#amp": False, "matcher#alpha": 2})
    assert config["train"]["trainer"]["amp"] is False
    assert config["matcher"]["alpha"] == 2  # an argument that train.yaml does not give
    with pytest.raises(ValueError, match=r"must name one setting .* train#dataset#cache_rate"):
        training_config("d", "o", settings={"dataset#cache_rate": 0.5})


def test_names_that_do_not_exist_are_refused_with_those_that_look_alike(tmp_path):
    with pytest.raises(ValueError, match=r"got max_epoch: did you mean max_epochs"):
        training_config("d", "o", settings={"max_epoch": 3})
    path = written(tmp_path, "mine.yaml", "batchsize: 3\n")
    with pytest.raises(ValueError, match=r"config must name .* batchsize: did you mean batch_size"):
        training_config("d", "o", config=[path])
    used = written(tmp_path, "used.yaml", "mine: 0.3\nmatcher#alpha: '@mine'\n")
    assert training_config("d", "o", config=[used])["mine"] == 0.3


def test_a_file_adds_to_a_list_with_a_plus(tmp_path):
    path = written(tmp_path, "mine.yaml", "+train#augmentation:\n- _target_: RandGaussianNoised\n")
    before = len(training_config("d", "o")["train"]["augmentation"])
    after = training_config("d", "o", config=[path])["train"]["augmentation"]
    assert len(after) == before + 1


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "", "must be a .yaml"),
        ("a.yaml", "a: [1,", "must be readable YAML or JSON"),
        ("a.json", "[1]", "must hold settings by name"),
    ],
)
def test_unreadable_files_are_named(tmp_path, name, content, words):
    path = written(tmp_path, name, content)
    with pytest.raises(ValueError, match=f"config {words}.*{name}"):
        training_config("d", "o", config=[path])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "box_loss:\n  _target_: softoverlap.losses.BoxGIUOLoss\n",
            "got softoverlap.losses.BoxGIUOLoss for box_loss#_target_ in .*mine.yaml: did you mean "
            "BoxGIoULoss",
        ),
        ("+train#augmentation:\n- _target_: RandNoise\n", "RandNoise for .*#0#_target_ in .*mine"),
        (
            "matcher: {_target_: no_such_module.Matcher}\n",
            "got no_such_module.Matcher for matc",
        ),
        ("matcher: {_target_: no_such_module.Matcher, _disabled_: true}\n", None),
        ("+imports: [$import sys]\nmatcher: {_target_: no_such_module.Matcher}\n", None),
        ("matcher: {_target_: '$monai.data.DataLoader'}\n", None),
    ],
)
def test_targets_that_do_not_exist_are_named_with_file_and_setting(tmp_path, content, words):
    path = written(tmp_path, "mine.yaml", content)
    if words is None:
        assert training_config("d", "o", config=[path])
        return
    with pytest.raises(ValueError, match=f"^config must name classes .*{words}"):
        training_config("d", "o", config=[path])


def test_a_target_among_the_settings_is_looked_up_too():
    with pytest.raises(ValueError, match="settings must name classes .* for cls_loss#_target_"):
        training_config("d", "o", settings={"cls_loss#_target_": "torch.nn.NoLoss"})


def test_the_table_of_a_scan_without_lesions_says_nothing(tmp_path):
    def write():
        details = {"val_cpm": torch.tensor([[torch.nan], [0.5]])}
        write_metrics_reports(str(tmp_path), ["a", "b"], {}, details, "mean")
        warnings.warn("Mean of empty slice", stacklevel=1)  # of this file, not of MONAI's

    with pytest.warns(RuntimeWarning, match="Mean of empty slice"):
        write()
    with pytest.warns() as told, own_errors():
        write()
    assert [one.category for one in told] == [UserWarning]


def test_missing_files_and_plans_in_2d_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config .*none\.yaml must be a file"):
        training_config("d", "o", config=[tmp_path / "none.yaml"])
    with pytest.raises(FileNotFoundError, match=r"plan .*none\.json must be a file of"):
        training_config("d", "o", plan=tmp_path / "none.json")
    flat = {"strides": [[2, 2]], "sizes": [[[3, 4]]]}
    with pytest.raises(ValueError, match="plan must be one in 3D"):
        training_config("d", "o", plan=written(tmp_path, "plan.json", flat))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "steps must be a whole number above 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number above 0"),
        ({"foreground": 1.5}, r"foreground must lie in \[0, 1\]"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0"),
        ({"minutes": -1.0}, "minutes must be above 0"),
        ({"threshold": 0}, r"threshold must lie in \(0, 1\]"),
        ({"window_overlap": 1}, r"window_overlap must lie in \[0, 1\)"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"patch_size": [20, 16, 16]}, "patch_size must be a multiple of 8, the network's stride"),
        ({"patch_size": [32, 32]}, "patch_size must be one whole number or three, got"),
        ({"channels": [8, 8], "strides": [2, [2, 2, 1]]}, None),
        ({"strides": [2, [2, 2, 5]], "channels": [8, 8]}, "must be a multiple of 4 x 4 x 10"),
        ({"warmup": "often"}, r"warmup must lie in \[0, 1\], got often"),
    ],
)
def test_numbers_out_of_range_are_named(settings, words):
    if words is None:
        assert training_config("d", "o", settings=settings)
        return
    with pytest.raises(ValueError, match=words):
        training_config("d", "o", settings=settings)


@pytest.mark.parametrize(
    ("loss", "codes", "words"),
    [
        (
            "softoverlap.losses.BoxGIoULoss",
            True,
            "be false for BoxGIoULoss, which takes boxes, got",
        ),
        ("softoverlap.AmodalBoxLoss", True, "be false for AmodalBoxLoss, which takes boxes, got"),
        ("softoverlap.MaskBoxDiceLoss", True, "be false for MaskBoxDiceLoss, which takes masks, g"),
        (
            "softoverlap.CoarseToFineBoxLoss",
            False,
            "be true for CoarseToFineBoxLoss, which takes c",
        ),
        ("softoverlap.losses.BoxGIoULoss", False, None),
        ("softoverlap.losses.BoxGIoULoss", "$not True", None),
        ("torch.nn.L1Loss", True, None),
    ],
)
def test_codes_for_a_loss_of_boxes_are_refused_before_scans_are_read(loss, codes, words):
    settings = {"box_loss": {"_target_": loss}, "box_codes": codes}
    if words is None:
        assert training_config("d", "o", settings=settings)["box_codes"] == codes
        return
    with pytest.raises(ValueError, match=f"box_codes must {words}"):
        training_config("d", "o", settings=settings)


def test_one_number_stands_for_all_edges_of_a_patch():
    assert training_config("d", "o", settings={"patch_size": 32})["patch_size"] == [32, 32, 32]
    said = "$[32, 32, 32]"
    assert training_config("d", "o", settings={"patch_size": said})["patch_size"] == said


def test_what_differs_is_named_all_the_way_down():
    one = training_config("d", "o")
    other = training_config("d", "o", settings={"matcher#num_candidates": 9, "steps": 3})
    assert different(one, other) == ["steps", "matcher#num_candidates"]
    assert different(one, one) == []


@pytest.mark.parametrize(
    ("name", "value"), [("spacing", [3, 3, 3]), ("spacing", None), ("axes", "SAR"), ("axes", None)]
)
def test_the_anchors_of_a_plan_keep_its_spacing_and_axes(tmp_path, name, value):
    plan = written(tmp_path, "plan.json", PLAN)
    for settings in ({name: value}, {name: "$" + repr(value)}):
        with pytest.raises(ValueError, match=rf"{name} must stay .*, for which the plan chose"):
            training_config("d", "o", plan=plan, settings=settings)
    anchors = {"strides": [2, 2, 2], "sizes": None}
    assert training_config("d", "o", plan=plan, settings={name: value, **anchors})[name] == value
    same = {"spacing": [1, 1, 2.0], "axes": "LPS"}
    assert training_config("d", "o", plan=plan, settings=same)["axes"] == "LPS"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"detector#score": "cls"}, "detector#score"),
        ({"network_def#dropout": 0.1}, "network_def#dropout"),
        ({"validate#preprocessing#transforms#8#channel_wise": False}, "validate#preprocessing#tr"),
        ({"train#fixed_transforms#6#channel_wise": False}, "train#fixed_transforms will not"),
        ({"nonzero": True, "iou_branch": True, "score": "cls", "spacing": [1, 1, 1]}, None),
        (
            {"detector#normalize": None, "matcher#num_candidates": 9, "overlap": "mask_box_iou"},
            None,
        ),
    ],
)
def test_changed_parts_that_a_detection_does_not_know_are_named(settings, named):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        training_config("d", "o", settings=settings)
    words = [str(one.message) for one in told]
    assert len(words) == (named is not None)
    assert all(text.startswith(str(named)) and "--config" in text for text in words)
