"""Checkpoints: whole or not at all, read without running what they hold, and refused by name."""

from __future__ import annotations

import contextlib
import pickle

import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap.app.train import detect, fresh_detector, load_checkpoint, write_checkpoint
from softoverlap.for_monai import RunSettings, read_settings
from tests.support.checkpoints import SMALL, lively_detector, noise, small_detector


def saved(path, **changes):
    """A checkpoint with other settings."""
    write_checkpoint(path, small_detector())
    values = torch.load(path, weights_only=True)
    torch.save({**values, "settings": {**values["settings"], **changes}}, path)
    return path


def test_a_checkpoint_brings_back_the_same_detections(tmp_path):
    model = lively_detector(
        spacing=[1.0, 1.0, 1.5], intensity=[[0.5], [0.25]], class_names=["cyst"]
    )
    write_checkpoint(tmp_path / "c.pt", model, score_threshold=0.4, threshold_rule="f1 on 3 scans")
    again = load_checkpoint(tmp_path / "c.pt", device="cpu")
    assert again.settings == model.settings
    assert (again.score_threshold, again.threshold_rule) == (0.4, "f1 on 3 scans")
    first, second = detect(model, noise()), detect(again, noise())
    assert len(first.box) > 0
    assert torch.equal(first.box, second.box)
    assert torch.equal(first.heat_map, second.heat_map)
    assert second.above.tolist() == (second.scores >= 0.4).tolist()


def test_the_checkpoint_of_a_run_becomes_one_with_a_threshold_and_loses_what_only_resumes(tmp_path):
    path, told = tmp_path / "best.pt", {"steps": 93, "planned": 1500, "stopped_by": "minutes"}
    write_checkpoint(path, small_detector())
    torch.save({**torch.load(path, weights_only=True), "optimizer": {"state": {}}}, path)
    assert load_checkpoint(path, device="cpu").score_threshold is None
    final = tmp_path / "checkpoint.pt"
    write_checkpoint(final, path, score_threshold=1, training=told)
    values = torch.load(final, weights_only=True)
    assert set(values) == {"settings", "network", "finding", "training"}
    assert values["finding"] == {"score_threshold": 1.0, "threshold_rule": "given"}
    assert values["training"] == told
    assert read_settings(final)["score_threshold"] == 1.0
    write_checkpoint(path, final, score_threshold=0.5, threshold_rule="f1")
    values = torch.load(path, weights_only=True)
    assert values["finding"] == {"score_threshold": 0.5, "threshold_rule": "f1"}
    assert values["training"] == told


def test_fresh_weights_depend_on_the_seed_alone_and_leave_other_draws_as_they_are():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, other = small_detector(seed=3), small_detector(seed=4)
    assert torch.equal(torch.rand(3), expected)
    weights = [model.detector.network.state_dict() for model in (first, small_detector(seed=3))]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    name = "classification_head.cls_logits.weight"
    assert not torch.equal(weights[0][name], other.detector.network.state_dict()[name])


def test_a_detector_of_a_plan_comes_back(tmp_path):
    plan = {"strides": [[2, 2, 1], [4, 4, 2]], "sizes": [[[3, 3, 2]], [[6, 6, 4], [9, 6, 4]]]}
    model = small_detector(**plan)
    write_checkpoint(tmp_path / "c.pt", model)
    again = load_checkpoint(tmp_path / "c.pt", device="cpu")
    assert again.settings["sizes"] == plan["sizes"]
    assert detect(again, noise()).smallest_anchor == pytest.approx((3, 3, 2))


def test_checkpoints_from_before_a_setting_have_what_it_was_then(tmp_path):
    path = saved(tmp_path / "c.pt")
    values = torch.load(path, weights_only=True)
    for name in ("nonzero", "score", "class_values", "head"):
        del values["settings"][name]
    torch.save(values, path)
    settings = load_checkpoint(path, device="cpu").settings
    assert (settings["nonzero"], settings["score"], settings["class_values"]) == (False, None, None)
    assert settings["head"] == "anchors"
    RunSettings(nonzero=False, score=None).load_state_dict(values["settings"])
    with pytest.raises(ValueError, match="nonzero must be False, as in the training"):
        RunSettings(nonzero=True).load_state_dict(values["settings"])


