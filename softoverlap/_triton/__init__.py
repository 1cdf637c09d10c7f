"""Whether a kernel of Triton's may do the work: the one place that decides.

Triton comes with PyTorch's builds for GPUs and is imported when tensors on one first ask. Where it
is missing, or cannot compile here, and where operations are recorded or mapped, the plain path is
taken, which has the same values and gradients.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch import Tensor

from softoverlap._autograd import has_tangent
from softoverlap._checks import is_traced

DEVICES = {"cuda"}
"""Types of device whose tensors the kernels take; tests of the interpreter add the CPU."""


def available(*tensors: Tensor) -> bool:
    """Whether kernels take these tensors: all on one GPU, holding data, in no graph.

    They have no derivative in forward mode.
    """
    device = tensors[0].device
    if device.type not in DEVICES or is_traced():
        return False
    if any(type(tensor) is not Tensor or tensor.device != device for tensor in tensors):
        return False
    return not has_tangent(*tensors) and _works(device)


def on(device: torch.device) -> AbstractContextManager[object]:
    """A kernel is launched on the current GPU, which need not be that of its tensors."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@cache
def _works(device: torch.device) -> bool:
    """Whether the smallest of kernels compiles and starts; nothing waits for its result."""
    try:
        from softoverlap._triton.probe import start
    except ImportError:
        return False
    try:
        with on(device):
            start(torch.zeros(1, device=device))
    except Exception as error:  # no compiler, no headers, a GPU too old: Triton raises anything
        warnings.warn(f"Triton does not work here, slower code runs: {error}", stacklevel=2)
        return False
    return True
