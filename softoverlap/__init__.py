"""Exact soft overlap of masks and boxes, for people who train with MONAI.

Names are imported on first use (PEP 562), since importing MONAI takes seconds: `import softoverlap`
is quick, and what needs torch alone never waits for the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what type checkers and editors see; a test holds it equal to _ROOMS
    from softoverlap.anchors import (
        AnchorWeighting as AnchorWeighting,
        AnchorWeights as AnchorWeights,
        ATSSMatcher as ATSSMatcher,
        Matches as Matches,
        MaxOverlapMatcher as MaxOverlapMatcher,
        SimOTAMatcher as SimOTAMatcher,
        TaskAlignedMatcher as TaskAlignedMatcher,
        anchor_quality as anchor_quality,
    )
    from softoverlap.boxes import (
        decode_boxes as decode_boxes,
        encode_boxes as encode_boxes,
    )
    from softoverlap.data import (
        Aligned as Aligned,
        LesionPhantoms as LesionPhantoms,
        Staple as Staple,
        Volume as Volume,
        align_to as align_to,
        as_probabilities as as_probabilities,
        fuse_raters as fuse_raters,
        lesions_from_mask as lesions_from_mask,
        load_image as load_image,
        load_nifti as load_nifti,
        read_box_files as read_box_files,
        read_boxes as read_boxes,
        read_label_map as read_label_map,
        save_nifti as save_nifti,
        staple as staple,
        value_kind as value_kind,
        write_box_files as write_box_files,
        write_boxes as write_boxes,
    )
    from softoverlap.detection import (
        SoftRetinaNetDetector as SoftRetinaNetDetector,
        lesion_retinanet as lesion_retinanet,
        lesion_target as lesion_target,
    )
    from softoverlap.lesions import (
        Lesion as Lesion,
    )
    from softoverlap.losses import (
        BoxCIoULoss as BoxCIoULoss,
        BoxDIoULoss as BoxDIoULoss,
        BoxEIoULoss as BoxEIoULoss,
        BoxGIoULoss as BoxGIoULoss,
        BoxIoULoss as BoxIoULoss,
        BoxNWDLoss as BoxNWDLoss,
        BoxProjectionLoss as BoxProjectionLoss,
        CoarseToFineBoxLoss as CoarseToFineBoxLoss,
        MaskBoxDiceLoss as MaskBoxDiceLoss,
        MaskBoxIoULoss as MaskBoxIoULoss,
        PairwiseAffinityLoss as PairwiseAffinityLoss,
        QualityFocalLoss as QualityFocalLoss,
        RotatedBoxIoULoss as RotatedBoxIoULoss,
        SizePriorLoss as SizePriorLoss,
        SoftDiceCELoss as SoftDiceCELoss,
        SoftDiceLoss as SoftDiceLoss,
        SoftIoULoss as SoftIoULoss,
        SoftTverskyLoss as SoftTverskyLoss,
        VarifocalLoss as VarifocalLoss,
        iou_aware_score as iou_aware_score,
    )
    from softoverlap.mask_boxes import (
        SummedVolume as SummedVolume,
    )
    from softoverlap.metrics import (
        FROC as FROC,
        AveragePrecision as AveragePrecision,
        BoxAPMetric as BoxAPMetric,
        FROCMetric as FROCMetric,
        GeneralisedEnergyDistanceMetric as GeneralisedEnergyDistanceMetric,
        HumanCeilingMetric as HumanCeilingMetric,
        MetricSummary as MetricSummary,
        RaterOverlapMetric as RaterOverlapMetric,
        SoftDiceMetric as SoftDiceMetric,
        SoftIoUMetric as SoftIoUMetric,
        SoftTverskyMetric as SoftTverskyMetric,
        compute_average_precision as compute_average_precision,
        compute_froc as compute_froc,
        compute_generalised_energy_distance as compute_generalised_energy_distance,
        compute_human_ceiling as compute_human_ceiling,
        compute_rater_overlap as compute_rater_overlap,
        compute_soft_dice as compute_soft_dice,
        compute_soft_iou as compute_soft_iou,
        compute_soft_tversky as compute_soft_tversky,
    )
    from softoverlap.overlaps import (
        box_ciou as box_ciou,
        box_dice as box_dice,
        box_diou as box_diou,
        box_eiou as box_eiou,
        box_giou as box_giou,
        box_iof as box_iof,
        box_iou as box_iou,
        box_nwd as box_nwd,
        box_pair_ciou as box_pair_ciou,
        box_pair_dice as box_pair_dice,
        box_pair_diou as box_pair_diou,
        box_pair_eiou as box_pair_eiou,
        box_pair_giou as box_pair_giou,
        box_pair_iof as box_pair_iof,
        box_pair_iou as box_pair_iou,
        box_pair_nwd as box_pair_nwd,
        box_volume as box_volume,
        mask_box_dice as mask_box_dice,
        mask_box_diou as mask_box_diou,
        mask_box_iou as mask_box_iou,
        mask_box_mass as mask_box_mass,
        mask_box_pair_dice as mask_box_pair_dice,
        mask_box_pair_diou as mask_box_pair_diou,
        mask_box_pair_iou as mask_box_pair_iou,
        mask_box_pair_mass as mask_box_pair_mass,
        mask_box_pair_tversky as mask_box_pair_tversky,
        mask_box_tversky as mask_box_tversky,
        mask_dice as mask_dice,
        mask_iou as mask_iou,
        mask_tversky as mask_tversky,
        rotated_box_iof as rotated_box_iof,
        rotated_box_iou as rotated_box_iou,
        rotated_box_pair_iof as rotated_box_pair_iof,
        rotated_box_pair_iou as rotated_box_pair_iou,
    )
    from softoverlap.report import (
        plot_case as plot_case,
        plot_froc as plot_froc,
        save_figure as save_figure,
    )
    from softoverlap.suppression import (
        box_nms as box_nms,
        rotated_nms as rotated_nms,
        soft_nms as soft_nms,
        weighted_box_clustering as weighted_box_clustering,
    )

__version__ = "0.1.0"

_ROOMS = {
    "anchors": (
        "anchor_quality",
        "AnchorWeighting",
        "AnchorWeights",
        "ATSSMatcher",
        "Matches",
        "MaxOverlapMatcher",
        "SimOTAMatcher",
        "TaskAlignedMatcher",
    ),
    "boxes": (
        "decode_boxes",
        "encode_boxes",
    ),
    "data": (
        "align_to",
        "Aligned",
        "as_probabilities",
        "fuse_raters",
        "LesionPhantoms",
        "lesions_from_mask",
        "load_image",
        "load_nifti",
        "read_box_files",
        "read_boxes",
        "read_label_map",
        "save_nifti",
        "staple",
        "Staple",
        "value_kind",
        "Volume",
        "write_box_files",
        "write_boxes",
    ),
    "detection": (
        "lesion_retinanet",
        "lesion_target",
        "SoftRetinaNetDetector",
    ),
    "lesions": ("Lesion",),
    "losses": (
        "BoxCIoULoss",
        "BoxDIoULoss",
        "BoxEIoULoss",
        "BoxGIoULoss",
        "BoxIoULoss",
        "BoxNWDLoss",
        "BoxProjectionLoss",
        "CoarseToFineBoxLoss",
        "iou_aware_score",
        "MaskBoxDiceLoss",
        "MaskBoxIoULoss",
        "PairwiseAffinityLoss",
        "QualityFocalLoss",
        "RotatedBoxIoULoss",
        "SizePriorLoss",
        "SoftDiceCELoss",
        "SoftDiceLoss",
        "SoftIoULoss",
        "SoftTverskyLoss",
        "VarifocalLoss",
    ),
    "mask_boxes": ("SummedVolume",),
    "metrics": (
        "AveragePrecision",
        "BoxAPMetric",
        "compute_average_precision",
        "compute_froc",
        "compute_generalised_energy_distance",
        "compute_human_ceiling",
        "compute_rater_overlap",
        "compute_soft_dice",
        "compute_soft_iou",
        "compute_soft_tversky",
        "FROC",
        "FROCMetric",
        "GeneralisedEnergyDistanceMetric",
        "HumanCeilingMetric",
        "MetricSummary",
        "RaterOverlapMetric",
        "SoftDiceMetric",
        "SoftIoUMetric",
        "SoftTverskyMetric",
    ),
    "overlaps": (
        "box_ciou",
        "box_dice",
        "box_diou",
        "box_eiou",
        "box_giou",
        "box_iof",
        "box_iou",
        "box_nwd",
        "box_pair_ciou",
        "box_pair_dice",
        "box_pair_diou",
        "box_pair_eiou",
        "box_pair_giou",
        "box_pair_iof",
        "box_pair_iou",
        "box_pair_nwd",
        "box_volume",
        "mask_box_dice",
        "mask_box_diou",
        "mask_box_iou",
        "mask_box_mass",
        "mask_box_pair_dice",
        "mask_box_pair_diou",
        "mask_box_pair_iou",
        "mask_box_pair_mass",
        "mask_box_pair_tversky",
        "mask_box_tversky",
        "mask_dice",
        "mask_iou",
        "mask_tversky",
        "rotated_box_iof",
        "rotated_box_iou",
        "rotated_box_pair_iof",
        "rotated_box_pair_iou",
    ),
    "report": (
        "plot_case",
        "plot_froc",
        "save_figure",
    ),
    "suppression": (
        "box_nms",
        "rotated_nms",
        "soft_nms",
        "weighted_box_clustering",
    ),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted(_ROOM_OF)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    globals()[name] = value  # found at once from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOM_OF})
