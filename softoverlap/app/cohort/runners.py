"""Ways to get many cases done: one after the other, or in processes of this machine.

A runner takes the cases and a function that scores one and never raises, and yields results as
they come, in any order, each case once. `softoverlap.app.cohort.dask` has one for many machines.
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
"""How often a case that ended its process is tried alone before it counts as failed."""


def serial(pairs: Sequence[ScorePair], score: Score, report: Report) -> Results:
    """Score one case after the other in this process.

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
    """Score cases in processes of this machine, each with one thread of torch.

    A process that is killed costs nothing but time: its case is scored again, alone, and one that
    ends its process again is reported as failed.

    Args:
        workers: Number of processes.

    Raises:
        ValueError: If there is no worker.

    Examples:
        >>> ProcessPool(2).workers
        2
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        self.workers = workers

    def __call__(self, pairs: Sequence[ScorePair], score: Score, report: Report) -> Results:
        """Score all cases; results come as they are done."""
        crew = _Crew(pairs, score)
        yield from crew.results(self.workers)
        if crew.suspects:
            names = ", ".join(pair.case for pair in crew.suspects)
            report(f"a process was killed; its cases are scored again: {names}")
        for suspect in crew.suspects:
            yield _alone(suspect, score)


class _Worker:
    """A process that scores a case at a time.

    Its pipe is its own, and no other process holds the far end: if it is killed, even in the middle
    of an answer, the near end tells so. In a queue that several share, half an answer is waited on
    for ever.
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
        """Score a case; that a killed process cannot take it is found when it should answer."""
        self.pair = pair
        with contextlib.suppress(OSError):
            self.pipe.send(pair)

    def answer(self) -> CaseResult | None:
        """Wait for a result, at first for the word that it has started.

        Raises:
            ChildProcessError: If the process has ended.
        """
        try:
            return self.pipe.recv()
        except (EOFError, OSError) as error:
            self.end()
            raise ChildProcessError(f"exit code {self.process.exitcode}") from error

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.terminate()
        self.process.join()
        self.pipe.close()


class _Crew:
    """Workers, and the cases that wait for them; those whose worker was killed are suspects."""

    def __init__(self, pairs: Sequence[ScorePair], score: Score) -> None:
        self.score, self.waiting = score, deque(pairs)
        self.suspects: list[ScorePair] = []
        self.workers: dict[Any, _Worker] = {}
        self.lost_at_start = 0

    def results(self, count: int) -> Results:
        """Results as they come; each worker has its next case before its result is handed on."""
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
        """The result, if it is one; the worker goes on with the next case."""
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
        """Another worker in place of one that was killed; not for ever where none can start."""
        del self.workers[worker.pipe]
        if worker.pair is not None:
            self.suspects.append(worker.pair)
        else:
            self.lost_at_start += 1
        if self.lost_at_start > ATTEMPTS:
            raise ChildProcessError(
                f"processes must start, got {error}; a script that scores with several needs the "
                "guard if __name__ == '__main__':"
            ) from error
        if self.waiting:
            self._hire()


def _alone(pair: ScorePair, score: Score) -> CaseResult:
    """Score a case in a process of its own, so that what kills the process is known."""
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
    """What is started here never gets Ctrl-C, which is the parent's; the parent gets it after."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # else the first process starts it, which ends the holding
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection, score: Score) -> None:
    """In a new process: score with one thread what comes, and end with the parent."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        pipe.send(None)
        while True:
            pipe.send(score(pipe.recv()))


def _end_with_parent() -> None:
    """A killed parent leaves no workers behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
