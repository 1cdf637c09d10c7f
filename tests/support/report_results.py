"""Folders of results as `softoverlap score` writes them, small and made by hand."""

from __future__ import annotations

import csv
import json

import torch

from softoverlap.images import save_nifti

EDGES = tuple(f"axis{axis}_{end}" for end in ("min", "max") for axis in range(3))
HOSTILE = "<script>document.title='broken'</script>&\"'</script>"


def write_table(path, rows):
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def metric(mean):
    ends = {"mean_interval": [mean - 0.1, mean + 0.1], "median_interval": [mean, mean]}
    return {"mean": mean, "median": mean, "sd": 0.1, "min": 0.0, "max": 1.0, "n": 3, **ends}


def summary(**parts):
    return {
        "format": "softoverlap-summary",
        "version": "0.1.0",
        "settings": {"values": "auto", "truth_values": "auto", "geometry": "strict", "labels": []},
        "n": 3,
        "n_failed": 1,
        "bootstrap": {"resamples": 10, "confidence": 0.9, "seed": 0},
        **parts,
    }


def pooled():
    """All parts of a summary of masks; null stands for what is not defined."""
    return {
        "metrics": {"soft_dice": metric(0.625), "volume_bias_ml": metric(-0.25)},
        "bland_altman": {
            "n": 3, "mean_difference": -0.25, "mean_interval": [-0.5, 0.0], "sd": 0.1,
            "lower": -0.75, "lower_interval": [-1.0, None], "upper": 0.5,
            "upper_interval": [0.25, 0.75], "pearson": 0.9, "concordance": None,
        },
        "froc": {
            "fp_rates": [0.125, 1.0], "sensitivity": [0.25, 0.75], "cpm": 0.5, "scans": 3,
            "lesions": 4, "boxes": 5, "cpm_interval": [0.3, 0.7],
            "sensitivity_interval": [[0.1, 0.4], [0.6, 0.9]],
            "curve": {
                "fps_per_scan": [0.0, 1.0, 2.0], "sensitivities": [0.25, 0.75, 0.75],
                "thresholds": [None, 0.5, 0.1],
            },
        },
        "average_precision": 0.375,
        "calibration": {
            "error": 0.0625, "edges": [0.0, 0.5, 1.0], "predicted": [0.2, None],
            "observed": [0.1, None], "counts": [100.0, 0.0],
        },
    }  # fmt: skip


def headline(**changes):
    """What a summary tells of one score threshold; a key that is changed to None is left out."""
    point = {"sensitivity": 0.75, "precision": 0.6, "f1": 0.667, "fps_per_scan": 0.5}
    ends = {"sensitivity": [0.6, 0.9], "precision": [0.5, 0.7], "f1": [0.6, 0.72]}
    ends["fps_per_scan"] = [0.25, None]
    parts = {
        "hit": {"criterion": "box_iou", "threshold": 0.1, "words": "box IoU of at least 0.1"},
        "counts": {
            "patients": 3, "scans": 4, "lesions": 5, "cases_failed": 1, "missing": ["sub-98"],
        },
        "operating_point": {
            "threshold": 0.5, "rule": "f1", "words": "highest F1 on the scored cases",
            "optimistic": True, "hits": 3, "false_positives": 2, **point,
            **{f"{name}_interval": pair for name, pair in ends.items()},
        },
        "by_centre": {**point, "sensitivity": 0.875, "words": "centre within 2 mm"},
        "by_size": [{"size": "<10 mm³", "lesions": 2, "sensitivity": 0.5, "by_centre": None}],
        "too_large": {"lesions": 2, "max_lesion_mm": 32.0, "volume_covered": 0.61, "boxes": 7},
        "ignored": {"lesions": 3, "found": 1, "boxes": 1},
        "unreachable": {"own_box": 1, "smallest_anchor": 12},
        "average_precision_iou": 0.1,
    }  # fmt: skip
    return {key: part for key, part in {**parts, **changes}.items() if part is not None}


def write_results(folder, cases=None, lesions=(), boxes=(), **parts):
    """A folder of results; without cases, that of `masks`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "cases.csv", cases)
    for name, rows in (("lesions.csv", lesions), ("boxes.csv", boxes)):
        if rows:
            write_table(folder / name, rows)
    (folder / "summary.json").write_text(json.dumps(summary(**parts)))
    return folder


def edges(low, high):
    return dict(zip(EDGES, (*low, *high), strict=True))


def write_cohort(folder, count=3, name="sub-{:02d}"):
    """Masks, a scan of each case, and the results of scoring them, one case failed."""
    masks = folder / "masks"
    (folder / "scans").mkdir(parents=True)
    masks.mkdir()
    generator = torch.Generator().manual_seed(0)
    cases, lesions, boxes = [], [], []
    for number in range(count):
        case = name.format(number)
        truth, pred = torch.zeros(2, 12, 14, 10)
        truth[3:7, 4:9, 2:6] = 0.75
        pred[3:7, 5:10, 2:6] = 0.5
        files = {side: masks / f"{number}_{side}.nii.gz" for side in ("pred", "truth")}
        save_nifti(files["pred"], pred, torch.eye(4))
        save_nifti(files["truth"], truth, torch.eye(4))
        scan = torch.rand(truth.shape, generator=generator)
        if "/" not in case:
            save_nifti(folder / "scans" / f"{case}_flair.nii.gz", scan, torch.eye(4))
        dice = (number + 1) / (count + 1)
        volumes = {"pred_volume_ml": 0.1 + number, "truth_volume_ml": 0.2 + number}
        cases.append(
            {"case": case, "error": "", "warning": "", "kind": "masks"}
            | {side: str(path) for side, path in files.items()}
            | {"soft_dice": dice, "soft_iou": dice / 2, **volumes, "false_positives": number}
        )
        place = {f"centre_axis{axis}": 5.0 for axis in range(3)} | edges((3, 4, 2), (7, 9, 6))
        score = {"soft_dice": dice, "detected": number != 0, "existence": 0.6, "volume_mm3": 60.0}
        lesions.append({"case": case, "lesion": 0, **score, **place})
        box = {"case": case, "box": 0, "score": 0.625, "outcome": "hit", "lesion": 0}
        boxes.append(box | edges((3, 5, 2), (7, 10, 6)))
    cases.append({"case": "sub-99", "error": "no truth"})
    return write_results(folder / "results", cases, lesions, boxes, **pooled())
