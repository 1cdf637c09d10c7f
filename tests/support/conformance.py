"""The field's conformance cases for boxes, where the shared folder lies beside the checkout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

VECTORS = Path(__file__).parents[3] / "shared" / "data" / "vectors" / "boxes.json"
needs_vectors = pytest.mark.skipif(
    not VECTORS.exists(), reason="the shared conformance cases are not here"
)


def cases_of(*operations):
    """Cases of these operations; a and b are float64."""
    cases = json.loads(VECTORS.read_text())["cases"]
    return [
        case | {side: torch.tensor(case[side], dtype=torch.float64) for side in "ab"}
        for case in cases
        if case["op"] in operations
    ]


def assert_is_expected(value, case):
    """Within the published tolerance, and within rounding of the exact recomputation."""
    expected = torch.tensor(case["expected"], dtype=torch.float64)
    torch.testing.assert_close(value, expected, atol=case["atol"], rtol=0, msg=case["id"])
    exact = torch.tensor(case["reference_full_precision"], dtype=torch.float64)
    torch.testing.assert_close(value, exact, atol=1e-9, rtol=0, msg=case["id"])
