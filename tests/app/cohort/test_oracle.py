"""Truth against itself scores perfectly, in whatever form either side is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from softoverlap.app.cohort import (
    ScorePair,
    ScoreSettings,
    SummarySettings,
    find_pairs,
    score_cohort,
)
from softoverlap.images import (
    load_image,
    save_nifti,
    write_box_files,
)
from softoverlap.images.formats.choice import FORMATS
from softoverlap.images.formats.record import BoxFile
from softoverlap.lesions import lesions_from_mask
from softoverlap.phantoms import LesionPhantoms

AFFINE = torch.diag(torch.tensor([-1.0, 1.0, 2.0, 1.0], dtype=torch.float64))
OPEN_MS = Path(__file__).parents[4] / "shared" / "data" / "open_ms"
QUICK = SummarySettings(resamples=20)


def scenes():
    """Masks with lesions of every kind of size and shape."""
    sizes = torch.zeros(40, 40, 40)
    sizes[3:9, 4:10, 5:10] = 1  # fills its box
    for step in range(12):  # fills a tiny part of its box
        sizes[20 + step, 10 + step // 2, 20 + step] = 0.9
    sizes[30:32, 30:32, 2:3] = 0.8
    sizes[1, 38, 38] = 0.6  # one voxel
    shells = torch.zeros(40, 40, 30)  # a lesion within the hollow of another: boxes overlap
    shells[5:18, 5:18, 5:18] = 0.7
    shells[7:16, 7:16, 7:16] = 0
    shells[10:13, 10:13, 10:13] = 0.9
    large = torch.zeros(44, 20, 20)
    large[2:40, 5:9, 5:9] = 0.8  # longer than a box is asked to find
    large[10:14, 14:17, 14:17] = 0.9
    return {"sizes": sizes, "shells": shells, "large": large, "empty": torch.zeros(12, 10, 8)}


def truth_in(folder):
    for case, mask in scenes().items():
        save_nifti(folder / f"{case}.nii.gz", mask, AFFINE)
    return folder


def boxes_of(masks, folder, form, **options):
    """Boxes of all masks of a folder in a format, as `softoverlap boxes` makes them."""
    folder.mkdir()
    for path in sorted(masks.glob("*.nii.gz")):
        case, image = path.name.removesuffix(".nii.gz"), load_image(path)
        lesions = lesions_from_mask(image.data, spacing=image.lesion_spacing, **options)
        boxes = [lesion.box.double() for lesion in lesions]
        file = BoxFile(
            boxes=torch.stack(boxes) if boxes else torch.zeros(0, 6, dtype=torch.float64),
            scores=torch.tensor([float(lesion.crop.max()) for lesion in lesions]).double(),
            labels=torch.ones(len(boxes), dtype=torch.int64),
            affine=image.affine,
            case=case,
        )
        target = folder / f"{case}{FORMATS[form].suffix}"
        write_box_files(target, {case: file}, format=form, image=path)
    return folder


def perfect(output, pred, truth, settings=None):
    """Score, and check every figure that says how much was found."""
    pairs = pred if isinstance(pred, list) else find_pairs(str(pred), str(truth)).pairs
    result = score_cohort(pairs, output, settings or ScoreSettings(), options=QUICK)
    assert not result.failed, [row["error"] for case in result.failed for row in case.rows]
    summary = result.summary
    point = summary["operating_point"]
    found = {name: point[name] for name in ("sensitivity", "precision", "f1", "fps_per_scan")}
    assert found == {"sensitivity": 1, "precision": 1, "f1": 1, "fps_per_scan": 0}
    assert (point["hits"], point["false_positives"]) == (summary["counts"]["lesions"], 0)
    if "by_centre" in summary:
        assert summary["by_centre"]["sensitivity"] == summary["by_centre"]["precision"] == 1
    if "froc" in summary:
        assert summary["froc"]["cpm"] == summary["average_precision"] == 1
    else:
        assert "same score" in summary["no_curve"] or "no scores" in summary["no_curve"]
    for case in result.results:
        (row,) = case.rows
        assert row["false_positives"] == 0
        assert row["lesion_recall"] == (1 if row["lesions"] else None)
        assert row["pred_lesions"] == row["lesions"] + (row.get("too_large_lesions") or 0)
    for part in summary.get("by_size", ()):
        assert part["sensitivity"] == part.get("by_centre", 1) == 1
    return summary


def test_masks_against_themselves(tmp_path):
    (tmp_path / "truth").mkdir()
    truth = truth_in(tmp_path / "truth")
    summary = perfect(tmp_path / "out", truth, truth_in_copy(tmp_path, truth))
    assert summary["froc"]["lesions"] == 8


def truth_in_copy(tmp_path, truth):
    """The same masks in other files: a file against itself would be no comparison."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in truth.glob("*.nii.gz"):
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


FORMS = sorted(set(FORMATS) - {"labelmap"})


@pytest.mark.parametrize("form", FORMS)
def test_boxes_of_the_truth_against_its_masks(tmp_path, form):
    (tmp_path / "truth").mkdir()
    truth = truth_in(tmp_path / "truth")
    boxes = boxes_of(truth, tmp_path / "boxes", form)
    summary = perfect(tmp_path / "out", one_each(boxes, truth), truth)
    assert summary["counts"]["lesions"] == 7
    assert summary["too_large"]["lesions"] == 1
    assert summary["too_large"]["volume_covered"] == 1


