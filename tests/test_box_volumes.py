"""The derivative of all volumes at once is that of autograd through every edge."""

from __future__ import annotations

import pytest
import torch

from softoverlap import boxes as geometry

FORMS = {
    "shared and own": (geometry.shared_and_own, geometry._shared_and_own),
    "all": (geometry.all_volumes, geometry._all_volumes),
}


def drawn(ndim, dtype, *, on_a_grid, seed):
    """Boxes; on a grid faces touch and edges vanish, and the first ten pairs are equal."""
    generator = torch.Generator().manual_seed(seed)
    low = 4 * torch.rand(60, ndim, generator=generator, dtype=dtype)
    boxes = torch.cat([low, low + 3 * torch.rand(60, ndim, generator=generator, dtype=dtype)], 1)
    boxes[:10] = torch.arange(2 * ndim)
    return boxes.round() if on_a_grid else boxes


def gradients(volumes, a, b, needed):
    boxes = [each.clone().requires_grad_(need) for each, need in zip((a, b), needed, strict=True)]
    found = volumes(*boxes)
    factors = [torch.linspace(-1, 2 + place, len(a)).to(a) for place in range(len(found))]
    wanted = [each for each in boxes if each.requires_grad]
    total = sum((volume * factor).sum() for volume, factor in zip(found, factors, strict=True))
    return found, torch.autograd.grad(total, wanted)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ndim", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("on_a_grid", [False, True])
@pytest.mark.parametrize("needed", [(True, True), (True, False), (False, True)])
def test_volumes_and_gradients_are_those_of_autograd(form, ndim, dtype, on_a_grid, needed):
    a, b = (drawn(ndim, dtype, on_a_grid=on_a_grid, seed=seed) for seed in (0, 1))
    ours, plain = FORMS[form]
    if ndim == 5:
        dtype, a, b = torch.float64, a.double(), b.double()
    found, got = gradients(ours, a, b, needed)
    expected, wanted = gradients(plain, a, b, needed)
    assert all(map(torch.equal, found, expected))
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for gradient, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(gradient, other, rtol=tolerance, atol=tolerance * 100)


@pytest.mark.parametrize("form", FORMS)
def test_they_can_be_differentiated_twice(form):
    a, b = (drawn(2, torch.float64, on_a_grid=False, seed=seed)[10:14] for seed in (2, 3))
    inputs = (a.requires_grad_(), b.requires_grad_())
    assert torch.autograd.gradcheck(FORMS[form][0], inputs)
    assert torch.autograd.gradgradcheck(FORMS[form][0], inputs)
    first = lambda a: FORMS[form][0](a, inputs[1].detach())  # noqa: E731
    assert torch.autograd.gradgradcheck(first, inputs[:1])


def test_what_does_not_broadcast_row_by_row_takes_autograd_s_way():
    a, b = (drawn(2, torch.float64, on_a_grid=False, seed=seed) for seed in (0, 1))
    shared, own, _ = geometry.shared_and_own(a[:, None].requires_grad_(), b[None])
    assert shared.shape == (60, 60)
    assert own.shape == (60, 1)
