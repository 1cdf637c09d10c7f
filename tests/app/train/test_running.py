"""`train` runs the bundle: what it leaves, goes on from, refuses and says."""

from __future__ import annotations

import json
import re

import pytest
import torch

from softoverlap.app.train import TrainingRun, load_checkpoint, train
from softoverlap.app.train.folder import RunFolder
from softoverlap.images import Fold, find_cases, read_boxes, read_splits, write_splits
from tests.support.bundle_runs import TINY, curve, tiny_scans, weights_in
from tests.support.data_sets import nnunet

SMALL = {**TINY, "repeats": "$1", "max_epochs": 2, "val_interval": 1}


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return tiny_scans(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def run(scans, tmp_path_factory):
    """A training of two epochs, and its folder."""
    folder = tmp_path_factory.mktemp("run") / "out"
    seen = []
    trained = train(scans, folder, settings=SMALL, device="cpu", progress=seen.append)
    return trained, folder, seen


def test_a_run_leaves_checkpoint_curve_split_and_what_it_reached(scans, run):
    trained, folder, seen = run
    names = {path.name for path in folder.iterdir()}
    assert {"checkpoint.pt", "best.pt", "last.pt", "curve.csv", "config.json"} <= names
    assert {"validation.json", "splits_final.json", "evaluation", "train.log"} <= names
    assert [row["epoch"] for row in curve(folder)] == ["1", "2"]
    assert [state.step for state in seen] == [*range(1, len(seen) + 1)]
    assert seen[-1].done == 1
    training = trained.training
    assert training["steps"] == training["planned"] == len(seen)
    assert training["stopped_by"] == "steps"
    assert 0 < training["seconds"] < 900
    (fold,) = read_splits(folder / "splits_final.json", find_cases(scans).cases)
    boxes = folder / "evaluation" / "boxes"
    assert [path.name for path in boxes.iterdir()] == [f"{n}_boxes.json" for n in fold.validation]
    assert len(read_boxes(next(boxes.iterdir())).boxes) >= 0
    summary = json.loads((folder / "validation.json").read_text())
    assert summary == json.loads(json.dumps(trained.evaluation.summary))
    assert str(trained.model.threshold_rule).startswith("f1 on 1 validation scan")
    log = (folder / "train.log").read_text()
    assert "val_cpm" in log
    assert "in 3 scans to train on" in log
    assert "in 1 scan to validate on" in log
    assert "are held out, so each moves sensitivity" in log


def test_the_checkpoint_holds_the_best_weights_and_all_that_reading_scans_takes(run):
    trained, folder, _ = run
    best = weights_in(folder / "best.pt")
    assert torch.equal(weights_in(folder / "checkpoint.pt"), best)
    again = load_checkpoint(folder / "checkpoint.pt", device="cpu")
    assert again.score_threshold == trained.model.score_threshold
    assert again.settings["spacing"] == [1.0, 1.0, 1.5]  # the median of the scans
    assert again.settings["axes"] == "RAS"


def test_a_run_that_was_interrupted_goes_on_and_ends_as_the_uninterrupted_one(scans, run, tmp_path):
    _, whole, seen = run
    per_epoch = len(seen) // 2

    def stop(state):
        if state.step > per_epoch:
            raise KeyboardInterrupt

    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt, match=r"checkpoint_epoch=1\.pt is kept"):
        train(scans, folder, settings=SMALL, device="cpu", progress=stop)
    assert not (folder / "checkpoint.pt").exists()
    with pytest.raises(FileExistsError, match="must not exist yet"):
        train(scans, folder, settings=SMALL, device="cpu")
    train(scans, folder, settings=SMALL, device="cpu", resume=True)
    assert torch.equal(weights_in(folder / "last.pt"), weights_in(whole / "last.pt"))
    assert [row["loss"] for row in curve(folder)] == [row["loss"] for row in curve(whole)]


def test_a_run_interrupted_before_its_first_epoch_promises_nothing(scans, tmp_path):
    def stop(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="no epoch is whole yet"):
        train(scans, tmp_path / "out", settings=SMALL, device="cpu", progress=stop)
    with pytest.raises(FileNotFoundError, match="found none: leave it out"):
        train(scans, tmp_path / "out", settings=SMALL, device="cpu", resume=True)
    TrainingRun(scans, tmp_path / "out", settings=SMALL, device="cpu").claim()  # may start anew


