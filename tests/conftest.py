"""Settings of the whole test run."""

from __future__ import annotations

from hypothesis import settings

# The same examples in every run, and no deadline: a shared machine may stall at any time.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")
