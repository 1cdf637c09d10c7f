"""What a sum of signed parts is, beyond its rounding."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

ROUNDING = 32 * torch.finfo(torch.float64).eps
"""Of the sizes of all parts, so much of their sum may be rounding."""


def without_rounding(
    total: Float[Tensor, "*shape"], moved: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """The sum of signed parts, 0 where rounding alone could make it: what is apart shares nothing.

    Args:
        total: The sum, of something that is at least 0; NaN stays.
        moved: The sum of the parts' sizes.
    """
    return total.masked_fill(total.detach() <= ROUNDING * moved.detach(), 0)