def test_folds_that_are_drawn_are_kept_whoever_asks_for_them(scans, tmp_path):
    def stop(state):
        raise KeyboardInterrupt

    settings = {**SMALL, "folds": 2, "fold": 1}
    made = TrainingRun(scans, tmp_path, settings=settings, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        made.fit(stop)
    folds = read_splits(tmp_path / "folds" / "splits_final.json")
    assert len(folds) == 2
    assert folds[1] == made.split.fold


def test_a_finished_run_is_not_trained_again_but_may_go_on_even_if_stopped(scans, run):
    _, folder, _ = run
    before = weights_in(folder / "checkpoint.pt")
    again = train(scans, folder, settings=SMALL, device="cpu", resume=True, at=0.25)
    assert (again.model.score_threshold, again.model.threshold_rule) == (0.25, "given")
    assert torch.equal(weights_in(folder / "checkpoint.pt"), before)
    steps = again.training["steps"] + 1
    more = {**SMALL, "steps": steps}

    def stop(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="is kept"):
        train(scans, folder, settings=more, device="cpu", resume=True, progress=stop)
    longer = train(scans, folder, settings=more, device="cpu", resume=True)
    assert longer.training["steps"] == longer.training["planned"] == steps


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": 0.5}, "learning_rate must stay 0.0015 to resume"),
        ({"matcher#num_candidates": 9}, "matcher#num_candidates must stay 4"),
        ({"split_seed": 3}, "split_seed must stay 0"),
        ({"intensity": "fixed"}, "intensity must stay None to resume .*, got fixed"),
        ({"train#fixed_transforms#6#channel_wise": False}, "train#fixed_transforms must stay"),
    ],
)
@pytest.mark.filterwarnings("ignore:train#fixed_transforms will not be in the checkpoint")
def test_a_run_to_resume_has_the_settings_it_was_started_with(scans, run, change, words):
    settings = {**SMALL, **change}
    made = TrainingRun(scans, run[1], settings=settings, device="cpu")
    with pytest.raises(ValueError, match=words):
        made.claim(resume=True)


def test_a_run_to_resume_has_the_scans_it_was_started_with(run, tmp_path):
    other = tiny_scans(tmp_path, count=5)
    made = TrainingRun(other, run[1], settings=SMALL, device="cpu")
    with pytest.raises(ValueError, match="data must hold the scans that"):
        made.claim(resume=True)


def test_bad_scans_and_scans_without_lesions_end_it_before_a_folder_is_made(tmp_path):
    scans = tiny_scans(tmp_path / "scans", count=2)
    first, _ = sorted((scans / "images").iterdir())
    first.write_bytes(b"no scan")
    with pytest.raises(ValueError, match="1 of 2 cases cannot be used"):
        train(scans, tmp_path / "out", settings=SMALL, device="cpu")
    told = []
    made = TrainingRun(scans, tmp_path / "out", settings=SMALL, device="cpu")
    with pytest.raises(ValueError, match="1 of 2"):
        made.check(lambda name, case, notes: told.append((name, case is None, len(notes))))
    assert sorted(told)[0] == (first.name.removesuffix(".nii.gz"), True, 1)
    made.skip_damaged = True  # of two scans one trains and one validates
    with pytest.raises(ValueError, match="to validate on can be used|at least one lesion in 0 sca"):
        made.check()
    assert not (tmp_path / "out").exists()


def test_scans_to_validate_on_without_a_lesion_are_told(scans, tmp_path):
    names = [case.name for case in find_cases(scans).cases]  # the first one has no lesion
    path = tmp_path / "folds.json"
    write_splits(path, [Fold((names[1],), (name,)) for name in (names[0], names[2])])
    made = [
        TrainingRun(scans, tmp_path / "out", settings={**SMALL, "folds": str(path), "fold": fold})
        for fold in (0, 1)
    ]
    (note,) = made[0].check().notes
    assert "no scan to validate on has a lesion" in note
    checked = made[1].check()
    scans_held, lesions = checked.held_out
    assert checked.notes == ()
    assert scans_held == 1
    assert checked.counts[1] == f"{lesions} lesion{'s' * (lesions != 1)} in 1 scan to validate on"
    assert f"by {100 / lesions:.0f} points: hold out more patients" in str(checked.few)


