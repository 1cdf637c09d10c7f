"""Data sets in the layouts of other tools: recognised, paired, and what is wrong is named."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from softoverlap.images import LAYOUTS, find_cases, load_case, load_nifti, read_boxes
from tests.support import data_sets
from tests.support.data_sets import NAMES, OLD, SHAPE, bids, box_list, decathlon, entry, nnunet


def reasons(table):
    return {file.path.name: file.reason for file in table.unpaired}


@pytest.mark.parametrize("make", [nnunet, decathlon], ids=["nnunet", "decathlon"])
def test_channels_classes_and_lesions_are_read(tmp_path, make):
    table = find_cases(make(tmp_path))
    assert table.layout == make.__name__
    assert [case.name for case in table.cases] == list(NAMES)
    assert [case.patient for case in table.cases] == ["pat-1", "pat-1", "pat-2"]
    assert (table.channels, table.classes) == (("T1", "FLAIR"), ("edema", "core"))
    assert table.class_values == (1, 2)
    assert (table.unpaired, table.notes) == ((), ())
    loaded = load_case(table.cases[0])
    assert torch.equal(loaded.channels, torch.stack([data_sets.scan(0), data_sets.scan(1)]))
    assert torch.equal(loaded.image, loaded.channels[0])
    assert torch.equal(loaded.mask, (data_sets.label_map() > 0).float())
    assert [(lesion.label, lesion.volume_mm3) for lesion in loaded.lesions] == [
        (0, 8.0), (0, 8.0), (1, 36.0),
    ]  # fmt: skip
    assert (loaded.classes, loaded.ignored, loaded.notes) == (table.classes, None, ())
    assert torch.equal(loaded.class_map(), data_sets.label_map().short())


def test_the_first_version_of_nnunet_lists_scans_without_their_channels(tmp_path):
    table = find_cases(nnunet(tmp_path, **OLD, training=data_sets.listing()))
    assert (table.layout, len(table.cases)) == ("nnunet", 3)
    assert (table.channels, table.classes) == (("T1", "FLAIR"), ("edema", "core"))


def test_nnunet_may_list_its_files_itself(tmp_path):
    nnunet(tmp_path)
    (tmp_path / "imagesTr").rename(tmp_path / "scans")
    listed = {
        name: {
            "images": [f"scans/{name}_{channel:04d}.nii.gz" for channel in range(2)],
            "label": f"labelsTr/{name}.nii.gz",
        }
        for name in NAMES
    }
    listed["gone"] = {"images": ["scans/gone.nii.gz"] * 2, "label": "labelsTr/gone.nii.gz"}
    data_sets.describe(tmp_path, dataset=listed)
    table = find_cases(tmp_path)
    assert [len(load_case(case).lesions) for case in table.cases] == [3, 3, 3]
    assert "found no such file" in reasons(table)["gone.nii.gz"]


def test_regions_overlap_and_ignored_voxels_are_marked(tmp_path):
    labels = data_sets.label_map()
    labels[0, 9, 0] = 3
    values = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    table = find_cases(nnunet(tmp_path, voxels=labels, labels=values))
    assert (table.classes, table.class_values) == (("whole", "core"), None)
    loaded = load_case(table.cases[0])
    assert [lesion.label for lesion in loaded.lesions] == [0, 0, 0, 1]
    assert loaded.ignored.nonzero().tolist() == [[0, 9, 0]]
    assert loaded.mask[0, 9, 0] == 0
    assert loaded.notes == ("case pat-1_a: 1 voxels are labelled ignore, and of no lesion",)


def test_a_case_of_nnunet_without_all_its_files_is_left_out_with_the_reason(tmp_path):
    nnunet(tmp_path)
    images, labels = tmp_path / "imagesTr", tmp_path / "labelsTr"
    (images / "pat-1_a_0001.nii.gz").unlink()
    (labels / "pat-1_b.nii.gz").unlink()
    shutil.copy(labels / "pat-2_a.nii.gz", labels / "stray.nii.gz")
    for name in ("pat-2_a_0002.nii.gz", "pat-2_a.nii.gz", "pat-2_a_0000.nii", "notes.txt"):
        (images / name).touch()
    table = find_cases(tmp_path)
    assert [case.name for case in table.cases] == ["pat-2_a"]
    (note,) = table.notes
    assert "dataset.json says numTraining 3, but 1 cases are complete" in note
    told = reasons(table)
    assert told["pat-1_a_0000.nii.gz"] == "case pat-1_a lacks channel 1 (FLAIR)"
    assert told["pat-1_a.nii.gz"] == "case pat-1_a lacks channel 1 (FLAIR)"
    assert told["pat-1_b_0001.nii.gz"] == "no label map of case pat-1_b"
    assert told["stray.nii.gz"] == "no image of case stray"
    assert told["pat-2_a_0002.nii.gz"] == "no channel 2 in dataset.json: dataset.json names 2"
    assert "CASE_0000, CASE_0001" in told["pat-2_a.nii.gz"]
    assert told["pat-2_a_0000.nii"] == "does not end in .nii.gz, as dataset.json says"
    assert told["notes.txt"].startswith("not a file ending in")


def test_files_that_the_decathlon_does_not_list_or_does_not_have_are_told(tmp_path):
    decathlon(tmp_path, training=data_sets.listing([*NAMES[:2], "gone_1"]))
    (tmp_path / "imagesTr" / "._pat-1_a.nii.gz").touch()
    (tmp_path / "labelsTr" / "pat-1_b.nii.gz").unlink()
    table = find_cases(tmp_path)
    assert [case.name for case in table.cases] == ["pat-1_a"]
    told = {file.path.relative_to(tmp_path).as_posix(): file.reason for file in table.unpaired}
    assert told == {
        "imagesTr/gone_1.nii.gz": "dataset.json lists it, found no such file",
        "labelsTr/gone_1.nii.gz": "dataset.json lists it, found no such file",
        "labelsTr/pat-1_b.nii.gz": "dataset.json lists it, found no such file",
        "imagesTr/pat-1_b.nii.gz": "the other file of case pat-1_b is missing",
        "imagesTr/pat-2_a.nii.gz": "dataset.json does not list it as training",
        "labelsTr/pat-2_a.nii.gz": "dataset.json does not list it as training",
    }
    data_sets.describe(tmp_path, **OLD, training=data_sets.listing(["pat-1_a", "pat-1_a"]))
    with pytest.raises(ValueError, match=r"dataset\.json must list each case once, got pat-1_a"):
        find_cases(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, r"must be a description of a data set, got no 'labels'"),
        ({"labels": []}, r"got \[\] as labels, which is no object"),
        ({"labels": {"background": 0}}, "must have a label besides the background"),
        ({"labels": {"background": 0, "a": "one"}}, "must be a description of a data set"),
        ({"labels": {"background": 0, "a": -1}}, r"whole numbers from 0 on, got -1"),
        ({"labels": {"background": 0, "a": 1.5}}, "no whole number: 1.5"),
        ({"labels": {"background": 0, "a": 1, "ignore": [2, 3]}}, "one number for ignore"),
        ({"channel_names": None}, r"got no 'modality'"),
        ({"channel_names": {"0": "a", "2": "b"}}, "channel_names must be numbered from 0 on"),
        ({"channel_names": {"0": 7}}, "7 in channel_names, which is no text"),
        ({"file_ending": ".png"}, r"must have a file_ending that is read, .* got '\.png'"),
    ],
)
def test_a_broken_description_is_named(tmp_path, changes, message):
    nnunet(tmp_path, channels=1)
    data_sets.describe(tmp_path, **changes)
    with pytest.raises(ValueError, match=rf"dataset\.json .*{message}"):
        find_cases(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "must be a JSON file"), ("[]", "no object"), ("", "got an empty one")],
)
def test_a_description_that_is_no_object_is_named(tmp_path, text, message):
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ValueError, match=rf"dataset\.json .*{message}"):
        find_cases(tmp_path)


def test_empty_folders_are_named(tmp_path):
    (tmp_path / "imagesTr").mkdir()
    with pytest.raises(FileNotFoundError, match=r"dataset\.json must describe the data set"):
        find_cases(tmp_path)
    data_sets.describe(tmp_path)
    with pytest.raises(FileNotFoundError, match="labelsTr must be a folder with label maps"):
        find_cases(tmp_path)
    (tmp_path / "labelsTr").mkdir()
    with pytest.raises(ValueError, match=r"imagesTr must hold scans named CASE_0000\.nii\.gz"):
        find_cases(tmp_path)
    data_sets.describe(tmp_path, **OLD, training=[])
    with pytest.raises(ValueError, match="dataset.json must list scans as training, got none"):
        find_cases(tmp_path, layout="decathlon")


def test_channels_on_another_grid_and_of_another_number_cost_their_case(tmp_path):
    nnunet(tmp_path / "a")
    shifted = torch.eye(4)
    shifted[0, 3] = 3
    path = tmp_path / "a" / "imagesTr" / "pat-1_a_0001.nii.gz"
    data_sets.save(path, data_sets.scan(), shifted)
    data_sets.save(path.with_name("pat-1_b_0001.nii.gz"), torch.zeros(4, 4, 4))
    first, second, third = find_cases(tmp_path / "a").cases
    with pytest.raises(ValueError, match=r"pat-1_a_0001.* on the grid of .*_0000.* 3 voxels"):
        load_case(first)
    with pytest.raises(ValueError, match=r"pat-1_b_0001.* must have the shape of .*_0000"):
        load_case(second)
    assert len(load_case(third).lesions) == 3
    decathlon(tmp_path / "b")
    path = tmp_path / "b" / "imagesTr" / "pat-1_a.nii.gz"
    data_sets.save(path, data_sets.scan())
    first, second, _ = find_cases(tmp_path / "b").cases
    with pytest.raises(ValueError, match=r"pat-1_a.* must hold 2 channels, T1, FLAIR, got 1"):
        load_case(first)
    assert len(load_case(second).channels) == 2


def test_labels_that_nobody_named_and_broken_files_are_named(tmp_path):
    labels = data_sets.label_map()
    labels[0, 0, :3] = torch.tensor([7.0, 0.5, 9.0])
    nnunet(tmp_path, voxels=labels)
    first, second, third = find_cases(tmp_path).cases
    with pytest.raises(ValueError, match=r"names, 1, 2, got 0\.5, 7, 9"):
        load_case(first)
    second.labels.path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"labelsTr/pat-1_b\.nii\.gz must be a readable NIfTI"):
        load_case(second)
    third.further[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"pat-2_a_0001\.nii\.gz must be an image"):
        load_case(third)


def test_bids_gathers_kinds_of_images_as_channels(tmp_path):
    table = find_cases(bids(tmp_path))
    assert (table.layout, table.channels) == ("bids", ("FLAIR", "T1w"))
    names = ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"]
    assert [case.name for case in table.cases] == names
    assert [case.patient for case in table.cases] == ["sub-01", "sub-01", "sub-02"]
    loaded = load_case(table.cases[0])
    assert torch.equal(loaded.image, data_sets.scan(1))
    assert len(loaded.lesions) == 3


def test_label_maps_of_bids_take_their_names_from_a_table(tmp_path):
    bids(tmp_path, mask="dseg", kinds=("T1w",))
    table = find_cases(tmp_path)
    assert (table.classes, table.class_values) == (("lesion",), None)
    assert "no _dseg.tsv that names its labels: all are one class" in table.notes[0]
    assert [lesion.label for lesion in load_case(table.cases[0]).lesions] == [0, 0, 0]
    names = tmp_path / "derivatives" / "manual" / "dseg.tsv"
    names.write_text("index\tname\n0\tbackground\n1\tedema\n2\tcore\n")
    table = find_cases(tmp_path)
    assert (table.classes, table.notes) == (("edema", "core"), ())
    assert table.class_values == (1, 2)
    assert [lesion.label for lesion in load_case(table.cases[0]).lesions] == [0, 0, 1]
    names.write_text("number\tname\n")
    with pytest.raises(ValueError, match=r"dseg\.tsv must have the columns index and name"):
        find_cases(tmp_path)


def test_masks_of_bids_are_those_of_lesions_and_raters(tmp_path):
    bids(tmp_path, kinds=("T1w",))
    (tmp_path / "sub-03" / "anat").mkdir(parents=True)
    (tmp_path / "sub-03" / "anat" / "sub-03_T1w.nii.gz").touch()
    for session, mask in (("1", "desc-brain_mask"), ("1", "label-GM_probseg")):
        place = tmp_path / "derivatives" / "fmriprep" / "sub-01" / f"ses-{session}" / "anat"
        data_sets.save(place / f"sub-01_ses-{session}_{mask}.nii.gz", torch.ones(SHAPE))
    for number in (2, 1):
        name = f"sub-02_ses-1_desc-rater{number}_mask.nii.gz"
        place = tmp_path / "derivatives" / "raters" / "sub-02" / "anat"
        data_sets.save(place / name, torch.full(SHAPE, number - 1.0))
    again = tmp_path / "derivatives" / "sub-02_ses-1_acq-b_desc-rater2_mask.nii.gz"
    data_sets.save(again, torch.zeros(SHAPE))
    second = tmp_path / "derivatives" / "other" / "sub-01" / "sub-01_ses-2_desc-lesion_mask.nii.gz"
    data_sets.save(second, torch.zeros(SHAPE))
    table = find_cases(tmp_path)
    assert [case.name for case in table.cases] == ["sub-01_ses-1", "sub-02_ses-1"]
    assert [path.name[18:24] for path in table.cases[1].raters] == ["rater1", "rater2"]
    told = reasons(table)
    assert told[again.name] == "another mask is of the same rater"
    assert told["sub-03_T1w.nii.gz"] == "no mask of case sub-03"
    assert "sub-01_ses-2 must have one mask of lesions, got" in told[second.name]
    assert told["sub-01_ses-1_label-GM_probseg.nii.gz"].startswith("another mask of case")


def test_a_kind_of_image_that_a_case_of_bids_lacks_costs_that_case(tmp_path):
    bids(tmp_path)
    anat = tmp_path / "sub-01" / "ses-2" / "anat"
    (anat / "sub-01_ses-2_FLAIR.nii.gz").unlink()
    (anat / "sub-01_ses-2_T2w.nii.gz").touch()
    table = find_cases(tmp_path)
    assert len(table.cases) == 2
    told = reasons(table)
    assert told["sub-01_ses-2_T1w.nii.gz"] == "case sub-01_ses-2 lacks channel FLAIR"
    assert told["sub-01_ses-2_T2w.nii.gz"] == "a kind of image that most cases lack"


def test_a_table_of_patients_counts_in_every_layout(tmp_path):
    nnunet(tmp_path)
    (tmp_path / "patients.csv").write_text("case,patient\npat-1_a,ada\nzoe,zoe\n")
    table = find_cases(tmp_path)
    assert [case.patient for case in table.cases] == ["ada", "pat-1", "pat-2"]
    assert reasons(table) == {"patients.csv": "no image of case zoe"}


def test_a_folder_of_no_or_of_two_layouts_is_named(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "readme.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"nnU-Net: .*BIDS: .*found readme\.txt, scans/"):
        find_cases(tmp_path)
    nnunet(tmp_path)
    bids(tmp_path)
    with pytest.raises(ValueError, match=r"more than one layout, nnU-Net .* and BIDS .*`layout=`"):
        find_cases(tmp_path)
    assert find_cases(tmp_path, layout="nnunet").layout == "nnunet"
    with pytest.raises(ValueError, match="layout must be one of"):
        find_cases(tmp_path, layout="coco")
    with pytest.raises(ValueError, match="frame goes with a list of boxes, got BIDS"):
        find_cases(tmp_path, layout="bids", frame="RAS")
    assert set(LAYOUTS) == {"ours", "nnunet", "decathlon", "bids", "list"}


def test_a_list_of_boxes_names_its_scans_and_its_parts(tmp_path):
    parts = {
        "training": [entry("a_1"), entry("b_1", boxes=[], labels=[])],
        "validation": [entry("c_1")],
        "testing": [entry("d_1")],
    }
    box_list(tmp_path, **parts)
    (tmp_path / "scans" / "b_1.nii.gz").unlink()
    table = find_cases(tmp_path, images=tmp_path / "scans")
    assert (table.layout, table.classes) == ("list", ("lesion",))
    assert [case.name for case in table.cases] == ["a_1", "c_1"]
    assert table.fold is not None
    assert (table.fold.train, table.fold.validation) == (("a_1",), ("c_1",))
    assert "1 scans of its test lists left out" in table.notes[0]
    assert reasons(table) == {"b_1.nii.gz": "list.json lists it, found no such file"}


def test_boxes_are_lesions(tmp_path):
    boxes = [[4.5, 4.5, 4.5, 4, 4, 2], [0, 4, 4, 4, 2, 2]]
    box_list(tmp_path, training=[entry("a", boxes, [0, 1])])
    table = find_cases(tmp_path / "list.json", images=tmp_path / "scans")
    assert table.classes == ("class 0", "class 1")
    loaded = load_case(table.cases[0])
    first, second = loaded.lesions
    assert first.box.tolist() == [3, 3, 4, 7, 7, 6]
    assert (first.label, second.label) == (0, 1)
    assert second.box.tolist() == [0, 3.5, 3.5, 2.5, 5.5, 5.5]
    assert loaded.notes == ("case a: 1 boxes reach beyond the scan, and are cut there",)
    assert loaded.mask[5, 5, 5] > 0.9
    assert float(loaded.mask.sum()) == pytest.approx(sum(one.volume_mm3 for one in loaded.lesions))


def test_boxes_of_a_list_may_be_in_voxels(tmp_path):
    box_list(tmp_path, training=[entry("a", [[3, 3, 4, 7, 7, 6]])])
    path = tmp_path / "list.json"
    content = {**json.loads(path.read_text()), "box_mode": "xyzxyz", "units": "voxels"}
    content.pop("frame")
    path.write_text(json.dumps(content))
    (case,) = find_cases(path, images=tmp_path / "scans").cases
    assert [lesion.box.tolist() for lesion in load_case(case).lesions] == [[3, 3, 4, 7, 7, 6]]
    assert read_boxes(path).boxes.tolist() == [[3, 3, 4, 7, 7, 6]]
    with pytest.raises(ValueError, match="frame goes with boxes in mm, .* has them in voxels"):
        find_cases(path, frame="RAS")
    path.write_text(json.dumps({**content, "frame": "RAS"}))
    with pytest.raises(ValueError, match="must have boxes in voxels, as the list, got frame 'RAS'"):
        find_cases(path)


def test_a_list_that_cannot_be_read_is_named(tmp_path):
    box_list(tmp_path, training=[entry("a", [[90, 0, 0, 2, 2, 2]])])
    path = tmp_path / "list.json"
    (case,) = find_cases(path, images=tmp_path / "scans").cases
    with pytest.raises(ValueError, match=r"boxes on the scan .*a\.nii\.gz.* is the frame, RAS"):
        load_case(case)
    with pytest.raises(ValueError, match="frame must be that of .*list.json itself, RAS, got LPS"):
        find_cases(path, frame="LPS")
    content = json.loads(path.read_text())
    for change, message in (
        ({"frame": None}, "does not say in which frame"),
        ({"training": []}, "must list scans as training, got none"),
        ({"training": [entry("a"), entry("a")]}, "must list each image once, got a again"),
        ({"training": [entry("a", labels=[-1])]}, r"labels in \[0, 1000\), got -1"),
        ({"training": [entry("a", labels=[0, 1])]}, "must have a label in all boxes or none"),
    ):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(ValueError, match=rf"list\.json.* {message}"):
            find_cases(path)
    shutil.copy(path, tmp_path / "other.json")
    with pytest.raises(ValueError, match="folder must hold one list of boxes, .* got list.json, o"):
        find_cases(tmp_path)
    (tmp_path / "other.json").unlink()
    path.write_text(path.read_text()[:20])
    with pytest.raises(ValueError, match=r"list\.json must be a JSON file"):
        find_cases(tmp_path)


def test_one_slice_is_a_scan(tmp_path):
    nnunet(tmp_path)
    for path in [*tmp_path.glob("imagesTr/*"), *tmp_path.glob("labelsTr/*")]:
        voxels = load_nifti(path).data[:, :, 5:6]
        data_sets.save(path, voxels)
    loaded = load_case(find_cases(tmp_path).cases[0])
    assert loaded.channels.shape == (2, *SHAPE[:2], 1)
    assert [(lesion.label, lesion.box.tolist()) for lesion in loaded.lesions] == [
        (1, [8, 5, 0, 11, 9, 1])
    ]
