"""The near side: one process per process, asked file by file, replaced where it fails.

The process is started by `subprocess`, not by `multiprocessing`: scripts without the guard
`if __name__ == "__main__"`, notebooks and daemonic workers have to be able to read images.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

SECONDS_TO_START = 120.0
"""Imports from a slow disk may take so long; this is no limit of any file."""

_PIPE_BYTES = 1 << 20
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ of Linux


@dataclass(frozen=True, eq=False)
class ReadImage:
    """An image as SimpleITK has it: last axis first, in LPS."""

    values: np.ndarray
    channels: bool
    spacing: list[float]
    origin: list[float]
    direction: list[float]


def read(request: dict[str, Any], *, name: str, seconds: float | int) -> ReadImage:
    """Ask the reader's process for an image.

    Args:
        request: `kind`, one of those in `softoverlap._reader.__main__`, and its arguments.
        name: The file, for messages.
        seconds: How long the reader may take.

    Returns:
        The image.

    Raises:
        ValueError: If the reader refuses the file, crashes on it, or does not end in time, or its
            name is not in UTF-8, at which SimpleITK crashes.
        OSError: If the process cannot be started.
    """
    check_name(name)
    with _lock:
        reader = _running_reader()
        try:
            return reader.answer(request, name, seconds)
        except _RefusedError as error:  # the reader is well
            words = str(error)
            if not words.startswith(name):
                words = f"{name} must be readable, got: {' '.join(words.split())}"
            raise ValueError(words) from None
        except BaseException:  # Ctrl-C too: half an answer may be in the pipe
            stop()
            raise


def check_name(name: str) -> None:
    """Refuse a name that SimpleITK crashes at.

    Raises:
        ValueError: If it is not in UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} must have a name in UTF-8, which it has not: rename it"
        ) from error


def stop() -> None:
    """End the reader's process; the next file starts another."""
    global _reader
    if _reader is not None:
        _reader.end()
        _reader = None


class _RefusedError(Exception):
    """What the reader says about a file that it does not read."""


class _Reader:
    """The process and its two pipes."""

    def __init__(self) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}\n" + _RUN
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what MetaIO and GDCM print; what matters is answered
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for the parent, which decides
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.requests: BinaryIO = self.process.stdin  # type: ignore[assignment]
        self.answers: BinaryIO = self.process.stdout  # type: ignore[assignment]
        _widen(self.answers)
        try:
            with self._limit(SECONDS_TO_START):
                self._line()
        except EOFError as error:
            self.end()
            raise OSError(
                f"the process that reads images must start, got {self._ending()}"
            ) from error
        except BaseException:
            self.end()
            raise

    def answer(self, request: dict[str, Any], name: str, seconds: float | int) -> ReadImage:
        """Send a request and wait for its answer."""
        with self._limit(seconds) as expired:
            try:
                self.requests.write(json.dumps(request).encode() + b"\n")
                return self._image(json.loads(self._line()))
            except (EOFError, OSError) as error:
                if expired.is_set():
                    raise ValueError(
                        f"{name} must be readable: the reader did not end within {seconds:g} s, "
                        "and was stopped; a slow disk may need more `read_timeout=`"
                    ) from error
                raise ValueError(
                    f"{name} must be readable: the reader crashed on this file ({self._ending()})"
                ) from error

    def _image(self, head: dict[str, Any]) -> ReadImage:
        if "refused" in head:
            raise _RefusedError(head["refused"])
        values = np.empty(head.pop("shape"), dtype=head.pop("dtype"))
        rest = values.reshape(-1).view(np.uint8).data
        while len(rest):
            count = self.answers.readinto(rest)  # type: ignore[attr-defined]
            if not count:
                raise EOFError("the answer is cut short")
            rest = rest[count:]
        return ReadImage(values, **head)

    def _line(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n"):
            piece = self.answers.read(1)  # unbuffered: voxels follow
            if not piece:
                raise EOFError("the reader's process is gone")
            line += piece
        return bytes(line)

    @contextlib.contextmanager
    def _limit(self, seconds: float | int) -> Iterator[threading.Event]:
        """Kill the process after so long, which ends every wait for its answer."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self.process.kill()

        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), expire)
        timer.daemon = True
        timer.start()
        try:
            yield expired
        finally:
            timer.cancel()

    def _ending(self) -> str:
        """How the process ended, in words."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        if code == -getattr(signal, "SIGKILL", 9):
            return "killed; too little memory?"
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"exit code {code}"

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        self.requests.close()
        self.answers.close()

    def forget(self) -> None:
        """After a fork: the process is the parent's, only the copies of the pipes are closed."""
        self.process.returncode = 0
        self.requests.close()
        self.answers.close()


_RUN = "from softoverlap._reader.__main__ import main; main()"
_reader: _Reader | None = None
_lock = threading.Lock()


def _running_reader() -> _Reader:
    """The process, started if there is none, or if it was killed while it had nothing to do."""
    global _reader
    if _reader is not None and _reader.process.poll() is not None:
        stop()
    if _reader is None:
        _reader = _Reader()
    return _reader


def _after_fork() -> None:
    """A forked process has no reader yet, and another thread may have held the lock."""
    global _reader, _lock
    if _reader is not None:
        _reader.forget()
    _reader, _lock = None, threading.Lock()


def _widen(pipe: BinaryIO) -> None:
    """A larger pipe needs fewer turns for a volume, where the system lets us have one."""
    if Path("/proc/sys/fs/pipe-max-size").exists():
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, _SET_PIPE_SIZE, _PIPE_BYTES)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(stop)
