"""Score cases on many machines, with Dask distributed (the extra `cohort`).

Paths are sent to the workers, which return rows. Cases are sent in batches, since each Dask task
costs several milliseconds, and only a few batches are submitted at a time. Workers must see the
files under the same paths and have softoverlap installed.
"""

from __future__ import annotations

import contextlib
import logging
import time
from asyncio import CancelledError
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from softoverlap import __version__
from softoverlap._checks import refusal
from softoverlap.app.cohort.pairing import ScorePair
from softoverlap.app.cohort.records import CaseResult, failed
from softoverlap.app.cohort.runners import Report, Results, Score, interrupts_held

if TYPE_CHECKING:
    from distributed import Client, Future

MOST_IN_BATCH = 16
SECONDS_TO_CONNECT = 30
SECONDS_WITHOUT_A_WORD = 30
SECONDS_BETWEEN_LOOKS = 0.02


class DaskRunner:
    """Score cases on the workers of a Dask scheduler.

    If a worker is killed, another one takes over its batches. If a batch kills every worker that
    takes it, its cases are scored one at a time, and the case at fault is reported as failed.

    Args:
        scheduler: `local:N` for N processes on this machine, or the address of a scheduler, such as
            `tcp://10.0.0.1:8786`.
        batch: Cases per batch; by default few enough that every worker gets four batches.

    Raises:
        ValueError: If the number of workers or of cases per batch is not positive.
        ImportError: If Dask distributed is not installed.

    Examples:
        >>> DaskRunner("local:2").scheduler
        'local:2'
    """

    def __init__(self, scheduler: str, *, batch: int | None = None) -> None:
        _import_distributed()
        self.scheduler = scheduler
        self.local = _local_workers(scheduler)
        if batch is not None and batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        self.batch = batch

    def __call__(self, pairs: Sequence[ScorePair], score: Score, report: Report) -> Results:
        """Score all cases; results are yielded when their batch is done."""
        if not pairs:
            return
        with _client(self.scheduler, self.local) as client:
            suspects: list[ScorePair] = []
            yield from self._in_batches(client, pairs, score, suspects, report)
            if suspects:
                names = ", ".join(pair.case for pair in suspects)
                report(f"workers were killed; these cases are scored one at a time: {names}")
            for suspect in suspects:
                yield _alone(client, suspect, score)

    def _in_batches(
        self,
        client: Client,
        pairs: Sequence[ScorePair],
        score: Score,
        suspects: list[ScorePair],
        report: Report,
    ) -> Results:
        """Yield the results of all batches; cases of batches that failed are added to suspects."""
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        if not workers:
            report(f"{self.scheduler} has no worker yet: waiting for one")
        workers = max(1, workers)
        size = self.batch or max(1, min(MOST_IN_BATCH, len(pairs) // (4 * workers)))
        waiting = deque(tuple(pairs[start : start + size]) for start in range(0, len(pairs), size))
        running: dict[Any, tuple[ScorePair, ...]] = {}
        done = _import_distributed().as_completed(loop=client.loop)
        while waiting or running:
            while waiting and len(running) < 2 * workers + 1:
                cases = waiting.popleft()
                future = _submit(client, cases, score)
                running[future] = cases
                done.add(future)
            self._wait(client, done, report)
            future = next(done)
            results = _result(future)
            cases = running.pop(future)
            if results is None:
                suspects.extend(cases)
            else:
                yield from results

    def _wait(self, client: Client, done: Any, report: Report) -> None:
        """Wait until a batch is done; report if there is no worker left."""
        checked = time.monotonic()
        while not done.has_ready():
            time.sleep(SECONDS_BETWEEN_LOOKS)
            if time.monotonic() - checked > SECONDS_WITHOUT_A_WORD:
                checked = time.monotonic()
                if not client.scheduler_info(n_workers=-1)["workers"]:
                    report(f"{self.scheduler} has no worker: waiting for one")


def score_batch(pairs: Sequence[ScorePair], score: Score) -> list[CaseResult]:
    """Score cases one after another with one PyTorch thread: the task of a worker.

    Args:
        pairs: The cases.
        score: Scores a case.

    Returns:
        Their results, in order.

    Examples:
        >>> score_batch([], print)
        []
    """
    import torch

    torch.set_num_threads(1)
    return [score(pair) for pair in pairs]


def _submit(client: Client, cases: Sequence[ScorePair], score: Score) -> Future:
    return client.submit(score_batch, cases, score, pure=False)


def _alone(client: Client, pair: ScorePair, score: Score) -> CaseResult:
    """The result of a case that runs alone: if a worker is killed, this case is the cause."""
    results = _result(_submit(client, [pair], score))
    if results is not None:
        return results[0]
    return failed(pair.case, "every worker that scored it was killed; too little memory?", pair)


def _result(future: Future) -> list[CaseResult] | None:
    """The results of a batch; None if Dask gave up because it killed several workers."""
    error: Any = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, _import_distributed().KilledWorker):
        return None
    if isinstance(error, (OSError, TimeoutError, CancelledError)):
        raise ConnectionError(f"the Dask scheduler must stay reachable, got: {error!r}") from error
    raise ChildProcessError(
        f"Dask workers must have softoverlap {__version__} to score, got: {error!r}"
    ) from error


@contextlib.contextmanager
def _client(scheduler: str, workers: int | None) -> Iterator[Client]:
    """A client of the scheduler; a local cluster is closed with it."""
    distributed = _import_distributed()
    with contextlib.ExitStack() as stack:
        address: Any = scheduler
        if workers is not None:
            with interrupts_held():
                cluster = distributed.LocalCluster(
                    n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None,
                    silence_logs=logging.CRITICAL,  # problems are reported by this runner
                )  # fmt: skip
            address = stack.enter_context(cluster)
        try:
            client = distributed.Client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise refusal(
                "scheduler",
                f"must be the address of a Dask scheduler, got {scheduler}: {error}",
                ConnectionError,
            ) from error
        yield stack.enter_context(client)


def _local_workers(scheduler: str) -> int | None:
    """The N in `local:N`; None for an address."""
    kind, _, number = scheduler.partition(":")
    if kind != "local":
        return None
    if not number.isdigit() or int(number) < 1:
        raise refusal("scheduler", f"must be local:N with N at least 1, got {scheduler!r}")
    return int(number)


def _import_distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise refusal(
            "scheduler", "needs Dask distributed: pip install 'softoverlap[cohort]'", ImportError
        ) from error
    return distributed
