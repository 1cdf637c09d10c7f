"""From files to items: the lesions of `load_case`, voxels without label, splits, and channels."""

from __future__ import annotations

import json

import pytest
import torch
from monai.transforms import Compose, RandWeightedCropd, Spacingd

from softoverlap.for_monai import (
    DropUnlabelledBoxesd,
    LesionInstancesd,
    LesionsFromInstancesd,
    LesionWeightMapd,
    LoadLesionCased,
    lesion_cases,
    lesion_target,
    scans_to_detect,
    write_split,
)
from softoverlap.images import find_cases, load_case, save_nifti
from tests.support.data_sets import SHAPE, box_list, entry, nnunet
from tests.support.detectors import tiny_detector

KEYS, MODES = ("image", "mask", "instances"), ("bilinear", "bilinear", "nearest")


def found(folder, *steps, number=0):
    """What the bundle makes of a case."""
    known = {"lesions_key": "lesions", "raters_key": "raters", "unlabelled_key": "unlabelled"}
    chain = [LoadLesionCased(), LesionInstancesd(**known), *steps]
    return Compose([*chain, LesionsFromInstancesd(unlabelled_key="unlabelled")])(
        lesion_cases(folder)[number]
    )


def loaded(folder):
    return load_case(find_cases(folder).cases[0])


def touching():
    labels = torch.zeros(SHAPE)
    labels[2:5, 2:6, 2:6] = 1
    labels[5:8, 2:6, 2:6] = 2
    labels[10:, 8:, 6:] = 3
    return labels


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "x": 1, "y": 2, "z": 3},
        {"background": 0, "x": [1, 2], "y": 2, "z": [2, 3]},
        {"background": 0, "whole": 1, "core": [1, 3], "z": 2},
    ],
    ids=["touching", "nested", "alike"],
)
def test_lesions_of_several_classes_stay_as_they_were_loaded(tmp_path, labels):
    folder = nnunet(tmp_path, voxels=touching(), labels=labels)
    expected, item = loaded(folder).lesions, found(folder)
    assert item["labels"].tolist() == [lesion.label for lesion in expected]
    assert torch.equal(item["boxes"], torch.stack([lesion.box for lesion in expected]))
    for lesion, known in zip(item["lesions"], expected, strict=True):
        assert lesion.volume_mm3 == pytest.approx(known.volume_mm3)
    finer = Spacingd(KEYS, (0.5, 0.5, 0.5), mode=MODES)
    assert found(folder, finer)["labels"].tolist() == item["labels"].tolist()


def test_each_box_of_a_list_is_a_lesion_with_its_real_valued_faces(tmp_path):
    boxes = [
        (5.5, 5.5, 5.5, 1.4, 1.4, 1.4),
        (3, 4, 4, 4, 4, 4),
        (6.6, 4, 4, 4, 4, 4),
        (3, 4, 4, 2, 2, 2),
    ]
    box_list(tmp_path, training=[entry("a", boxes, (0, 0, 1, 1))])
    table = find_cases(tmp_path / "list.json", images=tmp_path / "scans")
    known = load_case(table.cases[0]).lesions
    (tmp_path / "scans" / "list.json").write_text((tmp_path / "list.json").read_text())
    item = found(tmp_path / "scans")
    assert item["labels"].tolist() == [0, 0, 1, 1]
    expected = torch.stack([lesion.box for lesion in known])
    torch.testing.assert_close(item["boxes"], expected, atol=1e-4, rtol=0)
    weight = LesionWeightMapd()(
        {"instances": item["instances"], "lesion_table": item["lesion_table"]}
    )
    assert weight["weight"].sum().item() == pytest.approx(4)


def ignoring(folder):
    labels = {"background": 0, "x": 1, "y": 2, "ignore": 3}
    return nnunet(folder, voxels=touching(), labels=labels)


def test_voxels_that_nobody_labelled_go_through_transforms(tmp_path):
    item = found(ignoring(tmp_path))
    assert item["labels"].tolist() == [0, 1]
    assert torch.equal(item["unlabelled"][0], touching() == 3)
    crop = RandWeightedCropd(KEYS, "weight", (6, 6, 4), num_samples=1)
    weigh = LesionWeightMapd(spatial_size=(6, 6, 4))
    (patch,) = found(tmp_path, weigh, crop)
    assert patch["unlabelled"].shape == (1, 6, 6, 4)
    coarse = found(tmp_path, Spacingd(KEYS, (2, 2, 2), mode=MODES))
    assert coarse["unlabelled"].sum() == pytest.approx(8 / 8, abs=1)
    labelled = nnunet(tmp_path / "all", voxels=touching().clamp(max=2))
    assert found(labelled)["unlabelled"] is None


