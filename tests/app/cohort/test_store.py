"""The journal and the outputs: nothing finished is lost, nothing of others is written over."""

from __future__ import annotations

import csv
import errno
import json
import os
import time
from functools import partial
from pathlib import Path

import pytest

from softoverlap.app.cohort import (
    CaseResult,
    ScorePair,
    ScoreSettings,
    outputs,
    records,
    score_cohort,
    store,
)
from softoverlap.app.cohort.names import JOURNAL, OUTPUTS
from softoverlap.app.cohort.records import case_key
from softoverlap.app.cohort.stamps import file_stamps
from softoverlap.app.cohort.store import Journal
from softoverlap.images import write_table
from tests.support.cohort_makers import easy_score, made_up, pairs_of, write_cohort

SETTINGS = ScoreSettings()
KEYED = (ScorePair("a", Path("a.nii"), (Path("b.nii"),)), SETTINGS)


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
        assert journal.finished("case-1", "key-1") == result("case-1")
        assert journal.finished("case-1", "key-2") is None
        assert journal.finished("case-9", "key-1") is None


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_line_that_was_cut_off_costs_that_case_alone(tmp_path, cut):
    path = fill(tmp_path, 3)
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(tmp_path, SETTINGS) as journal:
        assert [journal.finished(f"case-{n}", f"key-{n}") is not None for n in range(3)] == [
            True, True, False,
        ]  # fmt: skip
        journal.append("key-2", result("case-2"))
    with Journal(tmp_path, SETTINGS) as journal:
        assert journal.finished("case-2", "key-2") == result("case-2")


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
        assert journal.finished("case-1", "key-1") is None
        assert journal.finished("case-2", "key-2") == result("case-2")


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
        assert journal.finished("case-0", "key-0") == result("case-0")
        assert journal.finished("case-1", "key-1") is None


def test_a_cohort_on_a_full_disk_goes_on_later(tmp_path, monkeypatch):
    scored = []
    runner, append = partial(counting, scored=scored), store.Journal.append

    def fails_after_five(journal, key, one, files):
        if len(scored) > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(journal, key, one, files)

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
    told = []
    score_cohort(made_up(2), tmp_path, runner=runner, report=told.append)
    (words,) = told
    assert "the journal keeps cases of earlier runs that are not in this one" in words
    assert "(2 in all)" in words
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
    with pytest.raises(ValueError, match=r"got threshold 0\.5, now 0\.3: pass `overwrite=True`"):
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


def predictions(folder, *, case="a"):
    """One case of two models, with different files of the same name."""
    for name in ("pred_one", "pred_two", "truth"):
        (folder / name).mkdir()
        (folder / name / f"{case}.nii").write_bytes(name.encode())
    truth = (folder / "truth" / f"{case}.nii",)
    return [[ScorePair(case, folder / one / f"{case}.nii", truth)] for one in
            ("pred_one", "pred_two")]  # fmt: skip


@pytest.mark.bad_input
def test_overwrite_waits_for_the_lock_and_harms_nothing(tmp_path):
    pytest.importorskip("fcntl")
    runner = partial(counting, scored=[])
    score_cohort(made_up(2), tmp_path, runner=runner)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with (
        Journal(tmp_path, SETTINGS) as journal,
        pytest.raises(BlockingIOError, match="by another run"),
    ):
        score_cohort(made_up(1), tmp_path, runner=runner, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert journal.path.stat().st_ino == (tmp_path / JOURNAL).stat().st_ino


def test_overwrite_keeps_the_lock_of_the_file_that_it_empties(tmp_path):
    pytest.importorskip("fcntl")
    fill(tmp_path, 3)
    with Journal(tmp_path, SETTINGS, overwrite=True) as journal:
        assert journal.finished("case-0", "key-0") is None
        journal.append("new", result("case-0"))
        with pytest.raises(BlockingIOError, match="by another run"):
            Journal(tmp_path, SETTINGS, overwrite=True)
    with Journal(tmp_path, SETTINGS) as journal:
        assert journal.finished("case-0", "new") == result("case-0")
        assert journal.finished("case-1", "key-1") is None


def test_overwrite_removes_nothing_before_the_runner_gives_a_case(tmp_path):
    def cannot_start(pairs, score, report):
        raise ConnectionError("no scheduler")
        yield

    score_cohort(made_up(2), tmp_path, runner=partial(counting, scored=[]))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConnectionError, match="no scheduler"):
        score_cohort(
            made_up(2), tmp_path, ScoreSettings(threshold=0.3), runner=cannot_start, overwrite=True
        )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.bad_input
