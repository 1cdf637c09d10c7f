"""Ways to score many cases: one after another, or in several processes on this machine.

A runner takes the cases and a function that scores one case and never raises. It yields one result
per case, in any order. The runner for many machines is in `softoverlap.app.cohort.dask`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from softoverlap.app.cohort.pairing import ScorePair
from softoverlap.app.cohort.records import CaseResult, failed

Score = Callable[[ScorePair], CaseResult]
Report = Callable[[str], None]
Results = Generator[CaseResult, None, None]
Runner = Callable[[Sequence[ScorePair], Score, Report], Results]

ATTEMPTS = 2
"""How often a case whose process was killed is tried alone before it counts as failed."""


def serial(pairs: Sequence[ScorePair], score: Score, report: Report) -> Results:
    """Score one case after another in this process.

    Args:
        pairs: The cases.
        score: Scores a case.
        report: Not called.

    Yields:
        Results in the order of the cases.

    Examples:
        >>> pairs = [ScorePair("a", None, (), "no prediction")]
        >>> [result.case for result in serial(pairs, lambda pair: failed(pair.case, "no"), print)]
        ['a']
    """
    for pair in pairs:
        yield score(pair)


class ProcessPool:
    """Score cases in several processes on this machine, with one PyTorch thread each.

    If a process is killed, its case is scored again, alone. If that process is killed too, the case
    is reported as failed.

    Args:
        workers: Number of processes.

    Raises:
        ValueError: If the number is below 1.

    Examples:
        >>> ProcessPool(2).workers
        2
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        self.workers = workers

    def __call__(self, pairs: Sequence[ScorePair], score: Score, report: Report) -> Results:
        """Score all cases; each result is yielded when it is done."""
        crew = _Crew(pairs, score)
        yield from crew.results(self.workers)
        if crew.suspects:
            names = ", ".join(pair.case for pair in crew.suspects)
            report(f"processes were killed; these cases are scored again: {names}")
        for suspect in crew.suspects:
            yield _alone(suspect, score)


class _Worker:
    """A process that scores one case at a time.

    Each worker has its own pipe, and no other process holds the far end. So if a worker is killed,
    even in the middle of an answer, reading from the near end fails. A queue shared by several
    processes would wait forever for the rest of the answer.
    """

    def __init__(self, score: Score) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far_end = context.Pipe()
        self.process = context.Process(target=_work, args=(far_end, score), daemon=True)
        with interrupts_held():
            self.process.start()
        far_end.close()
        self.pair: ScorePair | None = None

    def begin(self, pair: ScorePair) -> None:
        """Send a case to score; if the process was killed, `answer` raises."""
        self.pair = pair
        with contextlib.suppress(OSError):
            self.pipe.send(pair)

    def answer(self) -> CaseResult | None:
        """Wait for a result; the first answer is None, which says that the process has started.

        Raises:
            ChildProcessError: If the process has ended.
        """
        try:
            return self.pipe.recv()
        except (EOFError, OSError) as error:
            self.end()
            raise ChildProcessError(f"exit code {self.process.exitcode}") from error

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self.process.terminate()
        self.process.join()
        self.pipe.close()


class _Crew:
    """Workers and the cases that wait for one; cases whose worker was killed are suspects."""

    def __init__(self, pairs: Sequence[ScorePair], score: Score) -> None:
        self.score, self.waiting = score, deque(pairs)
        self.suspects: list[ScorePair] = []
        self.workers: dict[Any, _Worker] = {}
        self.lost_at_start = 0

    def results(self, count: int) -> Results:
        """Yield results as they come; a worker gets its next case before its result is yielded."""
        try:
            for _ in range(min(count, len(self.waiting))):
                self._hire()
            while self.workers:
                for pipe in connection.wait(list(self.workers)):
                    result = self._result(self.workers[pipe])
                    if result is not None:
                        yield result
        finally:
            for worker in self.workers.values():
                worker.end()

    def _hire(self) -> None:
        worker = _Worker(self.score)
        self.workers[worker.pipe] = worker

    def _result(self, worker: _Worker) -> CaseResult | None:
        """The worker's result, if it has one; it continues with the next case."""
        try:
            result = worker.answer()
        except ChildProcessError as error:
            self._replace(worker, error)
            return None
        if self.waiting:
            worker.begin(self.waiting.popleft())
        else:
            self.workers.pop(worker.pipe).end()
        return result

    def _replace(self, worker: _Worker, error: ChildProcessError) -> None:
        """Replace a worker that was killed; give up if processes cannot start at all."""
        del self.workers[worker.pipe]
        if worker.pair is not None:
            self.suspects.append(worker.pair)
        else:
            self.lost_at_start += 1
        if self.lost_at_start > ATTEMPTS:
            raise ChildProcessError(
                f"processes must start, got {error}; a script that scores in several processes "
                "needs the guard if __name__ == '__main__':"
            ) from error
        if self.waiting:
            self._hire()


def _alone(pair: ScorePair, score: Score) -> CaseResult:
    """Score a case in its own process: if that is killed, this case is the cause."""
    for _ in range(ATTEMPTS):
        worker = _Worker(score)
        try:
            worker.answer()
            worker.begin(pair)
            result = worker.answer()
        except ChildProcessError:
            continue
        finally:
            worker.end()
        if result is not None:
            return result
    return failed(
        pair.case,
        f"the process that scored it was killed {ATTEMPTS + 1} times; too little memory?",
        pair,
    )


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Processes started here never receive Ctrl-C; the parent receives it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # else the first process starts it, and that unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection, score: Score) -> None:
    """In a new process: score the cases that arrive, with one thread, and end with the parent."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        pipe.send(None)
        while True:
            pipe.send(score(pipe.recv()))


def _end_with_parent() -> None:
    """End this process when the parent ends, even if that is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
