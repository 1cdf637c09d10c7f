"""The journal and the outputs: nothing finished is lost, nothing of others is written over."""

from __future__ import annotations

import csv
import errno
import json
import os
from functools import partial

import pytest
from cohort_makers import easy_score, made_up, pairs_of, write_cohort

from softoverlap.cohort import CaseResult, ScorePair, ScoreSettings, score_cohort, store
from softoverlap.cohort.outputs import OUTPUTS
from softoverlap.cohort.records import case_key
from softoverlap.cohort.store import JOURNAL, Journal

SETTINGS = ScoreSettings()


def result(case):
    return CaseResult(case, [{"case": case, "soft_dice": 1 / 3}])


def fill(folder, count):
    with Journal(folder, SETTINGS) as journal:
        for number in range(count):
            journal.append(f"key-{number}", result(f"case-{number}"))
    return folder / JOURNAL


def counting(pairs, score, report, scored):
    """A serial runner that notes what it scores."""
    for pair in pairs:
        scored.append(pair.case)
        yield easy_score(pair)


def test_what_was_appended_is_found_again(tmp_path):
    fill(tmp_path, 3)
    with Journal(tmp_path, SETTINGS) as journal:
        assert journal.found("case-1", "key-1") == result("case-1")
        assert journal.found("case-1", "key-2") is None
        assert journal.found("case-9", "key-1") is None


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_line_that_was_cut_off_costs_that_case_alone(tmp_path, cut):
    path = fill(tmp_path, 3)
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(tmp_path, SETTINGS) as journal:
        assert [journal.found(f"case-{n}", f"key-{n}") is not None for n in range(3)] == [
            True, True, False,
        ]  # fmt: skip
        journal.append("key-2", result("case-2"))
    with Journal(tmp_path, SETTINGS) as journal:
        assert journal.found("case-2", "key-2") == result("case-2")


def test_a_journal_whose_first_line_was_cut_off_begins_anew(tmp_path):
    (tmp_path / JOURNAL).write_bytes(b'{"format": "softover')
    fill(tmp_path, 1)
    header = json.loads((tmp_path / JOURNAL).read_text().splitlines()[0])
    assert header["settings"] == SETTINGS.as_dict()


def test_a_damaged_line_costs_that_case_alone(tmp_path):
    path = fill(tmp_path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + b"\0\0\0\n" + lines[3])
    with Journal(tmp_path, SETTINGS) as journal:
        assert journal.found("case-1", "key-1") is None
        assert journal.found("case-2", "key-2") == result("case-2")


