"""Runners: each case once, whatever is killed, and the same results as one after the other."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from softoverlap.app.cohort import DaskRunner, ProcessPool, ScorePair, serial
from softoverlap.app.cohort.runners import Runner
from tests.support.cohort_makers import (
    EndsItsProcess,
    easy_score,
    lacks_a_module,
    large_score,
    made_up,
    pairs_of,
    poison_score,
    recording_score,
    spoil,
    write_cohort,
)

POISON = ScorePair("poison", Path("a"), (Path("b"),))


def by_case(results):
    found = {}
    for result in results:
        assert result.case not in found, f"{result.case} came twice"
        found[result.case] = result
    return found


def kill_one(folder):
    """SIGKILL to a process that has scored a case and is still there."""
    for name in sorted(path.name for path in folder.iterdir()):
        if name.isdigit() and int(name) != os.getpid() and Path(f"/proc/{name}").exists():
            os.kill(int(name), signal.SIGKILL)
            return
    raise AssertionError("no worker is alive")


def results_with_a_kill(runner: Runner, pairs, folder, after):
    """All results; a worker is killed in the middle."""
    said = []
    for number, result in enumerate(runner(pairs, recording_score(folder), said.append)):
        if number == after:
            kill_one(folder)
        yield result


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Two hundred cases, good and bad, and their results one after the other."""
    folder = write_cohort(tmp_path_factory.mktemp("cohort"), 200)
    spoil(folder)
    pairs = pairs_of(folder)
    return pairs, by_case(serial(pairs, recording_score(folder / "pids"), print))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes in /proc")
def test_a_pool_loses_nothing_when_a_process_is_killed(cohort, tmp_path):
    pairs, expected = cohort
    found = by_case(results_with_a_kill(ProcessPool(2), pairs, tmp_path / "pids", after=60))
    assert found == expected


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes in /proc")
def test_dask_loses_nothing_when_a_worker_is_killed(cohort, tmp_path):
    pytest.importorskip("distributed")
    pairs, expected = cohort
    runner = DaskRunner("local:2", batch=8)
    found = by_case(results_with_a_kill(runner, pairs, tmp_path / "pids", after=60))
    assert found == expected


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes in /proc")
def test_a_process_that_is_killed_in_the_middle_of_an_answer_holds_up_none(tmp_path):
    pairs, said, found = made_up(12), [], []

    def score_all():
        coming = ProcessPool(2)(pairs, partial(large_score, folder=tmp_path), said.append)
        for result in coming:
            found.append(result.case)
            if len(found) == 4:
                time.sleep(1)  # both are writing now, and nobody reads
                kill_one(tmp_path)

    thread = threading.Thread(target=score_all, daemon=True)
    thread.start()
    thread.join(120)
    assert not thread.is_alive()
    assert sorted(found) == [pair.case for pair in pairs]
    assert len(said) == 1


@pytest.mark.slow
def test_a_pool_whose_processes_cannot_start_says_so():
    score = partial(easy_score, EndsItsProcess())
    with pytest.raises(ChildProcessError, match="processes must start, got exit code 3"):
        list(ProcessPool(2)(made_up(50), score, print))


@pytest.mark.slow
def test_a_pool_names_the_case_that_kills_its_process():
    pairs, said = [*made_up(6), POISON, *made_up(9)[6:]], []
    found = by_case(ProcessPool(2)(pairs, poison_score, said.append))
    assert [case for case, result in found.items() if result.error] == ["poison"]
    assert "was killed 3 times" in found["poison"].error
    assert len(found) == 10
    assert len(said) == 1
    assert "poison" in said[0]


@pytest.mark.slow
def test_dask_names_the_case_that_kills_its_workers():
    pytest.importorskip("distributed")
    pairs, said = [*made_up(6), POISON, *made_up(9)[6:]], []
    found = by_case(DaskRunner("local:2", batch=4)(pairs, poison_score, said.append))
    assert [case for case, result in found.items() if result.error] == ["poison"]
    assert "every worker that scored it was killed" in found["poison"].error
    assert len(found) == 10


@pytest.mark.slow
def test_dask_goes_by_an_address():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        runner = DaskRunner(cluster.scheduler_address)
        found = by_case(runner(made_up(20), easy_score, print))
    assert list(found) == [f"case-{n:03d}" for n in range(20)]


@pytest.mark.slow
def test_dask_says_what_its_workers_lack_and_that_there_are_none(monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("softoverlap.app.cohort.dask.SECONDS_WITHOUT_A_WORD", 0.2)
    said = []
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        runner = DaskRunner(cluster.scheduler_address)
        with pytest.raises(
            ChildProcessError, match="Dask workers must have softoverlap .*no module"
        ):
            list(runner(made_up(2), lacks_a_module, said.append))
        cluster.scale(0)

        def report(words):
            said.append(words)
            cluster.scale(1)  # it comes late

        found = by_case(runner(made_up(4), easy_score, report))
    assert len(found) == 4
    assert "has no worker" in said[0]


@pytest.mark.slow
def test_a_pool_that_is_left_early_ends_its_processes(tmp_path):
    import multiprocessing

    pairs = made_up(50)
    coming = ProcessPool(2)(pairs, recording_score(tmp_path / "pids", pause=0.2), print)
    next(coming)
    coming.close()
    assert not multiprocessing.active_children()


def test_nothing_to_do_starts_nothing():
    assert list(ProcessPool(2)([], easy_score, print)) == []
    assert list(serial([], easy_score, print)) == []


def test_without_distributed_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install 'softoverlap\[cohort\]'"):
        DaskRunner("local:2")


@pytest.mark.bad_input
def test_runners_check_their_numbers():
    pytest.importorskip("distributed")
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        ProcessPool(0)
    with pytest.raises(ValueError, match="scheduler must be local:N"):
        DaskRunner("local:none")
    with pytest.raises(ValueError, match="batch must be at least 1"):
        DaskRunner("local:1", batch=0)


@pytest.mark.bad_input
@pytest.mark.parametrize("address", ["nonsense://x", "tcp://127.0.0.1:1"])
def test_a_scheduler_that_is_not_there_is_named(monkeypatch, address):
    pytest.importorskip("distributed")
    monkeypatch.setattr("softoverlap.app.cohort.dask.SECONDS_TO_CONNECT", 1)
    with pytest.raises(ConnectionError, match="must be the address of a Dask scheduler"):
        list(DaskRunner(address)(made_up(1), easy_score, print))
