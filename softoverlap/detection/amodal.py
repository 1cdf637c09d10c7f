"""Quality of anchors for lesions that a patch cuts: what is hidden is not held against them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from softoverlap.anchors import anchor_quality
from softoverlap.lesions import Lesion


def lesion_quality(
    lesions: Sequence[Lesion], anchors: Float[Tensor, "anchors coords"], **options: Any
) -> Float[Tensor, "lesions anchors"]:
    """`anchor_quality` in [0, 1]."""
    return anchor_quality(lesions, anchors, validate=False, **options)