def test_another_cohort_of_the_same_names_is_refused_unless_overwritten(tmp_path):
    one, two = predictions(tmp_path)
    runner, out = partial(counting, scored=[]), tmp_path / "out"
    score_cohort(one, out, runner=runner)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ValueError, match=r"got case a of .*pred_one.* now .*pred_two"):
        score_cohort(two, out, runner=runner)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert score_cohort(two, out, runner=runner, overwrite=True).resumed == 0
    two[0].pred.write_bytes(b"longer than before")
    assert score_cohort(two, out, runner=runner).resumed == 0
    assert score_cohort(two, out, runner=runner).resumed == 1


def test_a_case_that_failed_may_come_from_elsewhere(tmp_path):
    one, two = predictions(tmp_path)
    score_cohort(one, tmp_path / "out")
    found = score_cohort(two, tmp_path / "out", runner=partial(counting, scored=[]))
    assert not found.failed


def test_the_key_knows_a_file_of_the_same_size_and_time(tmp_path):
    path, other = tmp_path / "a.nii", tmp_path / "b.nii"
    pair = ScorePair("a", path, (path,))
    path.write_bytes(b"one")
    before, status = case_key(pair, SETTINGS), path.stat()
    assert case_key(pair, SETTINGS) == before
    time.sleep(0.05)  # coarse clocks
    other.write_bytes(b"two")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, path)
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert case_key(pair, SETTINGS) != before


@pytest.mark.parametrize(
    ("header", "line", "data"),
    [
        ("a.mhd", "ElementDataFile = a data.raw", "a data.raw"),
        ("a.mhd", "ElementDataFile = LIST\nx.raw\ny.raw", "y.raw"),
        ("a.mhd", "ElementDataFile = s%03d.raw 1 2 1", "s002.raw"),
        ("a.mhd", "ElementDataFile = s%03d.raw", "s001.raw"),
        ("a.nhdr", "data file: a.raw.gz", "a.raw.gz"),
        ("a.nhdr", "datafile: sub/a.raw", "sub/a.raw"),
        ("a.nhdr", "data file: LIST 2\nx.raw\ny.raw", "x.raw"),
    ],
)
def test_the_key_knows_data_apart_from_its_header(tmp_path, header, line, data):
    first = {"a.mhd": "ObjectType = Image", "a.nhdr": "NRRD0004"}[header]
    (tmp_path / header).write_text(f"{first}\n# a comment: = of none\n{line}\n")
    (tmp_path / data).parent.mkdir(exist_ok=True)
    (tmp_path / data).write_bytes(b"a")
    pair = ScorePair("a", tmp_path / header, (tmp_path / header,))
    before = case_key(pair, SETTINGS)
    assert case_key(pair, SETTINGS) == before
    (tmp_path / data).write_bytes(b"bb")
    changed = case_key(pair, SETTINGS)
    (tmp_path / data).unlink()
    assert len({before, changed, case_key(pair, SETTINGS)}) == 3


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_headers_as_simpleitk_writes_them_name_their_data(tmp_path, suffix):
    import SimpleITK

    path = tmp_path / f"a{suffix}"
    SimpleITK.WriteImage(SimpleITK.Image(4, 3, 2, SimpleITK.sitkUInt8), path)
    (apart,) = set(tmp_path.iterdir()) - {path}
    assert [name for name, *_ in file_stamps(path)] == [str(path), str(apart)]


@pytest.mark.parametrize(
    "text", ["", "no header", "ElementDataFile = LOCAL\n\0\0", "ElementDataFile =\n", "\n"]
)
def test_a_header_without_data_apart_is_a_file_alone(tmp_path, text):
    path = tmp_path / "a.mha"
    path.write_text(text)
    assert [name for name, *_ in file_stamps(path)] == [str(path)]


@pytest.mark.bad_input
def test_results_of_another_version_are_refused_unless_overwritten(tmp_path, monkeypatch):
    key = case_key(*KEYED)
    runner = partial(counting, scored=[])
    score_cohort(made_up(2), tmp_path, runner=runner)
    for module in (store, records):
        monkeypatch.setattr(module, "__version__", "99.0")
    assert case_key(*KEYED) != key
    with pytest.raises(
        ValueError, match=r"got softoverlap '.*', now '99\.0': pass .overwrite=True"
    ):
        score_cohort(made_up(2), tmp_path, runner=runner)
    assert score_cohort(made_up(2), tmp_path, runner=runner, overwrite=True).resumed == 0


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ([*store.CONTENTS, "surface_mm of cases.csv"], r"none for surface_mm of cases\.csv: pass"),
        (store.CONTENTS[1:], r"one that is gone, case of cases\.csv: pass"),
        (
            [*store.CONTENTS[:-1], "Brier(margin=9)"],
            r"none for Brier\(margin=9\), one that is gone",
        ),
    ],
)
def test_results_with_other_columns_are_refused_unless_overwritten(
    tmp_path, monkeypatch, contents, words
):
    runner = partial(counting, scored=[])
    score_cohort(made_up(2), tmp_path, runner=runner)
    before = (tmp_path / JOURNAL).read_bytes()
    monkeypatch.setattr(store, "CONTENTS", contents)
    with pytest.raises(ValueError, match=f"of the same columns and measures, got {words}"):
        score_cohort(made_up(2), tmp_path, runner=runner)
    assert (tmp_path / JOURNAL).read_bytes() == before
    assert score_cohort(made_up(2), tmp_path, runner=runner, overwrite=True).resumed == 0
    assert score_cohort(made_up(2), tmp_path, runner=runner).resumed == 2


