"""The one table between the names that the calls use and what the package calls them today.

A key of the stored values begins with the name that a thing had when it was frozen. Where a public
name changes, add one line here, or the old call to `old_calls.py`; nothing else changes.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tests.frozen.old_calls import OLD_CALLS, OldCall

_ROOMS = {
    "anchors": ("Matches",),
    "app.cohort": (
        "ScorePair",
        "ScoreSettings",
        "find_pairs",
        "read_pairs",
        "score_case",
        "score_cohort",
    ),
    "images": ("load_image", "read_box_files", "read_label_map", "value_kind"),
    "measures": ("compute_average_recall", "compute_bland_altman"),
}
"""Names that stayed, but are those of a room today, not of the package."""

RENAMED: dict[str, str | OldCall] = {
    **{name: f"{room}.{name}" for room, names in _ROOMS.items() for name in names},
    **OLD_CALLS,
}
"""Frozen name -> today's public name, or a function that makes the old call out of new parts."""

FIELDS: dict[str, str] = {}
"""Field of a result today -> its name when it was frozen."""

_RECORDS = "a record; its fields are stored with what returns it"
_FILES = "reads or writes without computing; stored through what is read back"
_INSIDE = "stored through the functions and metrics that are made of it"

TRANSFORMS = (
    "FuseRatersd",
    "LesionInstancesd",
    "LesionRegionsd",
    "LesionWeightMapd",
    "LesionsFromBoxesd",
    "LesionsFromInstancesd",
    "lesion_collate",
)

_OF_DWELL = ("compute_dwell", "dwell_intervals", "dwell_time", "expected_dwell_time")
_OF_VIEWS = (
    "AmodalBoxLoss",
    "amodal_iou_bound",
    "compute_iou_errors",
    "visible_box",
    "visible_fraction",
)
_OF_REGIONS = ("region_dice", "region_iou", "region_pair_dice", "region_pair_iou")
_OF_ORIENTED = (
    *(f"rotated_box_{form}" for form in ("diou", "giou", "pair_diou", "pair_giou")),
    *(f"mask_rotated_box_{form}" for form in ("mass", "dice", "iou", "pair_dice", "pair_iou")),
    *("RotatedBoxDIoULoss", "RotatedBoxGIoULoss", "encode_rotated_boxes", "decode_rotated_boxes"),
)
_OF_BALLS = (
    *(f"{kind}_{form}{name}" for kind in ("ball", "box_ball", "mask_ball")
      for form in ("", "pair_") for name in ("dice", "iou")),
    "ball_centreness", "ball_pair_centreness", "boxes_of_balls", "mask_ball_mass",
)  # fmt: skip
_OF_SOFT_BOXES = (
    "PDQ",
    "SoftBoxCRPSLoss",
    "SoftBoxIoULoss",
    "compute_pdq",
    "mask_soft_box_mass",
    "soft_box_dice",
    "soft_box_faces",
    "soft_box_iou",
    "soft_box_masks",
    "soft_box_mass",
    "soft_box_pair_dice",
    "soft_box_pair_iou",
    "soft_boxes",
    "soft_boxes_from_raters",
)
_OF_SCORES = (
    *("HaloDice", "MassAboveBackground", "MaxProbability", "MeanProbability"),
    *("LesionCalibration", "LesionCandidate", "LesionScores"),
    *("lesion_candidates", "lesion_scores"),
)
LEFT_OUT = {
    "AnchorPlan": _RECORDS,
    **dict.fromkeys(_OF_SCORES, "compared with loops over voxels in tests/lesions"),
    **dict.fromkeys(
        ("CentreDetector", "centre_retinanet"),
        "compared cell by cell in tests/for_monai/detector/test_centre.py",
    ),
    "Polygon": _RECORDS,
    "highest_density_region": "compared with a loop over levels in tests/test_regions.py",
    **dict.fromkeys(
        _OF_REGIONS, "compared with rational numbers in tests/overlaps/test_regions.py"
    ),
    **dict.fromkeys(
        _OF_BALLS, "compared with integrals over slices in tests/overlaps/test_balls.py"
    ),
    **dict.fromkeys(TRANSFORMS, "compared with analytic answers in tests/for_monai/transforms"),
    **dict.fromkeys(_OF_DWELL, "compared with loops over frames in tests/measures/test_dwell.py"),
    **dict.fromkeys(_OF_VIEWS, "compared cell by cell with tests/support/reference_occlusion.py"),
    **dict.fromkeys(_OF_ORIENTED, "compared with exact references in tests/support"),
    **dict.fromkeys(_OF_SOFT_BOXES, "compared with sums over fine grids, by their definitions"),
    "Hit": "a criterion and its threshold; what it decides is stored by match_scan",
    "Lesion": _RECORDS,
    "LesionwiseDice": _INSIDE,
    "Measure": "what all measures share",
    "SoftDice": _INSIDE,
    "SoftIoU": _INSIDE,
    "Volume": _RECORDS,
    "plan_anchors": "a choice; what it chooses by is tested against all anchors",
    "read_plan": _FILES,
    "save_nifti": _FILES,
    "write_boxes": _FILES,
}
"""Public names without entries of their own, and why."""


class _Names:
    """`api.box_iou`, or `api["box_iou"]`, is what the package calls so today."""

    def __getattr__(self, name: str) -> Any:
        today = RENAMED.get(name, name)
        if isinstance(today, OldCall):
            return today
        room, _, today = today.rpartition(".")
        return getattr(import_module(f"softoverlap.{room}".rstrip(".")), today)

    __getitem__ = __getattr__


api = _Names()


def covered(keys: list[str]) -> set[str]:
    """Public names of today that entries with these keys call."""
    today = [RENAMED.get(name, name) for name in {key.split("/")[0] for key in keys}]
    return {name for call in today for name in (call.uses if isinstance(call, OldCall) else [call])}
