"""Processes that a test starts and stops."""

from __future__ import annotations

import signal


def takes_interrupts():
    """To run in a new process: Ctrl-C reaches it, also where this one was started to ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