class FullDisk:
    """A file that takes some bytes, then half a line, then none."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.file.write(data[: self.room])
        self.room -= written
        return written


def test_a_full_disk_loses_no_finished_case(tmp_path):
    with Journal(tmp_path, SETTINGS) as journal:
        journal.append("key-0", result("case-0"))
        size = journal.path.stat().st_size
        journal._file = FullDisk(journal._file, room=40)
        with pytest.raises(OSError, match="No space left on device"):
            journal.append("key-1", result("case-1"))
        assert journal.path.stat().st_size == size  # half a line is taken back
    with Journal(tmp_path, SETTINGS) as journal:
        assert journal.found("case-0", "key-0") == result("case-0")
        assert journal.found("case-1", "key-1") is None


def test_a_cohort_on_a_full_disk_goes_on_later(tmp_path, monkeypatch):
    scored = []
    runner, append = partial(counting, scored=scored), store.Journal.append

    def fails_after_five(journal, key, one):
        if len(scored) > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(journal, key, one)

    monkeypatch.setattr(store.Journal, "append", fails_after_five)
    with pytest.raises(OSError, match="No space left"):
        score_cohort(made_up(8), tmp_path, runner=runner)
    assert sorted(path.name for path in tmp_path.iterdir()) == [JOURNAL]
    monkeypatch.undo()
    found = score_cohort(made_up(8), tmp_path, runner=runner)
    assert found.resumed == 5
    assert scored == [f"case-{n:03d}" for n in (*range(6), *range(5, 8))]


def test_a_second_run_scores_what_failed_or_changed(tmp_path):
    folder = write_cohort(tmp_path / "data", 3)
    pairs, broken = pairs_of(folder), folder / "pred" / "case-001.nii.gz"
    whole = broken.read_bytes()
    broken.write_bytes(b"broken")
    first = score_cohort(pairs, tmp_path / "out")
    assert [one.case for one in first.failed] == ["case-001"]
    broken.write_bytes(whole)
    os.utime(folder / "truth" / "case-002.nii.gz")
    scored = []
    second = score_cohort(pairs, tmp_path / "out", progress=lambda one: scored.append(one.case))
    assert scored == ["case-001", "case-002"]
    assert second.resumed == 1
    assert not second.failed
    fresh = score_cohort(pairs, tmp_path / "fresh")
    assert second.results == fresh.results
    for name in OUTPUTS:
        if name != JOURNAL:
            assert (tmp_path / "out" / name).read_bytes() == (
                tmp_path / "fresh" / name
            ).read_bytes()


def test_tables_hold_the_cases_that_are_asked_for(tmp_path):
    runner = partial(counting, scored=[])
    score_cohort(made_up(4), tmp_path, runner=runner)
    score_cohort(made_up(2), tmp_path, runner=runner)
    with (tmp_path / "cases.csv").open() as file:
        assert [row["case"] for row in csv.DictReader(file)] == ["case-000", "case-001"]


def test_the_key_knows_settings_and_files(tmp_path):
    path = tmp_path / "a.nii"
    path.write_bytes(b"a")
    pair = ScorePair("a", path, (path,))
    keys = {case_key(pair, SETTINGS), case_key(pair, ScoreSettings(threshold=0.3))}
    keys.add(case_key(ScorePair("a", path, (tmp_path / "b.nii",)), SETTINGS))
    path.write_bytes(b"bb")
    keys.add(case_key(pair, SETTINGS))
    assert len(keys) == 4
    series = ScorePair("a", tmp_path, (path,))
    before = case_key(series, SETTINGS)
    (tmp_path / "slice.dcm").touch()
    assert case_key(series, SETTINGS) != before


def test_numbers_are_written_in_full_precision(tmp_path):
    runner = lambda pairs, score, report: (result(pair.case) for pair in pairs)  # noqa: E731
    score_cohort(made_up(2), tmp_path, runner=runner)
    with (tmp_path / "cases.csv").open() as file:
        assert [float(row["soft_dice"]) for row in csv.DictReader(file)] == [1 / 3, 1 / 3]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["metrics"]["soft_dice"]["mean"] == 1 / 3


@pytest.mark.bad_input
def test_other_settings_are_refused_unless_overwritten(tmp_path):
    runner = partial(counting, scored=[])
    score_cohort(made_up(2), tmp_path, runner=runner)
    other = ScoreSettings(threshold=0.3)
    with pytest.raises(ValueError, match=r"got threshold 0\.5, now 0\.3: pass --overwrite"):
        score_cohort(made_up(2), tmp_path, other, runner=runner)
    again = score_cohort(made_up(2), tmp_path, other, runner=runner, overwrite=True)
    assert again.resumed == 0


@pytest.mark.bad_input
def test_results_of_others_and_inputs_are_never_written_over(tmp_path):
    (tmp_path / "cases.csv").write_text("case,pred,truth\n")
    with pytest.raises(FileExistsError, match="must not exist yet"):
        score_cohort(made_up(1), tmp_path)
    table = tmp_path / "cases.csv"
    with pytest.raises(ValueError, match="must not hold an input"):
        score_cohort(made_up(1), tmp_path, overwrite=True, inputs=[table])
    assert table.read_text() == "case,pred,truth\n"
    with pytest.raises(NotADirectoryError, match="must be a folder"):
        score_cohort(made_up(1), table)


@pytest.mark.bad_input
def test_two_runs_do_not_write_one_folder(tmp_path):
    pytest.importorskip("fcntl")
    with Journal(tmp_path, SETTINGS), pytest.raises(BlockingIOError, match="by another run"):
        Journal(tmp_path, SETTINGS)


@pytest.mark.bad_input
def test_another_file_is_no_journal(tmp_path):
    (tmp_path / JOURNAL).write_text('{"case": "a"}\n')
    with pytest.raises(ValueError, match="must begin as a journal"):
        Journal(tmp_path, SETTINGS)


@pytest.mark.bad_input
def test_cases_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="cases of different names"):
        score_cohort(made_up(1) * 2, tmp_path)
    with pytest.raises(ValueError, match="got 0 cases"):
        score_cohort([], tmp_path)
