"""Triton's kernels beside the plain path: on a GPU as they are, elsewhere interpreted."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from softoverlap import _triton

pytest.importorskip("triton", reason="Triton is for Linux")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def kernels(taken=True):
    """Kernels within, or none."""
    before = set(_triton.DEVICES)
    _triton.DEVICES.clear()
    _triton.DEVICES.update({DEVICE} if taken else ())
    try:
        yield
    finally:
        _triton.DEVICES.clear()
        _triton.DEVICES.update(before)


def with_gradients(function, inputs, taken, seed=9):
    """The value, and its gradient to each floating input by an upstream one drawn at random."""
    inputs = [each.detach().to(DEVICE) for each in inputs]
    inputs = [each.requires_grad_() if each.is_floating_point() else each for each in inputs]
    with kernels(taken):
        value = function(*inputs)
        upstream = torch.rand(value.shape, generator=torch.Generator().manual_seed(seed))
        wanted = [each for each in inputs if each.requires_grad]
        found = torch.autograd.grad(value, wanted, upstream.to(value))
    return [value.detach(), *found]
