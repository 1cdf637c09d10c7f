"""Ctrl-C: heard wherever it comes, obeyed where nothing is torn apart.

Python raises `KeyboardInterrupt` in whatever line is running. In a destructor it is swallowed, and
the program would go on as if nobody had asked. So a command takes the signal itself and remembers
it. While a case is in hand, the first Ctrl-C waits until it is done; elsewhere, and the second
time, it stops the command at once, or at the next place that asks if it was swallowed there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import typer


@dataclass
class _Heard:
    """How often Ctrl-C came, what is in hand, if anything, and the process that listens."""

    count: int = 0
    in_hand: str = ""
    process: int = 0


_heard = _Heard()


@contextlib.contextmanager
def hear_interrupts() -> Iterator[None]:
    """Around a command: no Ctrl-C is lost, and one that came too late still gives its status.

    Where Ctrl-C is ignored, as in the background of a shell, it stays so.
    """
    before = signal.getsignal(signal.SIGINT)
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or before in (signal.SIG_IGN, None):
        yield
        return
    _heard.process = os.getpid()
    signal.signal(signal.SIGINT, _hear)
    try:
        yield
        stop_if_interrupted("nothing was left to do")
    except typer.Exit:
        stop_if_interrupted("nothing was left to do")
        raise
    finally:
        signal.signal(signal.SIGINT, before)
        forget_interrupts()


def _hear(number: int, frame: object) -> None:
    """Remember it; a third one ends the process, whatever it does."""
    if os.getpid() != _heard.process:  # a worker that was forked ends when the command does
        return
    _heard.count += 1
    if _heard.count == 1 and _heard.in_hand:
        _tell(f"stopping after the {_heard.in_hand} in hand; press Ctrl-C again to stop at once")
        return
    if _heard.count > 1:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def _tell(words: str) -> None:
    """A line without a buffer, which may be in the middle of another line."""
    start = "\n" if os.isatty(2) else ""  # a terminal shows ^C and perhaps a bar
    with contextlib.suppress(OSError):
        os.write(2, f"{start}{words}\n".encode())


@contextlib.contextmanager
def finish_first(what: str) -> Iterator[None]:
    """Around cases or steps, as `what` says: each is finished before Ctrl-C stops the command."""
    stop_if_interrupted()
    before, _heard.in_hand = _heard.in_hand, what
    try:
        yield
    finally:
        _heard.in_hand = before


def stop_if_interrupted(*words: str) -> None:
    """Between two cases: stop here if Ctrl-C came.

    Raises:
        KeyboardInterrupt: If it came, with these words.
    """
    if _heard.count:
        raise KeyboardInterrupt(*words)


def forget_interrupts() -> None:
    """Ctrl-C was what the command waited for, or the command is over."""
    _heard.count, _heard.in_hand = 0, ""
