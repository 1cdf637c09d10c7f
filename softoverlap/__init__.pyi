"""The public names of the library, each with the room that it comes from.

This is the one list of them: the package imports a name from its room on first use, and editors
and type checkers read it as it stands. The application has doors of its own, such as
`softoverlap.app.cohort`.
"""

from softoverlap.anchors import (
    AnchorPlan as AnchorPlan,
    AnchorWeighting as AnchorWeighting,
    ATSSMatcher as ATSSMatcher,
    MaxOverlapMatcher as MaxOverlapMatcher,
    SimOTAMatcher as SimOTAMatcher,
    TaskAlignedMatcher as TaskAlignedMatcher,
    anchor_quality as anchor_quality,
    plan_anchors as plan_anchors,
)
from softoverlap.boxes import (
    decode_boxes as decode_boxes,
    encode_boxes as encode_boxes,
)
from softoverlap.for_monai import (
    BoxAPMetric as BoxAPMetric,
    FROCMetric as FROCMetric,
    FuseRatersd as FuseRatersd,
    LesionInstancesd as LesionInstancesd,
    LesionsFromBoxesd as LesionsFromBoxesd,
    LesionsFromInstancesd as LesionsFromInstancesd,
    LesionWeightMapd as LesionWeightMapd,
    LesionwiseDiceMetric as LesionwiseDiceMetric,
    MeasureMetric as MeasureMetric,
    SoftDiceMetric as SoftDiceMetric,
    SoftIoUMetric as SoftIoUMetric,
    SoftRetinaNetDetector as SoftRetinaNetDetector,
    SoftTverskyMetric as SoftTverskyMetric,
    ThresholdedDiceMetric as ThresholdedDiceMetric,
    ThresholdedHausdorff as ThresholdedHausdorff,
    ThresholdedSurfaceDice as ThresholdedSurfaceDice,
    lesion_collate as lesion_collate,
    lesion_retinanet as lesion_retinanet,
    lesion_target as lesion_target,
)
from softoverlap.images import (
    Volume as Volume,
    align_to as align_to,
    as_probabilities as as_probabilities,
    load_nifti as load_nifti,
    read_boxes as read_boxes,
    read_plan as read_plan,
    save_nifti as save_nifti,
    write_boxes as write_boxes,
)
from softoverlap.lesion import (
    Lesion as Lesion,
)
from softoverlap.lesions import (
    fuse_raters as fuse_raters,
    lesions_from_mask as lesions_from_mask,
    staple as staple,
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
    SoftBoxCRPSLoss as SoftBoxCRPSLoss,
    SoftBoxIoULoss as SoftBoxIoULoss,
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
from softoverlap.measures import (
    PDQ as PDQ,
    BestThresholdDice as BestThresholdDice,
    Brier as Brier,
    CalibrationError as CalibrationError,
    ExpectedDice as ExpectedDice,
    ExpectedIoU as ExpectedIoU,
    FalsePositives as FalsePositives,
    GeneralisedEnergyDistance as GeneralisedEnergyDistance,
    Hit as Hit,
    HumanCeiling as HumanCeiling,
    LesionRecall as LesionRecall,
    LesionwiseDice as LesionwiseDice,
    Measure as Measure,
    PanopticQuality as PanopticQuality,
    RaterOverlap as RaterOverlap,
    RelativeVolumeBias as RelativeVolumeBias,
    SoftDice as SoftDice,
    SoftIoU as SoftIoU,
    SoftTversky as SoftTversky,
    ThresholdedDice as ThresholdedDice,
    ThresholdedIoU as ThresholdedIoU,
    VolumeBias as VolumeBias,
    compute_average_precision as compute_average_precision,
    compute_dwell as compute_dwell,
    compute_froc as compute_froc,
    compute_lesionwise_dice as compute_lesionwise_dice,
    compute_pdq as compute_pdq,
    compute_score_existence_correlation as compute_score_existence_correlation,
    compute_soft_dice as compute_soft_dice,
    compute_soft_iou as compute_soft_iou,
    dwell_intervals as dwell_intervals,
    dwell_time as dwell_time,
    expected_dwell_time as expected_dwell_time,
    match_scan as match_scan,
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
    mask_soft_box_mass as mask_soft_box_mass,
    mask_tversky as mask_tversky,
    rotated_box_iof as rotated_box_iof,
    rotated_box_iou as rotated_box_iou,
    rotated_box_pair_iof as rotated_box_pair_iof,
    rotated_box_pair_iou as rotated_box_pair_iou,
    soft_box_dice as soft_box_dice,
    soft_box_iou as soft_box_iou,
    soft_box_mass as soft_box_mass,
    soft_box_pair_dice as soft_box_pair_dice,
    soft_box_pair_iou as soft_box_pair_iou,
)
from softoverlap.phantoms import (
    LesionPhantoms as LesionPhantoms,
)
from softoverlap.soft_box import (
    soft_box_faces as soft_box_faces,
    soft_box_masks as soft_box_masks,
    soft_boxes as soft_boxes,
    soft_boxes_from_raters as soft_boxes_from_raters,
)
from softoverlap.suppression import (
    box_nms as box_nms,
    rotated_nms as rotated_nms,
    soft_nms as soft_nms,
    weighted_box_clustering as weighted_box_clustering,
)

__version__: str
__all__: list[str]
