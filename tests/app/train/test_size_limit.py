"""One rule says which lesions are too large for a box: for plans, targets, and scores."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from softoverlap.app.cohort import ScoreSettings
from softoverlap.app.cohort.hit_rule import why_not_counted
from softoverlap.app.train import ScanFacts, plan_scans, scan_target
from softoverlap.for_monai import MeasuredTargetd
from softoverlap.images import LoadedCase
from softoverlap.lesions import lesions_from_mask


@pytest.mark.parametrize(("edge", "large"), [(2.0, False), (2.000001, False), (2.01, True)])
def test_plans_targets_and_scores_leave_out_the_same_lesions(edge, large):
    spacing, mask = (edge, 1.0, 1.0), torch.zeros(32, 12, 12)
    mask[4:20, 4:7, 4:7] = 1
    mask[24:27, 4:7, 4:7] = 1
    lesions = lesions_from_mask(mask, spacing=spacing)
    affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
    target = scan_target(LoadedCase("a", mask[None], mask, lesions, spacing, affine))
    assert target["ignored"].tolist() == [large, False]
    scan = {"image": MetaTensor(mask[None], affine=affine), "boxes": target["boxes"]}
    assert MeasuredTargetd()(scan)["ignored"].tolist() == [large, False]
    planned = plan_scans([ScanFacts("a", (32, 12, 12), spacing, lesions)])
    assert planned.too_large == large
    assert bool(why_not_counted(16 * edge, 1.0, ScoreSettings(), boxes=True)) == large