def test_background_without_label_is_not_learnt():
    detector = tiny_detector()
    unlabelled = torch.zeros(1, 16, 16, 16, dtype=torch.bool)
    unlabelled[:, 8:] = True
    rows = [[0.0, 0, 0, 4, 4, 4], [9, 0, 0, 13, 4, 4], [14, 0, 0, 22, 4, 4], [5, 0, 0, 9, 4, 4]]
    anchors = [torch.tensor(rows)]
    target = {**lesion_target([]), "unlabelled": unlabelled}
    (index,) = detector.compute_anchor_matched_idxs(anchors, [target], [2])
    assert index.tolist() == [-1, -2, -1, -1]
    images = torch.zeros(1, 1, 16, 16, 16)
    all_unlabelled = {**target, "unlabelled": torch.ones_like(unlabelled)}
    assert detector.train()(images, [all_unlabelled])["classification"].item() == 0
    with pytest.raises(ValueError, match=r"'unlabelled'\] must have shape \(1, 16, 16, 16\)"):
        detector(images, [{**target, "unlabelled": unlabelled[0]}])


def test_detections_without_label_are_not_counted_unless_they_hit():
    unlabelled = torch.zeros(1, 16, 16, 16, dtype=torch.bool)
    unlabelled[:, 8:] = True
    boxes = torch.tensor([[0.0, 0, 0, 4, 4, 4], [10, 0, 0, 14, 4, 4], [6, 8, 8, 12, 12, 12]])
    pred = {"boxes": boxes, "labels": torch.arange(3), "labels_scores": torch.rand(3)}
    scan = {"pred": pred, "boxes": torch.tensor([[5.0, 8, 8, 9, 12, 12]]), "unlabelled": unlabelled}
    assert DropUnlabelledBoxesd()(scan)["pred"]["labels"].tolist() == [0, 2]
    assert DropUnlabelledBoxesd()({**scan, "unlabelled": None})["pred"] is pred


def test_files_that_are_left_out_are_told(tmp_path):
    nnunet(tmp_path, numTraining=4)
    (tmp_path / "imagesTr" / "pat-1_a_0001.nii.gz").unlink()
    with pytest.warns(UserWarning, match="2 files are left out; the first is") as told:
        assert len(lesion_cases(tmp_path)) == 2
    messages = " ".join(str(warning.message) for warning in told)
    assert "case pat-1_a lacks channel 1 (FLAIR)" in messages
    assert "numTraining 4, but 2 cases are complete" in messages


def names(folder, part, **options):
    return [case["name"] for case in lesion_cases(folder, part, **options)]


def test_a_split_of_the_data_set_comes_before_a_share(tmp_path):
    box_list(tmp_path, training=[entry("a_1"), entry("c_1")], validation=[entry("b_1")])
    (tmp_path / "list.json").rename(tmp_path / "scans" / "list.json")
    folder = tmp_path / "scans"
    for seed in range(3):
        assert names(folder, "validation", seed=seed) == ["b_1"]
    assert names(folder, "train", validation=0) == ["a_1", "b_1", "c_1"]
    splits = [{"train": ["b_1", "c_1"], "val": ["a_1"]}, {"train": ["a_1"], "val": ["b_1"]}]
    (folder / "splits_final.json").write_text(json.dumps(splits))
    assert names(folder, "validation") == ["a_1"]
    assert names(folder, "validation", folds=2, fold=1) == ["b_1"]
    recorded = tmp_path / "run" / "splits_final.json"
    cases = {case["name"]: case for case in lesion_cases(folder)}
    write_split(recorded, [cases["a_1"]], [cases["c_1"]])
    assert names(folder, "validation", folds=str(recorded)) == ["c_1"]


def test_channels_in_files_of_their_own_are_one_scan(tmp_path):
    for channel in range(2):
        path = tmp_path / f"sub-01_{channel:04d}.nii.gz"
        save_nifti(path, torch.full(SHAPE, float(channel)), torch.eye(4))
    (scan,) = scans_to_detect([tmp_path], channels=2)
    image = LoadLesionCased()(scan)["image"]
    assert scan["name"] == "sub-01"
    assert image.shape == (2, *SHAPE)
    assert image.mean(dim=(1, 2, 3)).tolist() == [0, 1]
    assert len(scans_to_detect([tmp_path])) == 2
    with pytest.raises(ValueError, match="must hold 3 channels of sub-01, got .*_0001"):
        scans_to_detect([tmp_path], channels=3)
    (tmp_path / "sub-01_0000.nii.gz").unlink()
    with pytest.raises(ValueError, match="each channel of a scan once, got .*sub-01_0001"):
        scans_to_detect([tmp_path], channels=2)