def test_a_journal_says_which_columns_it_holds(tmp_path):
    header = json.loads(fill(tmp_path, 1).read_text().splitlines()[0])
    assert {"soft_dice of cases.csv", "outcome of boxes.csv"} <= set(header["contents"])
    assert any(line.startswith("Brier(") for line in header["contents"])


@pytest.mark.bad_input
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        b'{"id": 1}\n{"id": 2}',
        b'{"id": 1, "score": 0.5}',
        b"[]",
        b'{"format": "softoverlap-scores", "version": 2}\n',
        b"\n",
    ],
)
def test_a_file_of_others_is_left_as_it_is(tmp_path, text, overwrite):
    (tmp_path / JOURNAL).write_bytes(text)
    with pytest.raises(ValueError, match="must begin as a journal"):
        score_cohort(made_up(1), tmp_path, overwrite=overwrite)
    assert (tmp_path / JOURNAL).read_bytes() == text


def test_a_journal_is_not_cut_before_a_case_is_finished(tmp_path):
    path = fill(tmp_path, 2)
    path.write_bytes(path.read_bytes() + b'{"key": "half a li')
    before = path.read_bytes()
    with Journal(tmp_path, SETTINGS) as journal:
        assert journal.finished("case-1", "key-1") == result("case-1")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "line",
    [
        b'{"case": "case-1"}',
        b'{"key": "key-1", "files": [], "case": "case-1"}',
        b'{"key": "key-1", "files": [], "case": "case-1", "rows": [], "more": 1}',
        b'{"key": "key-1", "files": [], "case": "case-1", "rows": [1]}',
        b'{"key": "key-1", "files": 3, "case": "case-1", "rows": [{"case": "case-1"}]}',
        b'{"key": "key-1", "files": [], "case": ["case-1"], "rows": [{"case": "case-1"}]}',
    ],
)
def test_a_line_that_is_no_case_costs_that_case_alone(tmp_path, line):
    path = fill(tmp_path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + line + b"\n" + lines[3])
    with Journal(tmp_path, SETTINGS) as journal:
        assert journal.finished("case-1", "key-1") is None
        assert journal.finished("case-2", "key-2") == result("case-2")


def test_a_name_that_is_not_utf8_does_not_cost_the_tables(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    pairs = [*made_up(1), ScorePair(name, Path(f"{name}.nii"), (Path("b.nii"),))]
    for _ in range(2):
        score_cohort(pairs, tmp_path)  # all fail: there are no such files
        with (tmp_path / "cases.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [row["case"] for row in rows] == ["case-000", r"caf\udce9"]
        assert rows[1]["pred"] == str(Path(r"caf\udce9.nii").absolute())


def test_rows_tell_whole_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    score_cohort([ScorePair("a", Path("p.nii"), (Path("t.nii"),))], "results")
    with (tmp_path / "results" / "cases.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["pred"], row["truth"]) == (str(tmp_path / "p.nii"), str(tmp_path / "t.nii"))


def test_tables_of_two_runs_never_pass_for_one(tmp_path, monkeypatch):
    score_cohort(made_up(2), tmp_path, runner=easily)
    other = ScoreSettings(threshold=0.3)

    def breaks_off(pairs, score, report):
        yield easy_score(pairs[0])
        raise OSError(errno.EIO, "the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        score_cohort(made_up(2), tmp_path, other, runner=breaks_off, overwrite=True)
    assert (tmp_path / "cases.csv").exists()  # of the earlier run
    assert not (tmp_path / "summary.json").exists()
    score_cohort(made_up(2), tmp_path, other, runner=easily)

    def full(path, *_):
        if path.name == "lesions.csv":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_table(path, *_)

    monkeypatch.setattr(outputs, "write_table", full)
    with pytest.raises(OSError, match="No space"):
        score_cohort(made_up(3), tmp_path, other, runner=easily)
    assert not (tmp_path / "summary.json").exists()
    monkeypatch.undo()
    again = score_cohort(made_up(3), tmp_path, other, runner=easily)
    assert (again.resumed, (tmp_path / "summary.json").exists()) == (3, True)


def easily(pairs, score, report):
    """A runner that scores without files."""
    return (easy_score(pair) for pair in pairs)
