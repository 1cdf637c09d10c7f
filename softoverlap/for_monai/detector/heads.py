"""The heads that a detector may have, by the names that a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from monai.apps.detection.networks.retinanet_network import RetinaNet

from softoverlap._checks import check_choice
from softoverlap.for_monai.detector.centre import CentreDetector, centre_retinanet
from softoverlap.for_monai.detector.detector import SoftRetinaNetDetector
from softoverlap.for_monai.detector.network import lesion_retinanet


class DetectorHead(NamedTuple):
    """What makes a detector with one kind of head."""

    network: Callable[..., RetinaNet]
    detector: type[SoftRetinaNetDetector]


_HEADS = {
    "anchors": DetectorHead(lesion_retinanet, SoftRetinaNetDetector),
    "centre": DetectorHead(centre_retinanet, CentreDetector),
}


def detector_head(head: str) -> DetectorHead:
    """The makers of network and detector with this head.

    Args:
        head: `"anchors"` or `"centre"`.

    Returns:
        The function that makes the network, and the class of the detector.

    Raises:
        ValueError: If there is no such head.

    Examples:
        >>> detector_head("centre").detector.__name__
        'CentreDetector'
    """
    check_choice("head", head, tuple(_HEADS))
    return _HEADS[head]
