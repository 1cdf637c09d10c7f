"""Of boxes that find the same thing: keep the most confident, quiet the rest, or average them."""

from softoverlap.suppression.clustering import weighted_box_clustering
from softoverlap.suppression.nms import box_nms, rotated_nms
from softoverlap.suppression.soft import soft_nms

__all__ = ["box_nms", "rotated_nms", "soft_nms", "weighted_box_clustering"]