def one_each(pred, truth):
    """Pairs of the files of two folders, by the name before the first dot."""
    cases = sorted(path.name.partition(".")[0] for path in truth.iterdir())
    files = [{p.name.partition(".")[0]: p for p in side.iterdir() if ".labels" not in p.name}
             for side in (pred, truth)]  # fmt: skip
    return [ScorePair(case, files[0][case], (files[1][case],)) for case in cases]


@pytest.mark.parametrize("form", FORMS)
def test_masks_against_the_boxes_made_from_them(tmp_path, form):
    (tmp_path / "masks").mkdir()
    masks = truth_in(tmp_path / "masks")
    boxes = boxes_of(masks, tmp_path / "boxes", form)
    perfect(tmp_path / "out", one_each(masks, boxes), boxes)


@pytest.mark.parametrize(
    ("form", "truth_form"),
    sorted({pair for form in FORMS for pair in ((form, form), (form, "json"), ("json", form))}),
)
def test_boxes_against_boxes(tmp_path, form, truth_form):
    (tmp_path / "masks").mkdir()
    masks = truth_in(tmp_path / "masks")
    sides = [boxes_of(masks, tmp_path / name, f) for name, f in (("a", form), ("b", truth_form))]
    perfect(tmp_path / "out", one_each(*sides), sides[1])


def test_a_label_map_of_boxes_that_do_not_overlap(tmp_path):
    (tmp_path / "masks").mkdir()
    mask = scenes()["sizes"]
    save_nifti(tmp_path / "masks" / "a.nii.gz", mask, AFFINE)
    boxes = boxes_of(tmp_path / "masks", tmp_path / "boxes", "labelmap")
    (path,) = boxes.glob("*.nii.gz")
    pair = ScorePair("a", path, (tmp_path / "masks" / "a.nii.gz",))
    settings = ScoreSettings(values="labels", hit="box_iou:0.1")
    perfect(tmp_path / "out", [pair], None, settings)


@pytest.mark.parametrize("threshold", [0.01, 0.5])
def test_raters_whose_mean_is_predicted(tmp_path, threshold):
    """Lesions are those of the raters' union; their mean, cut just above 0, has them all."""
    generator = torch.Generator().manual_seed(3)
    masks = (scenes()["sizes"] > 0).float()
    raters = torch.stack([masks, masks.clone(), masks.clone()])
    raters[1, :12] = 0
    raters[2, 20:, 28:] = 0
    raters[0, 30:32, 30:32, 2:3] = 0
    raters *= (torch.rand(raters.shape, generator=generator) < 2).float()
    (tmp_path / "truth").mkdir()
    for number, rater in enumerate(raters, start=1):
        save_nifti(tmp_path / "truth" / f"a_rater{number}.nii.gz", rater, AFFINE)
    (tmp_path / "pred").mkdir()
    save_nifti(tmp_path / "pred" / "a.nii.gz", raters.mean(dim=0), AFFINE)
    settings = ScoreSettings(threshold=threshold)
    result = score_cohort(
        find_pairs(str(tmp_path / "pred"), str(tmp_path / "truth")).pairs,
        tmp_path / "out", settings, options=QUICK,
    )  # fmt: skip
    point = result.summary["operating_point"]
    if threshold == 0.01:
        assert (point["sensitivity"], point["precision"]) == (1, 1)
    else:
        assert point["sensitivity"] < 1  # one lesion was marked by one of three


@pytest.mark.slow
def test_phantoms_with_raters_and_their_boxes(tmp_path):
    phantoms = LesionPhantoms(seed=4)
    for name in ("truth", "mean"):
        (tmp_path / name).mkdir()
    for number in range(3):
        scan = phantoms[number]
        for rater, mask in enumerate(scan.raters, start=1):
            save_nifti(tmp_path / "truth" / f"p{number}_rater{rater}.nii.gz", mask, AFFINE)
        save_nifti(
            tmp_path / "mean" / f"p{number}.nii.gz", scan.raters.double().mean(dim=0), AFFINE
        )
    settings = ScoreSettings(threshold=0.01)
    perfect(tmp_path / "out", tmp_path / "mean", tmp_path / "truth", settings)
    boxes = boxes_of(tmp_path / "mean", tmp_path / "boxes", "json", threshold=0.01)
    perfect(tmp_path / "out2", boxes, tmp_path / "truth", settings)


@pytest.mark.slow
@pytest.mark.skipif(not OPEN_MS.is_dir(), reason="no shared data")
def test_all_patients_of_open_ms(tmp_path):
    """Real lesions, most of them tiny, some that fill half a brain."""
    truths = sorted(OPEN_MS.glob("*_consensus_gt.nii.gz"))
    assert len(truths) == 20
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in truths:
        (masks / path.name).symlink_to(path)
    boxes = boxes_of(masks, tmp_path / "boxes", "json")
    summary = perfect(tmp_path / "a", one_each(boxes, masks), masks)
    assert summary["counts"] == {
        "patients": 20, "scans": 20, "cases_failed": 0, "missing": [],
        "lesions": summary["counts"]["lesions"],
    }  # fmt: skip
    assert summary["counts"]["lesions"] > 500
    assert summary["too_large"]["volume_covered"] == 1
    perfect(tmp_path / "b", one_each(masks, boxes), boxes)
    copies = [ScorePair(path.name, path, (path,)) for path in truths[:4]]
    perfect(tmp_path / "c", copies, None)
