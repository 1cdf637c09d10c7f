"""What the columns of `cases.csv` and `lesions.csv` are called and mean, on the page."""

from __future__ import annotations

WORDS = {
    "soft_dice": ("Soft Dice", "overlap of the probabilities, 1 where they are equal"),
    "soft_iou": ("Soft IoU", "intersection over union of the probabilities"),
    "expected_dice": ("Expected Dice", "Dice of hard masks, over all thresholds"),
    "thresholded_dice": ("Thresholded Dice", "mean Dice at the thresholds of QUBIQ"),
    "hard_dice": ("Hard Dice", "Dice of both masks cut at the threshold"),
    "hard_iou": ("Hard IoU", "IoU of both masks cut at the threshold"),
    "pred_volume_ml": ("Predicted volume (ml)", "sum of the probabilities"),
    "truth_volume_ml": ("True volume (ml)", "sum of the probabilities"),
    "volume_bias_ml": ("Volume bias (ml)", "predicted less true volume"),
    "relative_volume_bias": ("Relative volume bias", "the bias over the true volume"),
    "brier": ("Brier score", "mean squared error of the probabilities near lesions; 0 is best"),
    "calibration_error": ("Calibration error", "of the probabilities near lesions; 0 is best"),
    "lesions": ("Lesions", "true lesions of the case"),
    "lesions_found": (
        "Lesions found",
        "true lesions that were found; between masks one predicted lesion may find several",
    ),
    "lesion_recall": (
        "Lesion recall",
        "share of the true lesions that were found; may exceed the sensitivity of FROC, where one "
        "predicted lesion takes one true one",
    ),
    "pred_lesions": ("Predicted lesions", "lesions or boxes of the prediction, of any score"),
    "false_positives": ("False positives", "predicted lesions that meet no true one"),
    "false_positive_ml": ("False positives (ml)", "their volume"),
    "lesion_dice": ("Lesion Dice", "mean Dice of the true lesions, 0 for a missed one"),
    "lesionwise_dice": ("Lesion-wise Dice", "sum of Dice over lesions and false positives"),
    "geometry_displacement_voxels": (
        "Grid displacement (voxels)",
        "how far the grids of prediction and truth lie apart",
    ),
    "volume_mm3": ("Volume (mm³)", "of the true lesion"),
    "pred_volume_mm3": ("Predicted volume (mm³)", "of what was found there"),
    "existence": ("Existence", "share of the raters that marked the lesion"),
    "detected": ("Found", "whether the lesion was found"),
    "n_pred": ("Predictions", "how many predicted lesions meet it"),
    "error": ("Error", "why the case could not be scored"),
    "warning": ("Warning", "what to know about the case"),
    "kind": ("Kind", "what was compared"),
    "pred": ("Prediction", "its file"),
    "truth": ("Truth", "its files"),
}

SUMMARY = (
    "soft_dice", "soft_iou", "expected_dice", "hard_dice", "volume_bias_ml", "lesion_recall",
    "lesion_dice", "lesionwise_dice", "false_positives", "brier", "calibration_error",
)  # fmt: skip
"""Shown at once; the rest is one click away."""

DISTRIBUTIONS = (
    "soft_dice", "soft_iou", "expected_dice", "hard_dice", "lesion_recall", "lesion_dice",
    "lesionwise_dice",
)  # fmt: skip

CASES = (
    "case", "label", "error", "warning", "soft_dice", "soft_iou", "hard_dice", "truth_volume_ml",
    "volume_bias_ml", "lesions", "lesions_found", "false_positives", "lesion_dice",
    "lesionwise_dice",
)  # fmt: skip
LESIONS = (
    "case", "label", "lesion", "volume_mm3", "soft_dice", "soft_iou", "detected", "existence",
    "pred_volume_mm3",
)  # fmt: skip


def name_of(column: str) -> str:
    """What a column is called."""
    return WORDS.get(column, (column, ""))[0]


def meaning_of(column: str) -> str:
    """What a column means, empty if that is not known."""
    return WORDS.get(column, ("", ""))[1]
