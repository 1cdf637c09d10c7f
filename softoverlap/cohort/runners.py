"""Ways to get many cases done: one after the other, or in processes of this machine.

A runner takes the cases and a function that scores one and never raises, and yields results as
they come, in any order, each case once. `softoverlap.cohort.dask` has the one for many machines.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from softoverlap.cohort.pairing import ScorePair
from softoverlap.cohort.records import CaseResult, failed

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

    A process that is killed costs nothing but time: the cases that were in flight are scored
    again, each alone, and one that ends its process again is reported as failed.

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
        waiting = deque(pairs)
        while waiting:
            suspects: list[ScorePair] = []
            with _processes(min(self.workers, len(waiting))) as pool:
                yield from _drained(pool, waiting, score, 2 * self.workers, suspects)
            if suspects:
                report(f"a process was killed; its cases are scored again: {_names(suspects)}")
            for suspect in suspects:
                yield _alone(suspect, score)


def _drained(
    pool: ProcessPoolExecutor,
    waiting: deque[ScorePair],
    score: Score,
    in_flight: int,
    suspects: list[ScorePair],
) -> Results:
    """Results until nothing waits or the pool breaks; then the cases in flight are suspects."""
    running: dict[Future[CaseResult], ScorePair] = {}
    while waiting or running:
        try:
            while waiting and len(running) < in_flight:
                running[pool.submit(score, waiting[0])] = waiting[0]
                waiting.popleft()
        except BrokenProcessPool:
            in_flight = 0  # no more from this pool
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            pair = running.pop(future)
            if isinstance(future.exception(), BrokenProcessPool):
                suspects.append(pair)
                in_flight = 0
            else:
                yield future.result()
        if not in_flight and not running:
            return


def _alone(pair: ScorePair, score: Score) -> CaseResult:
    """Score a case in a process of its own, so that what kills the process is known."""
    for _ in range(ATTEMPTS):
        with _processes(1) as pool:
            future = pool.submit(score, pair)
            if not isinstance(future.exception(), BrokenProcessPool):
                return future.result()
    return failed(
        pair.case,
        f"the process that scored it was killed {ATTEMPTS + 1} times; too little memory?",
        pair,
    )


@contextlib.contextmanager
def _processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes end with the block, also when it is left by Ctrl-C."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=begin_worker
    )
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def begin_worker() -> None:
    """In a new process: one thread, Ctrl-C is the parent's, and an end with the parent."""
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent leaves no workers behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _names(pairs: Sequence[ScorePair]) -> str:
    return ", ".join(pair.case for pair in pairs)
