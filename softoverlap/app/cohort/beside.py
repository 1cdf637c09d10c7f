"""Do one thing beside another, as files are decompressed without holding up Python."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Beside(Generic[Result]):
    """A task in a thread of its own, which ends with the process and never hears Ctrl-C.

    Args:
        task: What to do.

    Examples:
        >>> Beside(lambda: 2 + 2).result()
        4
    """

    def __init__(self, task: Callable[[], Result]) -> None:
        self._task = task
        self._error: BaseException | None = None
        settings = contextvars.copy_context()  # such as the limits of reading
        self._thread = threading.Thread(target=settings.run, args=(self._run,), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until the task is done or has failed."""
        self._thread.join()

    def result(self) -> Result:
        """What the task returned, or its error."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._task()
        except BaseException as error:
            self._error = error
