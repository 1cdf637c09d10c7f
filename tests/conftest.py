"""Settings of the whole test run."""

from __future__ import annotations

import os

import torch
from hypothesis import settings

# The same examples in every run, and no deadline: a shared machine may stall at any time.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")

# Without a GPU, Triton's kernels are interpreted; Triton reads this when it is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