def test_settings_of_another_name_and_settings_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"settings must be among axes, .* got spaceing"):
        fresh_detector({"spaceing": [1, 1, 1]})
    with pytest.raises(ValueError, match="settings must fit each other, got: roi_size must be a"):
        small_detector(patch_size=[18, 16, 16])


def test_unreadable_checkpoints_are_named(tmp_path):
    path = tmp_path / "c.pt"
    write_checkpoint(path, small_detector())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"c\.pt must be a readable checkpoint"):
        load_checkpoint(path)
    torch.save({"network": {}}, path)
    with pytest.raises(ValueError, match=r"c\.pt must be written by softoverlap and hold its sett"):
        load_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="must be written by softoverlap, got a list"):
        load_checkpoint(path)
    path.write_text("not a checkpoint")
    with pytest.raises(ValueError, match="must be a readable checkpoint"):
        load_checkpoint(path)
    with pytest.raises(FileNotFoundError, match="must be a file"):
        load_checkpoint(tmp_path / "none.pt")
    with pytest.raises(ValueError, match="device must be auto, cpu"):
        load_checkpoint(path, device="abacus")


@pytest.mark.parametrize(
    "content", [b"\x80\x02.", b".", b"(lp0\n", b"cos\nsystem\n.", b"", b"\x80"]
)
def test_foreign_and_damaged_pickles_are_named(tmp_path, content):
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"c\.pt must be (a readable|written by)"):
        load_checkpoint(tmp_path / "c.pt")


@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_pickle_with_a_damaged_byte_is_read_or_named(tmp_path_factory, place, value):
    path = tmp_path_factory.mktemp("pickle") / "c.pt"
    content = bytearray(pickle.dumps({"settings": {"axes": "RAS"}, "network": [1, 2.0, "x"]}))
    content[place % len(content)] = value
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"c\.pt must"):
        load_checkpoint(path)


def test_a_checkpoint_of_an_earlier_version_must_be_trained_again(tmp_path):
    torch.save({"format": "softoverlap detector", "version": 1}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match=r"c\.pt must be trained again: it was written by an earl"):
        load_checkpoint(tmp_path / "c.pt")


def test_what_a_checkpoint_lacks_is_named(tmp_path):
    path = tmp_path / "c.pt"
    write_checkpoint(path, small_detector())
    values = torch.load(path, weights_only=True)
    del values["settings"]["spacing"], values["settings"]["lowest_score"]
    torch.save(values, path)
    with pytest.raises(ValueError, match=r"c\.pt must keep all .* lacks spacing, lowest_score"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"spacing": [1.0, 0.0, 1.0]},
        {"spacing": 7},
        {"axes": 7},
        {"axes": "up"},
        {"patch_size": [18, 18, 18]},
        {"channels": "many"},
        {"channels": []},
        {"intensity": 3},
        {"anchor_sizes": [-1.0]},
        {"nms_threshold": "low"},
        {"score": "product"},
        {"sizes": [[1, 2]]},
        {"network": {}},
    ],
    ids=str,
)
def test_a_checkpoint_with_settings_or_weights_that_do_not_fit_is_named(tmp_path, changes):
    path = tmp_path / "c.pt"
    if "network" in changes:
        write_checkpoint(path, small_detector())
        torch.save({**torch.load(path, weights_only=True), **changes}, path)
    else:
        saved(path, **changes)
    with pytest.raises(ValueError, match=r"c\.pt must hold (settings|weights) that fit"):
        detect(load_checkpoint(path, device="cpu"), noise())


@pytest.mark.parametrize(
    "finding", [{"score_threshold": "high"}, {"score_threshold": float("nan")},
                {"score_threshold": 0.5, "threshold_rule": 3}],
)  # fmt: skip
def test_a_checkpoint_with_another_threshold_is_named(tmp_path, finding):
    path = saved(tmp_path / "c.pt")
    torch.save({**torch.load(path, weights_only=True), "finding": finding}, path)
    with pytest.raises(ValueError, match=r"c\.pt must hold a finite score_threshold"):
        load_checkpoint(path)


