"""Windows around what a scan holds: nothing is left out, and nothing counts twice."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap.app.cohort import ScorePair, ScoreSettings, islands, score_case, voxels
from softoverlap.app.cohort.islands import cell_maxima, windows
from softoverlap.images import save_nifti
from softoverlap.measures import Brier, CalibrationError, ExpectedDice, SoftDice, ThresholdedDice
from tests.app.cohort.test_cases import AFFINE

shapes = st.tuples(*[st.integers(1, 21)] * 3)


@given(shapes, st.permutations(range(3)), st.integers(0, 99), st.sampled_from([bool, np.float32]))
def test_cells_hold_their_largest_value_in_any_layout(shape, order, seed, dtype):
    values = np.random.default_rng(seed).random(shape).astype(dtype).transpose(order)
    maxima = cell_maxima(values)
    for cell in np.ndindex(*maxima.shape):
        own = values[tuple(slice(8 * at, 8 * at + 8) for at in cell)]
        assert maxima[cell] == own.max()
    assert maxima.shape == tuple(math.ceil(length / 8) for length in values.shape)


@settings(max_examples=40)
@given(st.integers(0, 999), st.integers(0, 8), st.sampled_from([0, 3, 8]))
def test_windows_are_apart_and_hold_all_with_its_margin(seed, count, margin):
    shape = (60, 75, 33)
    marked = np.zeros(shape, dtype=bool)
    for place in np.random.default_rng(seed).integers(0, shape, (count, 3)):
        marked[tuple(place)] = True
    found = windows(cell_maxima(marked), shape, margin=margin)
    covered = np.zeros(shape, dtype=int)
    for window in found:
        covered[window] += 1
    assert covered.max(initial=0) <= 1
    for place in np.argwhere(marked):
        assert covered[tuple(slice(max(0, at - margin), at + margin + 1) for at in place)].all()
    for one, other in itertools.combinations(found, 2):
        gaps = [max(a.start - b.stop, b.start - a.stop) for a, b in zip(one, other, strict=True)]
        assert max(gaps) >= islands.CELL


@pytest.mark.parametrize("kind", ["soft", "hard", "haze", "empty"])
def test_columns_are_those_of_the_whole_masks(kind):
    shape = (70, 50, 60)
    generator = torch.Generator().manual_seed(4)
    masks = torch.zeros(2, *shape)
    masks[:, 5:12, 6:10, 3:9] = torch.rand(2, 7, 4, 6, generator=generator)
    masks[:, 50:58, 30:41, 50:60] = torch.rand(2, 8, 11, 10, generator=generator)
    masks[0, 60, 2, 2] = 0.7
    pred, truth = {
        "soft": masks,
        "hard": masks >= 0.5,
        "haze": masks.clamp(min=0.02),
        "empty": 0 * masks,
    }[kind]
    columns, sums = voxels.mask_columns(pred, truth, voxel_mm3=2.0, threshold=0.5)
    pair = [mask.float()[None, None] for mask in (pred, truth)]
    options = {"ignore_empty": False}
    expected = {
        "soft_dice": SoftDice(**options),
        "thresholded_dice": ThresholdedDice(**options),
        "expected_dice": ExpectedDice(method="histogram", **options),
        "brier": Brier(),
        "calibration_error": CalibrationError(),
    }
    for name, measure in expected.items():
        score = measure(*pair).item()
        assert columns[name] == pytest.approx(score, rel=1e-12, nan_ok=True), name
    assert columns["pred_volume_ml"] == pytest.approx(pred.double().sum().item() / 500, rel=1e-12)
    assert sums["near_voxels"] == Brier().statistics(*pair)[0, 0, 1].item()


@pytest.mark.parametrize("labels", [(), (1, 2)])
def test_bytes_score_as_floats_do(tmp_path, labels):
    generator = torch.Generator().manual_seed(2)
    masks = (torch.rand(2, 30, 24, 20, generator=generator) * 3.2).floor().clamp(0, 2)
    masks[:, :, 5:15] = 0
    masks[1, 4:8, 6:9, 3:7] = 1
    masks = masks if labels else masks.clamp(max=1)
    results = []
    for kind, stored in (("float", masks), ("byte", masks.byte())):
        paths = [tmp_path / f"{side}-{kind}.nii.gz" for side in ("pred", "truth")]
        for path, mask in zip(paths, stored, strict=True):
            save_nifti(path, mask, AFFINE)
        pair = ScorePair("a", paths[0], (paths[1],))
        values = {"values": "labels", "truth_values": "labels"} if labels else {}
        for more in ({}, {"hit": "box_iou"}, {"ignore": (2,), "labels": (1,)} if labels else {}):
            result = score_case(pair, ScoreSettings(**{"labels": labels, **values, **more}))
            for row in result.rows:
                del row["pred"], row["truth"]
            results.append(result)
    half = len(results) // 2
    assert results[:half] == results[half:]
