"""The far side: reads images one after another, and ends when the near side is gone.

A request is a line of JSON. The answer is a line of JSON, and after it the values as raw bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import SimpleITK

from softoverlap._reader.dicom import read_series
from softoverlap._reader.itk import read_file, read_grid

_KINDS = {"file": read_file, "grid": read_grid, "dicom": read_series}
_SLACK = 1 << 30  # stacks of threads, and what a library keeps for itself


def main() -> None:
    """Answer requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # MetaIO prints to standard output, too
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    _write(answers, b"{}\n")
    while True:
        _answer(json.loads(requests.get()), answers)


def _listen(requests: queue.SimpleQueue[bytes]) -> None:
    """Hand on requests; when the parent is gone, end at once, whatever is being read."""
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)


def _answer(request: dict[str, Any], answers: BinaryIO) -> None:
    """Read an image and send it, or say why not."""
    room = request.pop("room")
    try:
        with _memory_limit(room):
            image = _KINDS[request.pop("kind")](**request)
            values, components = _content(image)
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        refused = {"refused": str(error) or type(error).__name__}
        _write(answers, json.dumps(refused).encode() + b"\n")
        return
    head = {
        "dtype": values.dtype.str,
        "shape": values.shape,
        "channels": components > 1,
        "spacing": image.GetSpacing(),
        "origin": image.GetOrigin(),
        "direction": image.GetDirection(),
    }
    _write(answers, json.dumps(head).encode() + b"\n")
    _write(answers, np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


def _content(image: SimpleITK.Image | SimpleITK.ImageFileReader) -> tuple[np.ndarray, int]:
    """Values and components of an image; of a header, its size stands for the values."""
    if isinstance(image, SimpleITK.ImageFileReader):
        return np.array(image.GetSize()), image.GetNumberOfComponents()
    return SimpleITK.GetArrayViewFromImage(image), image.GetNumberOfComponentsPerPixel()


def _write(answers: BinaryIO, content: bytes | memoryview) -> None:
    rest = memoryview(content)
    while len(rest):
        rest = rest[answers.write(rest) :]


class _memory_limit(contextlib.AbstractContextManager[None]):  # noqa: N801
    """Let an allocation fail that is far above what the header asks for; on Linux only."""

    def __init__(self, room: int) -> None:
        self.room, self.before = room, None

    def __enter__(self) -> None:
        status = Path("/proc/self/status")
        if not status.exists():
            return
        import resource

        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        used = next((int(line.split()[1]) for line in lines if line.startswith("VmData")), None)
        if used is not None:
            self.before = resource.getrlimit(resource.RLIMIT_DATA)
            most = 1024 * used + self.room + _SLACK
            hard = self.before[1]
            soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))

    def __exit__(self, *exception: object) -> None:
        if self.before is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_DATA, self.before)


if __name__ == "__main__":
    main()
