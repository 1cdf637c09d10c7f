"""Exact scores over thresholds of dense soft maps: what is held beside them, and in which parts."""

from __future__ import annotations

import pytest
import torch

from softoverlap.measures import BestThresholdDice, ExpectedDice
from softoverlap.measures.thresholds import voxels
from tests.support import high_water

WORKER = """
import torch
from softoverlap.measures import BestThresholdDice, ExpectedDice, ThresholdedDice
from tests.support.high_water import bytes_beyond
torch.set_num_threads(1)

def bytes_for(edge):
    pred, target = torch.rand(2, 1, 1, edge, edge, edge, dtype=torch.DTYPE)
    return bytes_beyond(lambda: measure(pred, target))

for measure in (ThresholdedDice(), BestThresholdDice(thresholds=None), ExpectedDice()):
    bytes_for(8)
    print(bytes_for(128))
"""

ROOM = {"float32": 0, "float64": 12 << 20}
"""Beside sixteen bytes a voxel: what is worked on, which eight of float32 leave space for."""


@pytest.mark.slow
@pytest.mark.skipif(not high_water.KNOWN, reason="needs Linux")
@pytest.mark.parametrize("dtype", ROOM)
def test_scores_over_thresholds_hold_at_most_sixteen_bytes_a_voxel(dtype):
    found = high_water.printed_numbers(WORKER.replace("DTYPE", dtype))
    assert len(found) == 3
    assert max(found) <= 16 * 128**3 + ROOM[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_values_may_come_in_parts_of_any_size(monkeypatch, dtype, weighted):
    generator = torch.Generator().manual_seed(0)
    pred, target = (torch.rand(2, 1, 9, 8, generator=generator).to(dtype) for _ in range(2))
    pred[1] = (4 * pred[1]).round() / 4  # few distinct values
    mask = torch.rand(2, 1, 9, 8, generator=generator) if weighted else None
    measures = (
        ExpectedDice(),
        BestThresholdDice(thresholds=None),
        BestThresholdDice(thresholds=None, target_threshold=0.5),
    )
    whole = [measure.statistics(pred, target, mask=mask) for measure in measures]
    for size in (1, 7):
        monkeypatch.setattr(voxels, "_VALUES_AT_ONCE", size)
        for measure, expected in zip(measures, whole, strict=True):
            found = measure.statistics(pred, target, mask=mask)
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
