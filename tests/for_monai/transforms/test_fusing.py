"""Raters to a soft mask in an item."""

from __future__ import annotations

import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose

from softoverlap import fuse_raters
from softoverlap.for_monai import FuseRatersd

RATERS = (torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0)) > 0.6).float()


@pytest.mark.parametrize(
    ("method", "weights"),
    [("mean", None), ("majority", None), ("weighted", [1.0, 2.0, 3.0])],
)
def test_the_mask_is_that_of_fuse_raters_and_the_raters_stay(method, weights):
    affine = torch.diag(torch.tensor([2.0, 3.0, 1.0], dtype=torch.float64))
    item = {"raters": MetaTensor(RATERS, affine=affine)}
    out = FuseRatersd(method=method, weights=weights)(item)
    torch.testing.assert_close(
        out["mask"][0].as_tensor(), fuse_raters(RATERS, method=method, weights=weights)
    )
    torch.testing.assert_close(out["mask"].affine, affine)
    assert out["raters"] is item["raters"]
    assert set(Compose([FuseRatersd()]).inverse(out)) == {"raters"}


def test_staple_looks_at_a_window_around_the_union():
    raters = torch.zeros(3, 60, 60)
    raters[:, 30:34, 30:34] = 1
    raters[2, 33] = 0
    out = FuseRatersd(method="staple")({"raters": raters})["mask"][0]
    window = (slice(28, 36), slice(28, 36))
    inside = fuse_raters(raters[(slice(None), *window)], method="staple").float()
    torch.testing.assert_close(out[window].as_tensor(), inside)
    assert out.sum() == pytest.approx(inside.sum())
    assert FuseRatersd(method="staple")({"raters": 0 * raters})["mask"].sum() == 0


@pytest.mark.bad_input
def test_what_is_refused_is_named():
    with pytest.raises(ValueError, match=r"item\['raters'\]: method 'staple' needs three raters"):
        FuseRatersd(method="staple")({"raters": RATERS[:2]})
    with pytest.raises(ValueError, match=r"item\['raters'\]: raters must hold 0 and 1"):
        FuseRatersd(method="majority")({"raters": RATERS / 2})
    with pytest.raises(ValueError, match="must have the key 'raters'"):
        FuseRatersd()({})
    with pytest.raises(ValueError, match=r"item\['raters'\] must hold probabilities"):
        FuseRatersd()({"raters": RATERS * 2})
    with pytest.raises(ValueError, match="method must be one of"):
        FuseRatersd(method="median")
    with pytest.raises(ValueError, match="weights must be given"):
        FuseRatersd(method="weighted")