def settings_in(path, name):
    """A setting, or None where the checkpoint is refused."""
    with contextlib.suppress(ValueError):
        return load_checkpoint(path, device="cpu").settings[name]


@pytest.mark.parametrize("name", ["axes", "class_names", "class_values", "spacing", "anchor_sizes"])
def test_nothing_that_a_checkpoint_holds_is_run(tmp_path, monkeypatch, name):
    """MONAI's configurations run texts that begin with $, and build what names a _target_."""
    monkeypatch.chdir(tmp_path)
    touch = "__import__('pathlib').Path('run').touch()"
    for value in (f"${touch}", [f"${touch}"], {"_target_": "os.mkdir", "path": "run"}, "@seed"):
        assert settings_in(saved(tmp_path / "c.pt", **{name: value}), name) in (value, None)
        assert not (tmp_path / "run").exists()


def test_a_file_of_ones_own_changes_what_may_differ_and_nothing_else(tmp_path):
    path, mine = saved(tmp_path / "c.pt"), tmp_path / "mine.yaml"
    mine.write_text("lowest_score: 0.3\nscore_threshold: 0.6\nlearning_rate: 0.1\n")
    model = load_checkpoint(path, device="cpu", config=[mine])
    assert model.settings["lowest_score"] == model.detector.box_selector.score_thresh == 0.3
    assert model.score_threshold == 0.6
    mine.write_text("class_values: [3]\n")
    assert load_checkpoint(path, device="cpu", config=[mine]).settings["class_values"] == [3]
    for values in ("[]", "[0]", "[2, 2]", "3"):
        mine.write_text(f"class_values: {values}\n")
        with pytest.raises(ValueError, match="class_values must"):
            load_checkpoint(path, device="cpu", config=[mine])
    mine.write_text("anchor_sizes: [20.0]\n")
    with pytest.raises(ValueError, match=r"anchor_sizes must be \[5.0\], as in the training"):
        load_checkpoint(path, device="cpu", config=[mine])
    mine.write_text("nothing: '@nowhere'\ndetector: '@nothing'\n")
    with pytest.raises(ValueError, match=r"`config=` .*mine\.yaml must fit checkpoint .*c\.pt"):
        load_checkpoint(path, device="cpu", config=[mine])
    with pytest.raises(FileNotFoundError, match=r"`config=` must name files, found none at .*gone"):
        load_checkpoint(path, device="cpu", config=[tmp_path / "gone.yaml"])


def test_a_network_of_ones_own_comes_from_its_file(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("network_def#iou_branch: true\n")
    write_checkpoint(tmp_path / "plain.pt", small_detector())
    with pytest.raises(ValueError, match=r"plain\.pt must hold weights that fit its settings"):
        load_checkpoint(tmp_path / "plain.pt", device="cpu", config=[mine])


def test_settings_that_may_differ_are_kept_and_not_compared():
    settings = RunSettings(free=["patch_size"], patch_size=(16, 16), axes="RAS")
    assert settings.state_dict() == {"patch_size": [16, 16], "axes": "RAS"}
    settings.load_state_dict({"patch_size": [32, 32], "axes": "RAS"})
    with pytest.raises(ValueError, match="axes must be 'LPS', as in the training"):
        settings.load_state_dict({"patch_size": [32, 32], "axes": "LPS"})
    with pytest.raises(ValueError, match=r"free must name settings .* got \['spacing'\]"):
        RunSettings(free=["spacing"], axes="RAS")


def test_the_settings_of_a_fresh_detector_are_those_of_the_training():
    settings = fresh_detector().settings
    assert settings["anchor_sizes"] == [5.0, 8.0, 12.0]
    assert (settings["in_channels"], settings["lowest_score"]) == (1, 0.02)
    assert set(SMALL) < set(settings)