def test_several_channels_and_classes_train_with_intensities_of_the_whole_set(tmp_path):
    folder = nnunet(tmp_path / "data")
    settings = {**SMALL, "patch_size": [8, 8, 8], "max_epochs": 1, "intensity": "fixed"}
    trained = train(folder, tmp_path / "out", settings=settings, device="cpu", at=0.5)
    known = trained.model.settings
    assert (known["in_channels"], known["num_classes"]) == (2, 2)
    assert known["class_names"] == ["edema", "core"]
    means, spreads = known["intensity"]
    images = [case.images for case in find_cases(folder).cases]
    assert len(means) == len(spreads) == len(images[0]) == 2
    assert all(spread > 0 for spread in spreads)
    again = TrainingRun(folder, tmp_path / "out", settings=settings, device="cpu")
    again.claim(resume=True)
    assert again.config["intensity"] == [means, spreads]
    other = TrainingRun(folder, tmp_path / "out", settings={**settings, "intensity": None})
    with pytest.raises(ValueError, match=r"intensity must stay \[\[.*, got None"):
        other.claim(resume=True)


@pytest.mark.filterwarnings("ignore:network_def")
def test_a_network_and_a_detector_of_ones_own_train_and_are_what_comes_back(scans, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "width: 16\nnetwork_def#feature_channels: '@width'\n"
        "network_def#iou_branch: true\ndetector#score: product\n"
    )
    settings = {**SMALL, "max_epochs": 1}
    made = train(scans, tmp_path / "out", config=[mine], settings=settings, device="cpu", at=0.5)
    assert made.model.detector.score == "product"
    with pytest.raises(ValueError, match="or the file of its network must be given"):
        load_checkpoint(made.checkpoint)
    again = load_checkpoint(made.checkpoint, device="cpu", config=[mine]).detector
    assert again.score == "product"
    for one, other in zip(again.parameters(), made.model.detector.parameters(), strict=True):
        assert torch.equal(one, other)


def test_without_scans_held_out_the_training_scans_judge(scans, tmp_path):
    settings = {**SMALL, "max_epochs": 1, "validation": 0.0}
    trained = train(scans, tmp_path / "out", settings=settings, device="cpu")
    assert trained.model.threshold_rule is not None
    assert "on 4 training scans" in trained.model.threshold_rule
    assert not (tmp_path / "out" / "validation.json").exists()
    assert not (tmp_path / "out" / "best.pt").exists()


def test_an_earlier_run_is_removed_as_a_whole_and_nothing_else(tmp_path):
    for name in ("checkpoint.pt", "best.pt", "curve.csv", "mine.txt", "splits_final.json"):
        (tmp_path / name).touch()
    (tmp_path / "evaluation").mkdir()
    RunFolder(tmp_path).clear()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_other_origin_are_neither_removed_nor_replaced(scans, tmp_path, overwrite):
    (tmp_path / "validation").mkdir()
    for name in ("validation/mine.nii.gz", "splits_final.json", "mine.txt"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "config.json").write_text('{"output_dir": "mine"}')
    made = TrainingRun(scans, tmp_path, settings=SMALL, device="cpu")
    with pytest.raises(FileExistsError, match=r"hold config\.json, splits_final\.json, validation"):
        made.claim(overwrite=overwrite)
    with pytest.raises(FileExistsError, match="pass another `output=`"):
        made.fit()
    assert (tmp_path / "validation" / "mine.nii.gz").read_text() == "mine"
    assert (tmp_path / "splits_final.json").read_text() == "mine"


def test_time_and_lack_of_gain_end_a_run_and_are_named(scans, tmp_path):
    short = {**SMALL, "minutes": 1e-4}
    trained = train(scans, tmp_path / "short", settings=short, device="cpu")
    assert trained.training["stopped_by"] == "minutes"
    assert trained.training["steps"] < trained.training["planned"]
    patient = {**SMALL, "max_epochs": 9, "patience": 1, "learning_rate": 1e-12}
    trained = train(scans, tmp_path / "patient", settings=patient, device="cpu")
    assert trained.training["stopped_by"] == "early stop"


def test_a_diverging_training_says_so(scans, tmp_path):
    wild = {**SMALL, "learning_rate": 1e30, "warmup": 0.0, "clip_norm": 1e30}
    with pytest.raises(ValueError, match=re.compile("must give finite|NaN")):
        train(scans, tmp_path / "out", settings=wild, device="cpu")
