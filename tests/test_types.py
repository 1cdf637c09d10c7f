"""Numbers against tensors whose type cannot hold them, or would be compared in float32."""

from __future__ import annotations

import math

import pytest
import torch

from softoverlap._types import at_least, is_number

LARGE = torch.tensor([16777216, 16777217, 2, -3], dtype=torch.int32)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("number", [16777217, 16777217.0, 2.5, -3.0, -2.5, math.inf, -math.inf])
def test_whole_numbers_are_compared_exactly(dtype, number):
    values = LARGE.to(dtype)
    assert is_number(values, number).tolist() == [value == number for value in values.tolist()]
    assert at_least(values, number).tolist() == [value >= number for value in values.tolist()]


@pytest.mark.parametrize("number", [0, 1, 0.5, 1.5, -1, 2])
def test_booleans_are_0_and_1(number):
    values = torch.tensor([False, True])
    assert is_number(values, number).tolist() == [value == number for value in (0, 1)]
    assert at_least(values, number).tolist() == [value >= number for value in (0, 1)]
